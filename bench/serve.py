"""`edgegen serve` beside llama-server and llama-cpp-python's own servers: the same file, prompts and flags, in turn, in one run.

    python bench/serve.py [--only speed,busy,engine] [--models gpt2,bundled] [--clients 1,4,8,16] [--rounds 5] [--sides a,b]
                          [--work runs/upstream] [--sdist FILE_OR_FOLDER]

Builds `llama-server` and `llama-batched-bench` from the sdist of the installed llama-cpp-python (once; some minutes). Prompts are
token ids where a server takes them, else text with the same tokens; answers are streamed. A process of its own sends the load.
All servers of a table run at once, each on its own copy of the model, and are loaded one after the other; figures are medians of
rounds, ratios medians of the rounds' ratios. Exit code 1 where a bar is not met.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reference import checkpoints, children, ours, source
from reference.source import Reference
from served import batched, memory, prompts, servers
from served.figures import Figures, table
from served.servers import Running, Side

PARTS = ("speed", "busy", "engine")
SIDES = ("edgegen", "llama-server", "llama-server-drafting", "llama_cpp.server", "examples")
SLOTS = 16
CELLS = 4096
"""Tokens that all texts share, on both sides: 256 for each of 16."""
LOAD = Path(__file__).parent / "served" / "load.py"
PROBE = "import pathlib, sys; from edgegen import hardware; print(hardware.probe(pathlib.Path(sys.argv[1])).setting)"
PEERS = (
    "fastapi",
    "jinja2",
    "openai",
    "pydantic-settings",
    "PyYAML",
    "safetensors",
    "sse-starlette",
    "starlette-context",
    "websockets",
)
"""What llama-cpp-python's own servers need beside it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the work on it: prompts as token ids, sampling of all requests, requests for each client and round."""

    name: str
    what: str
    model: Path
    prompts: list[list[int]]
    sampling: Mapping[str, Any]
    each: int
    context: int


