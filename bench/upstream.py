"""edgegen's conversion beside llama.cpp's own: the same bytes, time and memory, odd inputs, the same text.

    python bench/upstream.py [--work runs/upstream] [--sdist FILE_OR_FOLDER] [--rounds 3] [--only tensors,cost,inputs,text]

Builds `llama-quantize` and `llama-completion` from the sdist of the installed llama-cpp-python (once; some minutes), and runs
`convert_hf_to_gguf.py` from the same tree, as a user would. With --sdist, nothing is fetched. Every conversion runs in a process
of its own. Needs 3 GB of disk and the `train` extra. Exit code 1 where tensors or greedy texts are not the same.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference import checkpoints, children, files, importance, inputs, judge, measure, ours, source, texts
from reference.measure import Cost
from reference.source import Reference

HERE = Path(__file__).parent / "reference"
PARTS = ("tensors", "cost", "inputs", "text")
OUTTYPES = ("f32", "f16", "bf16", "q8_0")
"""Types that `convert_hf_to_gguf.py` writes itself."""
BAR = 0.7
COUNT = 32


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint that both sides convert; `known` where llama.cpp's converter knows its tokenizer's hash."""

    what: str
    folder: Path
    known: bool


SUBJECTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "gpt2": ("GPT-2 124M", checkpoints.GPT2_124M),
    "tiny": ("2 layers, width 256", checkpoints.TINY),
    "bundled": ("the bundled base", None),
}
"""Names for --checkpoints, what each is, and its sizes where its weights are random and its vocabulary GPT-2's."""


