"""Tampers with a signed pack in thousands of ways and counts what is refused: bits, GGUF headers, manifests.

    python bench/tamper.py [--flips 10000] [--mutations 500] [--seed 7]

Works on a signed copy of the bundled pack, in temporary folders with keys of their own. "Signed anew" rows are changed by
somebody who holds the trusted key, so that the signature and the SHA-256s are right and only the checks behind them stand.
Exit code 1 where something was accepted that is not what was signed, left something behind, or raised an unexpected error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from edgegen import folders, pack
from edgegen.engine import gguf
from edgegen.errors import EdgegenError
from edgegen.pack import archive, building, loading, signing, source, trust
from edgegen.pack.installed import Installed

SIZES = ("context_length", "embedding_length", "block_count", "feed_forward_length")
TYPE_SIZES = {kind: size / values for kind, (values, size) in gguf.BLOCKS.items()}


class Bench:
    """A signed pack in both forms, and a row for each way to tamper with it."""

    def __init__(self, work: Path, seed: int) -> None:
        """Make the keys and the packs."""
        self.rng = Random(seed)
        signing.generate(work / "signer")
        self.key = work / "signer.key"
        trust.add(folders.data() / "trust", work / "signer.pub")
        made = pack.load(pack.bundled())
        self.file = building.build(made, work / "pack.egpack", key=self.key)
        self.folder = building.build(made, work / "pack", key=self.key)
        self.manifest, self.signature = ((self.folder / name).read_bytes() for name in (pack.MANIFEST, pack.SIGNATURE))
        self.model = self.folder / pack.MODEL
        self.failures = 0

    def row(self, what: str, use: Callable[[], object], changes: Iterator[None], *, counts: bool = True) -> None:
        """Use the pack after each change; a change is undone when the next one is asked for."""
        found: Counter[str] = Counter()
        began = time.perf_counter()
        for _ in changes:
            outcome = _outcome(what, use)
            found[outcome] += 1
            left = list((folders.data() / "packs").glob("*"))
            found["left behind"] += bool(left) and outcome != "accepted"
            for path in left:
                shutil.rmtree(path)
        refused = found["refused"] + found["by the trial"]
        bad = found["unexpected"] + found["left behind"] + counts * found["accepted"]
        self.failures += bad
        cells = [sum(found.values()) - found["left behind"], refused, found["by the trial"], found["accepted"]]
        cells += [found["unexpected"], found["left behind"], f"{time.perf_counter() - began:.0f} s"]
        print(f"| {what} | {' | '.join(map(str, cells))} |", flush=True)

    def flips(self, path: Path, places: list[int]) -> Iterator[None]:
        """One bit of a file at a time."""
        for at in places:
            bit = 1 << self.rng.randrange(8)
            with path.open("r+b", buffering=0) as file:
                byte = os.pread(file.fileno(), 1, at)[0]
                os.pwrite(file.fileno(), bytes([byte ^ bit]), at)
                yield
                os.pwrite(file.fileno(), bytes([byte]), at)

    def small_parts(self) -> list[int]:
        """Every byte of the file that is not the model's: manifest, signature, Modelfile, headers, padding, end."""
        model = archive.index(self.file)[pack.MODEL]
        return [*range(model.start), *range(model.start + model.size, self.file.stat().st_size)]

    def edits(self, edits: list[tuple[int, bytes]], *, signed: bool) -> Iterator[None]:
        """Other bytes in the model, one edit at a time."""
        for at, data in edits:
            with self.model.open("r+b", buffering=0) as file:
                before = os.pread(file.fileno(), len(data), at)
                os.pwrite(file.fileno(), data, at)
                if signed:
                    self.sign_anew()
                yield
                os.pwrite(file.fileno(), before, at)
        self.restore()

    def manifests(self, texts: list[bytes], *, signed: bool) -> Iterator[None]:
        """Other manifests, one at a time."""
        for text in texts:
            (self.folder / pack.MANIFEST).write_bytes(text)
            if signed:
                (self.folder / pack.SIGNATURE).write_bytes(signing.sign(text, self.key))
            yield
        self.restore()

    def sign_anew(self) -> None:
        """List the model as it is now, and sign that."""
        raw = json.loads(self.manifest)
        raw["files"][pack.MODEL]["sha256"] = pack.describe(self.folder, [pack.MODEL])[pack.MODEL].sha256
        text = json.dumps(raw).encode()
        (self.folder / pack.MANIFEST).write_bytes(text)
        (self.folder / pack.SIGNATURE).write_bytes(signing.sign(text, self.key))

    def restore(self) -> None:
        """The manifest and signature as they were."""
        (self.folder / pack.MANIFEST).write_bytes(self.manifest)
        (self.folder / pack.SIGNATURE).write_bytes(self.signature)