class Bench:
    """Servers and the load on them, in one folder of temporary files."""

    def __init__(self, reference: Reference, args: argparse.Namespace, folder: Path) -> None:
        self.reference, self.args, self.folder = reference, args, folder
        self.cores = len(os.sched_getaffinity(0))
        self.threads = args.threads or self.cores
        self.missed = 0
        self._pieces: dict[str, list[bytes]] = {}
        self._begun = 0
        self._settings: dict[str, str] = {}

    def subjects(self) -> Iterator[Subject]:
        """The models that are wanted."""
        for name in self.args.models:
            if name == "gpt2":
                model = gpt2(self.reference, self.args.work)
                sampling = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 64}
                found = prompts.made(model, "text", 1024)
                yield Subject(name, "GPT-2 124M Q4_K_M, random weights", model, found, sampling, 3, 1024)
            else:
                model = servers.ROOT / "models" / "bundled" / "model.gguf"
                found = prompts.made(model, "pack", 1024)
                yield Subject(
                    name, "the bundled pack, prompts of explanations", model, found, {"temperature": 0, "max_tokens": 96}, 20, 512
                )

    def sides(self, subject: Subject, names: Sequence[str], threads: int | None) -> Iterator[Side]:
        """The servers that are wanted, on a subject; each on a copy of its own, so that none shares another's pages."""
        binary = self.reference.binary("llama-server")
        for name in names:
            if name == "edgegen":
                side = servers.ours(subject.model, threads=threads, cells=CELLS)
                yield replace(side, env={**side.env, "EDGEGEN_CACHE": str(self.probed(subject))})
                continue
            model = self.folder / f"{subject.name}-{name}.gguf"
            if not model.exists():
                shutil.copyfile(subject.model, model)
            if name.startswith("llama-server"):
                drafting = ("--spec-type", "ngram-cache") if name.endswith("drafting") else ()
                yield servers.llama_server(
                    binary, model, threads=threads, slots=SLOTS, cells=CELLS, more=(*servers.safe(), *drafting)
                )
            elif name == "llama_cpp.server":
                yield servers.llama_cpp_python(model, peers(self.args.work), threads=threads, context=subject.context)
            else:
                script, config = self.reference.root / "examples" / "server" / "server.py", self.folder / f"{subject.name}.json"
                yield servers.llama_cpp_example(
                    script, model, peers(self.args.work), config, threads=threads, slots=SLOTS, context=subject.context
                )

    def probed(self, subject: Subject) -> Path:
        """A cache with the setting that `edgegen doctor --probe` finds for a model here; probed once."""
        cache = self.folder / "cache"
        if subject.name not in self._settings:
            env = {**os.environ, "PYTHONPATH": str(servers.ROOT), "EDGEGEN_CACHE": str(cache)}
            command = [sys.executable, "-c", PROBE, str(subject.model)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)  # noqa: S603 - our own code
            self._settings[subject.name] = done.stdout.strip()
            print(f"\nedgegen's probe on {subject.what}: {self._settings[subject.name]}")
        return cache

    @contextmanager
    def up(self, sides: Iterator[Side]) -> Iterator[list[Running]]:
        """Those servers that start; what does not is told."""
        with ExitStack() as stack:
            running = []
            for side in sides:
                try:
                    running.append(
                        stack.enter_context(servers.started(side, self.folder / f"{side.name.split()[0].replace('/', '-')}.log"))
                    )
                    say(f"{side.name}: {side.shown}")
                except servers.StartError as error:
                    print(f"\n{side.name} is left out: {error}")
            yield running

    def load(self, subject: Subject, running: Running, clients: int, at: int) -> Figures:
        """One run of the load on a server; `at` picks its prompts."""
        count = max(clients * subject.each, self.args.least)
        rows = [subject.prompts[(at + i) % len(subject.prompts)] for i in range(count)]
        asked: list[Any] = [self.texts(subject, row) for row in rows] if running.side.texts else rows
        common = {
            "model": "model",
            "stream": True,
            "stream_options": {"include_usage": True},
            **subject.sampling,
            **running.side.fields,
        }
        bodies = [{**common, "prompt": prompt, "seed": at + i} for i, prompt in enumerate(asked)]
        job = {"port": running.port, "path": "/v1/completions", "clients": clients, "bodies": bodies}
        with memory.watched(running.pid) as peak:
            done = subprocess.run([sys.executable, str(LOAD)], input=json.dumps(job), capture_output=True, text=True, check=True)  # noqa: S603 - our own file
        return Figures.of(json.loads(done.stdout), peak.pss, peak.rss, peak.cpu)

    def texts(self, subject: Subject, ids: list[int]) -> str:
        """A prompt as text, for servers that take nothing else."""
        if subject.name not in self._pieces:
            self._pieces[subject.name] = prompts.pieces(subject.model)
        return b"".join(self._pieces[subject.name][id_] for id_ in ids).decode("utf-8", "replace")

    def rounds(self, subject: Subject, running: list[Running], clients: int) -> dict[str, list[Figures]]:
        """Figures of each server, a round after another, the order turned each time."""
        found: dict[str, list[Figures]] = {one.side.name: [] for one in running}
        for at in range(-1, self.args.rounds):
            for one in running if at % 2 else running[::-1]:
                figures = self.load(subject, one, clients, self._begun)
                if at >= 0:
                    found[one.side.name].append(figures)
                    say(f"{subject.name}, {clients} clients, round {at + 1}, {one.side.name}: {figures}")
            self._begun += max(clients * subject.each, self.args.least)  # no prompt comes twice as long as they last
        return found

    def speed(self) -> None:
        """The tables of requests/s, tokens/s, times and memory."""
        for subject in self.subjects():
            with self.up(self.sides(subject, self.args.sides, self.threads)) as running:
                print(f"\n### {subject.what}, threads: {self.threads} each\n")
                for one in running:
                    print(
                        f"- {one.side.name}: `{one.side.shown}`; sampling {json.dumps({**subject.sampling, **one.side.fields})}"
                    )
                cells = {clients: self.rounds(subject, running, clients) for clients in self.args.clients}
                print(f"\n{table(cells)}\n")
                self.bars(subject, cells)

    def bars(self, subject: Subject, cells: Mapping[int, Mapping[str, list[Figures]]]) -> None:
        """What was aimed at, met or not."""
        latency, rate = (1.0, 1.0) if subject.name == "gpt2" else (0.67, 1.3)
        if 1 in cells:
            self.bar(f"{subject.name}: total time, 1 client, p50", cells[1], "total", latency, least=False)
        if 8 in cells:
            self.bar(f"{subject.name}: requests/s, 8 clients", cells[8], "requests", rate, least=True)
        for clients, found in cells.items():
            self.cheap(found, clients)
        self.bar(f"{subject.name}: peak PSS", cells[max(cells)], "pss", 1.2, least=False)

    def cheap(self, found: Mapping[str, list[Figures]], clients: int) -> None:
        """What does not depend on who else uses the machine."""
        if {"edgegen", "llama-server"} <= set(found):
            ratio = statistics.median(a.cpu / b.cpu for a, b in zip(found["edgegen"], found["llama-server"], strict=True))
            print(f"- processor time of a request, {clients} clients, ratio to llama-server: {ratio:.2f}", flush=True)

    def bar(self, what: str, found: Mapping[str, list[Figures]], field: str, limit: float, *, least: bool) -> None:
        """One ratio to llama-server with its bar."""
        if not {"edgegen", "llama-server"} <= set(found):
            return
        ratio = statistics.median(
            getattr(a, field) / getattr(b, field) for a, b in zip(found["edgegen"], found["llama-server"], strict=True)
        )
        met = ratio >= limit if least else ratio <= limit
        self.missed += not met
        print(
            f"- {what}, ratio to llama-server: {ratio:.2f}, bar {'>=' if least else '<='} {limit}: {'met' if met else 'NOT MET'}",
            flush=True,
        )

    def busy(self) -> None:
        """The same with other processes that keep a core busy each, llama-server at its default threads."""
        for subject in self.subjects():
            with self.up(self.sides(subject, ("edgegen", "llama-server"), None)) as running:
                for others, limit in ((1, 2.5), (2, 6.0)):
                    print(f"\n### {subject.what}, beside {others} busy process{'es' * (others > 1)}\n")
                    with burning(others):
                        few = replace(subject, each=max(1, subject.each // 3))
                        cells = {8: self.rounds(few, running, 8)}
                    print(f"{table(cells)}\n")
                    self.bar(f"{subject.name}: tokens/s beside {others} busy", cells[8], "tokens", limit, least=True)

    def engine(self) -> None:
        """The engine without HTTP beside llama-batched-bench, which does not sample."""
        for subject in self.subjects():
            found = batched.compare(
                self.reference.binary("llama-batched-bench"),
                subject.model,
                self.threads,
                self.args.rounds,
                servers.safe(),
                self.probed(subject),
            )
            print(f"\n### {subject.what}: the engine beside llama-batched-bench, threads: {self.threads}\n")
            print("| sequences | edgegen, tokens/s | llama-batched-bench | ratio |\n|---|---|---|---|")
            for n, (mine, other) in found.items():
                ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
                self.missed += ratio < batched.BAR
                met = "met" if ratio >= batched.BAR else "NOT MET"
                print(
                    f"| {n} | {statistics.median(mine):.0f} | {statistics.median(other):.0f} | {ratio:.2f} ({met}) |", flush=True
                )


@contextmanager
def burning(count: int) -> Iterator[None]:
    """So many processes that do nothing but use a core."""
    others = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


def gpt2(reference: Reference, work: Path) -> Path:
    """GPT-2 124M with random weights and its real vocabulary, as Q4_K_M; made once."""
    model = work.absolute() / "gpt2-random.q4_k_m.gguf"
    if not model.exists():
        say("making GPT-2 124M with random weights")
        with tempfile.TemporaryDirectory(dir=work) as name:
            part = Path(name) / "model.gguf"
            children.call(checkpoints.random, reference.vocabulary, Path(name), checkpoints.GPT2_124M, False)
            children.call(ours.convert, Path(name), part, "q4_k_m")
            part.rename(model)
    return model


def peers(work: Path) -> Path:
    """A folder with what llama-cpp-python's servers need, installed once; nothing of it gets into edgegen's environment."""
    site = work.absolute() / "peers"
    if not site.exists():
        say(f"installing {', '.join(PEERS)} into {site}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), *PEERS]
        subprocess.run(command, check=True)  # noqa: S603 - our own command
    return site


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def words(known: Sequence[str]) -> Any:
    """A type for options with commas."""

    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        return found

    return parse


def main() -> None:
    """Get the reference, print the tables asked for."""
    servers.stoppable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source.add_arguments(parser)
    parser.add_argument("--only", type=words(PARTS), default=list(PARTS))
    parser.add_argument("--models", type=words(("gpt2", "bundled")), default=["gpt2", "bundled"])
    parser.add_argument("--sides", type=words(SIDES), default=list(SIDES))
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of each server, but beside busy processes; default: the processors")
    parser.add_argument("--least", type=int, default=6, help="requests of a round at least; default: %(default)s")
    args = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        reference = source.prepare(args.work, args.sdist, args.jobs, source.SERVER)
    except source.UnusableError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        bench = Bench(reference, args, Path(name).absolute())
        for part in args.only:
            getattr(bench, part)()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (source.PACKAGE, "uvicorn", "starlette"))
    print(f"\n{versions}; {bench.cores} cores, load average {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")
    sys.exit(bench.missed > 0)


if __name__ == "__main__":
    main()