class Bench:
    """Conversions by both sides in one folder of temporary files."""

    def __init__(self, reference: Reference, work: Path, rounds: int, wanted: list[str]) -> None:
        self.reference, self.work, self.rounds, self.wanted = reference, work, rounds, wanted
        self.unlike = 0

    def subjects(self) -> Iterator[Subject]:
        """The checkpoints that are wanted, one on disk at a time."""
        for name in self.wanted:
            what, sizes = SUBJECTS[name]
            with self.folder() as folder:
                if sizes is None:
                    children.call(checkpoints.bundled, folder)
                else:
                    children.call(checkpoints.random, self.reference.vocabulary, folder, sizes, name == "gpt2")
                yield Subject(what, folder, sizes is not None)

    def ours(self, subject: Subject, out: Path, kind: str) -> Cost:
        """Convert with edgegen, without its comparison with PyTorch."""
        return measure.must(sys.executable, HERE / "ours.py", subject.folder, out, kind)

    def theirs(self, subject: Subject, out: Path, outtype: str) -> Cost:
        """Convert with llama.cpp's converter, its lookup of tokenizers patched where it does not know this one."""
        script = self.reference.script("convert_hf_to_gguf")
        start: tuple[str | Path, ...] = (script,) if subject.known else (HERE / "theirs.py", self.reference.tree)
        return measure.must(sys.executable, *start, subject.folder, "--outtype", outtype, "--outfile", out)

    def their_quantize(self, exact: Path, out: Path, kind: str, matrix: Path | None = None) -> Cost:
        """Quantize with llama.cpp's program."""
        with_matrix: tuple[str | Path, ...] = ("--imatrix", matrix) if matrix else ()
        return measure.must(self.reference.binary("llama-quantize"), *with_matrix, exact, out, kind.upper())

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for what is not needed afterwards."""
        with tempfile.TemporaryDirectory(dir=self.work, prefix=f"tmp-{os.getpid()}-") as name:
            yield Path(name)

    def tensors(self) -> None:
        """The table of types: whether both sides write the same bytes."""
        cells: dict[tuple[str, str], list[str]] = {}
        names, notes = list[str](), list[str]()
        for subject in self.subjects():
            names.append(subject.what)
            with self.folder() as folder:
                for row, cell, note in self.compared(subject, folder):
                    say(f"{subject.what}, {' by '.join(row)}: {cell}")
                    cells.setdefault(row, []).append(cell)
                    notes += [f"{subject.what}, {' by '.join(row)}: {text}" for text in note]
        print(f"\n| type | llama.cpp's way | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
        for (kind, way), row_cells in cells.items():
            print(f"| {kind} | {way} | {' | '.join(row_cells)} |")
        print("\nWhat differs:\n" + "\n".join(f"- {note}" for note in notes or ["nothing"]), flush=True)

    def compared(self, subject: Subject, folder: Path) -> Iterator[tuple[tuple[str, str], str, list[str]]]:
        """Row, cell and notes of each type and way."""
        from convert import quantize

        own, exact = folder / "ours.f32", folder / "theirs.f32"
        children.call(ours.convert, subject.folder, own, "f32")
        self.theirs(subject, exact, "f32")
        yield ("f32", "`--outtype`"), *self.cell(own, exact, files.said_otherwise(own, exact))
        matrix, same = folder / "importance.safetensors", folder / "importance.gguf"
        children.call(importance.measure, subject.folder, matrix, same)
        for kind in quantize.TYPES:
            if kind == "f32":
                continue
            made, other = folder / f"ours.{kind}", folder / f"theirs.{kind}"
            mine: tuple[Any, ...] = (quantize.quantize, own, made, kind)
            yield from self.both(kind, made, other, "`llama-quantize`", mine, (exact, other, kind))
            if kind in OUTTYPES:
                self.theirs(subject, other, kind)
                yield (kind, "`--outtype`"), *self.cell(made, other, [])
            if kind in quantize.CALIBRATED:
                mine = (importance.quantize, own, made, kind, matrix)
                yield from self.both(kind, made, other, "`llama-quantize --imatrix`", mine, (exact, other, kind, same))
            made.unlink(missing_ok=True)
            other.unlink(missing_ok=True)

    def both(
        self, kind: str, made: Path, other: Path, way: str, mine: tuple[Any, ...], theirs: tuple[Any, ...]
    ) -> Iterator[tuple[tuple[str, str], str, list[str]]]:
        """One type by both quantizers."""
        refused, too = attempt(children.call, *mine), attempt(self.their_quantize, *theirs)
        if refused and too:
            yield (kind, way), "refused by both", []
        elif refused or too:
            yield (kind, way), f"refused by {'us' if refused else 'llama.cpp'}", [refused or too]
        else:
            yield (kind, way), *self.cell(made, other, [])

    def cell(self, own: Path, theirs: Path, notes: list[str]) -> tuple[str, list[str]]:
        """How many tensors differ, and which."""
        found, count = files.differences(own, theirs)
        self.unlike += bool(found)
        shown = [*found[:4], *([f"... {len(found)} in all"] if len(found) > 4 else []), *notes]
        return (f"{len(found)} of {count} differ" if found else f"identical ({count})"), shown

    def cost(self) -> None:
        """The table of time and memory, and what imports cost."""
        found: dict[str, list[Cost]] = {}
        subject = next(subjects := self.subjects())  # its folder is there as long as `subjects` is
        for at in range(self.rounds):
            for what, cost in self.costs(subject):
                say(f"round {at + 1}, {what}: {cost.seconds:.1f} s, {cost.cpu:.1f} s of processor, {cost.peak:.0f} MiB")
                found.setdefault(what, []).append(cost)
        del subjects
        middle = {what: measure.middle(costs) for what, costs in found.items()}
        print(f"\n{subject.what}, median of {self.rounds}; ours / llama.cpp's, the bar is {BAR}\n")
        print("| from the checkpoint to | llama.cpp | edgegen | wall time | processor time | peak memory |")
        print("|---|---|---|---|---|---|")
        for what, (mine, other) in ROWS.items():
            print(f"| {what} | {figures(middle[other])} | {figures(middle[mine])} | {ratios(middle[mine], middle[other])} |")
        print("\n| a process that only imports | |\n|---|---|")
        for what in IMPORTS:
            print(f"| {what} | {figures(middle[what])} |")

    def costs(self, subject: Subject) -> Iterator[tuple[str, Cost]]:
        """One round: each way once, the sides in turn."""
        for what, code in IMPORTS.items():
            yield what, measure.must(sys.executable, "-c", code)
        with self.folder() as folder:
            exact, out = folder / "exact.gguf", folder / "out.gguf"
            yield "theirs f32", (converted := self.theirs(subject, exact, "f32"))
            yield "ours f32", self.ours(subject, out, "f32")
            out.unlink()
            for kind in ("q8_0", "q4_k_m"):
                yield f"theirs {kind}", converted + self.their_quantize(exact, out, kind)
                yield f"ours {kind}", self.ours(subject, out, kind)
            exact.unlink()
            yield "theirs q8_0 at once", self.theirs(subject, out, "q8_0")
            pack = ("-m", "edgegen", "convert", subject.folder, "--quant", "q8_0", "--out", folder / "pack")
            yield "ours q8_0 compared", measure.must(sys.executable, *pack)

    def inputs(self) -> None:
        """The table of odd inputs."""
        print("\n| input | llama.cpp's converter | edgegen |\n|---|---|---|")
        for what in inputs.CASES:
            with self.folder() as folder:
                place = folder / inputs.slug(what)
                place.mkdir()
                children.call(inputs.make, what, self.reference.vocabulary, place)
                print(f"| {what} | {self.their_outcome(place)} | {self.our_outcome(place)} |", flush=True)

    def their_outcome(self, place: Path) -> str:
        """What llama.cpp's converters make of an input, as they are."""
        base, adapter = place / inputs.BASE, place / inputs.ADAPTER
        file, lora = place / "theirs.gguf", place / "lora.gguf"
        steps: list[tuple[str, tuple[str | Path, ...]]] = [("convert_hf_to_gguf", (base, "--outfile", file))]
        if adapter.is_dir():
            steps.append(("convert_lora_to_gguf", (adapter, "--outfile", lora, "--base", base)))
        for script, arguments in steps:
            done = measure.run(sys.executable, self.reference.script(script), *arguments, "--outtype", "f32")
            if done.code:
                return f"stops: `{short(done.last)}`"
        both = (adapter, lora) if adapter.is_dir() else (None, None)
        return judged(base, both[0], file, both[1])

    def our_outcome(self, place: Path) -> str:
        """What edgegen makes of an input."""
        base, adapter, file = place / inputs.BASE, place / inputs.ADAPTER, place / "ours.gguf"
        merged = adapter if adapter.is_dir() else None
        refusal = children.call(judge.convert_ours, base, file, merged)
        return f"refuses: {short(refusal.split('. ')[0])}" if refusal else judged(base, merged, file, None)

    def text(self) -> None:
        """The table of greedy texts."""
        print("\n| checkpoint | type | prompts | edgegen = llama-completion | edgegen = PyTorch |\n|---|---|---|---|---|")
        for subject in self.subjects():
            prompts = list(texts.PLAIN) if subject.known else children.call(texts.pack_prompts, subject.folder)
            for kind in ("f32", "q8_0"):
                with self.folder() as folder:
                    file = folder / "model.gguf"
                    children.call(ours.convert, subject.folder, file, kind)
                    written = children.call(texts.write, subject.folder, file, prompts, COUNT)
                    stock = sum(self.completes(file, row) for row in written)
                same = sum(row.ours == row.torch for row in written)
                self.unlike += (stock < len(written)) + (kind == "f32" and same < len(written))
                print(f"| {subject.what} | {kind} | {len(written)} | {stock} | {same} |", flush=True)

    def completes(self, file: Path, row: texts.Written) -> bool:
        """Whether llama.cpp's program writes what edgegen wrote."""
        got = texts.completed(self.reference.binary("llama-completion"), file, row.prompt, COUNT)
        expected = row.text + (texts.END if row.ended else b"")
        if got.strip() != expected.strip():
            say(f"after {row.prompt!r}, edgegen wrote {expected!r} and llama-completion {got!r}")
        return got.strip() == expected.strip()