class Recorder(gguf._Reader):
    """Remembers where each number of a header stands."""

    def number(self, code: str) -> Any:
        """Read a number, and note its place."""
        at = self.at
        value = super().number(code)
        self.__dict__.setdefault("numbers", []).append((at, code, value))
        return value


def header(path: Path) -> tuple[int, list[tuple[int, str, Any]], int]:
    """Bytes of a model's header, its numbers, and how many of them describe tensors."""
    data = path.read_bytes()
    reader = Recorder(data, 0, len(data))  # type: ignore[arg-type]
    found = gguf._read(reader, path)
    numbers = reader.__dict__["numbers"]
    first = next(i for i in range(len(numbers) - 1, 0, -1) if numbers[i][1] not in "QI")
    return reader.at, numbers, min(len(numbers) - first - 1, 7 * len(found.tensors))


def noise(path: Path, number: int, rng: Random) -> list[tuple[int, bytes]]:
    """Other bytes, one to four, at random places of a header."""
    data, made = path.read_bytes()[: header(path)[0]], []
    for _ in range(number):
        size = rng.choice((1, 2, 4))
        at = rng.randrange(len(data) - size)
        made.append((at, bytes(byte ^ rng.randrange(1, 256) for byte in data[at : at + size])))
    return made


def lies(path: Path, number: int, rng: Random) -> list[tuple[int, bytes]]:
    """Other counts, lengths, dimensions, offsets, types and sizes in a header."""
    _, numbers, tensors = header(path)
    of_tensors = numbers[-tensors:]
    lengths = [n for n in numbers if n[1] == "Q"]
    data, sizes = path.read_bytes(), []
    for name in SIZES:
        at = data.index(f"gpt2.{name}".encode()) + len(f"gpt2.{name}") + 4
        sizes.append((at, "I", struct.unpack_from("<I", data, at)[0]))
    made: list[tuple[int, bytes]] = []
    while len(made) < number:
        at, code, value = rng.choice(rng.choice((of_tensors, lengths, numbers[1:3], sizes)))
        top = (1 << 8 * struct.calcsize(code)) - 1
        other = rng.choice((value + 1, value - 1, value * 2, 0, top, 1 << 31, rng.randint(0, top))) & top
        same_size = code == "I" and (at, code, value) in of_tensors and TYPE_SIZES.get(other) == TYPE_SIZES.get(value)
        if other != value and not same_size:  # F16 as BF16 is another value, and no lie about sizes
            made.append((at, struct.pack("<" + code, other)))
    return made


def malformed(text: bytes, number: int, rng: Random) -> list[bytes]:
    """Manifests that say something else or nothing at all."""
    return [rng.choice((spoiled, spoiled, torn))(text, rng) for _ in range(number)]


def torn(text: bytes, rng: Random) -> bytes:
    """A text that is no manifest."""
    return rng.choice((
        text[: rng.randrange(len(text) - 2)], b"[" * rng.choice((10, 100_000)), b"", b"null", b"[]",
        text.replace(b"{", b'{"name": "x", ', 1), text.replace(b'"provenance": {', b'"provenance": {"x": NaN, '),
        text.replace(b"Apache", b"\xff"), text.replace(b"Apache", b"\\ud800"),
    ))  # fmt: skip


def spoiled(text: bytes, rng: Random) -> bytes:
    """A manifest with one thing wrong."""
    raw = json.loads(text)
    keys, files = list(raw), raw["files"]
    entry = files[pack.MODEL]
    path = rng.choice(("../x", "/x", "..", "a/b", "", ".x", "a\\b", "x\n", "x" * 200))
    other = rng.choice((None, True, 1.5, -1, "", [], [1]))
    digit = rng.choice([c for c in "0123456789abcdef" if c != entry["sha256"][0]])
    changes: list[Callable[[], object]] = [
        lambda: raw.pop(rng.choice(keys)),
        lambda: raw.update({rng.choice(keys): other}),
        lambda: raw.update({rng.choice(("format", "prompt_format")): rng.choice((0, -1, 9, 10**30, "1", True))}),
        lambda: files.update({path: entry}),
        lambda: files.update({"absent.bin": entry}),
        lambda: entry.update(sha256=digit + entry["sha256"][1:]),
        lambda: entry.update(size=entry["size"] + rng.choice((-1, 1, -entry["size"], 1 << 40))),
        lambda: entry.pop(rng.choice(("size", "sha256"))),
        lambda: raw.update({rng.choice(("name", "version")): rng.choice(("../x", "a b", "名", "x" * 65, "a/b", "\x1b[2J"))}),
        lambda: raw.update(architecture="llama"),
        lambda: files.pop(pack.MODEL),
    ]
    rng.choice(changes)()
    return json.dumps(raw).encode()


def _outcome(what: str, use: Callable[[], object]) -> str:
    try:
        use()
    except EdgegenError as error:
        return "by the trial" if "failed its trial" in str(error) else "refused"
    except Exception as error:  # noqa: BLE001 - what is counted here
        print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr)
        return "unexpected"
    return "accepted"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        os.environ |= {"EDGEGEN_HOME": f"{work}/home", "EDGEGEN_CACHE": f"{work}/cache"}
        bench = Bench(Path(work), args.seed)
        rng, part = bench.rng, args.mutations // 10
        print("| what is changed | tried | refused | of them by the trial | accepted | unexpected errors | left behind | time |")
        print("|---|---|---|---|---|---|---|---|")
        check = lambda path: lambda: loading.verify(source.read(path))  # noqa: E731
        install = lambda: Installed().install(bench.folder)  # noqa: E731
        size = bench.file.stat().st_size
        anywhere = [rng.randrange(size) for _ in range(args.flips * 4 // 10)]
        small = rng.choices(bench.small_parts(), k=args.flips * 4 // 10)
        bench.row("one file, a bit anywhere", check(bench.file), bench.flips(bench.file, anywhere))
        bench.row("one file, a bit outside the model", check(bench.file), bench.flips(bench.file, small))
        for name in (pack.MANIFEST, pack.SIGNATURE, "Modelfile", pack.MODEL):
            path = bench.folder / name
            places = [rng.randrange(path.stat().st_size) for _ in range(args.flips // 20)]
            bench.row(f"folder, a bit of {name}", check(bench.folder), bench.flips(path, places))
        bench.row("GGUF header, random bytes", install, bench.edits(noise(bench.model, 3 * part, rng), signed=False))
        bench.row("GGUF header, false sizes, signed anew", install, bench.edits(lies(bench.model, 3 * part, rng), signed=True))
        broken = malformed(bench.manifest, 8 * part, rng)
        bench.row("manifest, malformed", install, bench.manifests(broken[: 2 * part], signed=False))
        bench.row("manifest, malformed, signed anew", install, bench.manifests(broken[2 * part : 4 * part], signed=True))
        what = "for comparison: GGUF header, random bytes, signed anew"
        bench.row(what, install, bench.edits(noise(bench.model, part, rng), signed=True), counts=False)
        bench.row("for comparison: unchanged", check(bench.file), iter([None]), counts=False)
    sys.exit(bench.failures > 0)


if __name__ == "__main__":
    main()