ROWS = {
    "F32": ("ours f32", "theirs f32"),
    "F32 to q8_0": ("ours q8_0", "theirs q8_0"),
    "F32 to q4_k_m": ("ours q4_k_m", "theirs q4_k_m"),
    "q8_0, llama.cpp's converter in one step": ("ours q8_0", "theirs q8_0 at once"),
    "F32 to q8_0, edgegen comparing both with PyTorch (`edgegen convert`)": ("ours q8_0 compared", "theirs q8_0"),
}
"""Rows of the table of costs: ours and theirs."""
IMPORTS = {
    "nothing": "pass",
    "what edgegen's conversion imports": "from convert import gpt2, quantize",
    "PyTorch and transformers, which the comparison needs": "import torch; from transformers import GPT2LMHeadModel",
}


def figures(cost: Cost) -> str:
    """A cell of costs."""
    return f"{cost.seconds:.1f} s, {cost.peak:.0f} MiB"


def ratios(mine: Cost, other: Cost) -> str:
    """Three cells of ratios, with the verdict on those that have a bar."""
    wall, cpu, peak = mine.seconds / other.seconds, mine.cpu / other.cpu, mine.peak / other.peak
    return f"{wall:.2f}{mark(wall)} | {cpu:.2f} | {peak:.2f}{mark(peak)}"


def mark(ratio: float) -> str:
    """Whether a ratio meets the bar."""
    return " (met)" if ratio <= BAR else " (not met)"


def judged(base: Path, adapter: Path | None, file: Path, lora: Path | None) -> str:
    """The verdict on a file, a crash included."""
    try:
        return children.call(judge.judge, base, adapter, file, lora)
    except children.DiedError as error:
        return f"writes a file that ends the process ({error})"
    except RuntimeError as error:
        return f"writes a file that cannot be judged: {short(str(error))}"


def attempt(action: Callable[..., object], *arguments: object) -> str:
    """Why an action failed; empty where it did not."""
    try:
        action(*arguments)
    except (RuntimeError, children.DiedError) as error:
        return str(error).splitlines()[-1]
    return ""


def short(text: str) -> str:
    """A message that fits a table's cell."""
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= 160 else f"{line[:157]}..."


def clean(work: Path) -> None:
    """Remove what runs left that were killed."""
    for left in work.glob("tmp-*"):
        try:
            os.kill(int(left.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Get the reference, print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="tables, with commas; default: %(default)s")
    parser.add_argument(
        "--checkpoints", default=",".join(SUBJECTS), help="with commas; default: %(default)s; costs are the first's"
    )
    args = parser.parse_args()
    if unknown := set(args.checkpoints.split(",")) - set(SUBJECTS):
        parser.error(f"unknown checkpoints {', '.join(sorted(unknown))}; known: {', '.join(SUBJECTS)}")
    if unknown := set(args.only.split(",")) - set(PARTS):
        parser.error(f"unknown tables {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        reference = source.prepare(args.work, args.sdist, args.jobs)
    except source.UnusableError as error:
        sys.exit(f"error: {error}")
    clean(args.work)
    bench = Bench(reference, args.work.absolute(), args.rounds, args.checkpoints.split(","))
    for part in args.only.split(","):
        getattr(bench, part)()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (source.PACKAGE, "transformers", "torch"))
    print(f"\n{versions}; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")
    sys.exit(bench.unlike > 0)


if __name__ == "__main__":
    main()
