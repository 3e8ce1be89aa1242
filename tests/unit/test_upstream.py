"""What `bench/upstream.py` stands on: files compared byte for byte, honest figures, clear words where something is missing."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from bench.reference import files, measure, source

ROOT = Path(__file__).parent.parent.parent
EMBEDDING = np.arange(64, dtype=np.float32).reshape(2, 32)


def _write(path: Path, tensors: Mapping[str, npt.NDArray[Any]], context: int = 8) -> Path:
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(context)
    writer.add_token_list(["a", "b" * context])
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_files_with_the_same_bytes_do_not_differ(tmp_path: Path) -> None:
    """The order of tensors is not a difference."""
    ours = _write(tmp_path / "a", {"x": EMBEDDING, "y": EMBEDDING[0]})
    theirs = _write(tmp_path / "b", {"y": EMBEDDING[0], "x": EMBEDDING})
    assert files.differences(ours, theirs) == ([], 2)
    assert files.said_otherwise(ours, theirs) == []


def test_every_difference_of_tensors_is_named(tmp_path: Path) -> None:
    """A byte, a type, a shape, a tensor that only one file has."""
    changed = EMBEDDING.copy()
    changed.view(np.uint8)[1, 5] ^= 1
    ours = {"byte": EMBEDDING, "type": EMBEDDING, "shape": EMBEDDING, "mine": EMBEDDING}
    theirs: dict[str, npt.NDArray[Any]] = {
        "byte": changed,
        "type": EMBEDDING.astype(np.float16),
        "shape": EMBEDDING[:1],
        "other": EMBEDDING,
    }
    found, count = files.differences(_write(tmp_path / "a", ours), _write(tmp_path / "b", theirs))
    assert count == 4
    assert found == [
        "byte: 1 of 256 bytes",
        "mine is missing in theirs",
        "other is missing in ours",
        "shape is 256 bytes of F32, theirs 128 bytes of F32",
        "type is 256 bytes of F32, theirs 128 bytes of F16",
    ]


def test_differences_of_the_metadata_are_named(tmp_path: Path) -> None:
    """A value that differs, a shape, and a list with the first entry that does."""
    ours = _write(tmp_path / "a", {"x": EMBEDDING})
    theirs = _write(tmp_path / "b", {"x": EMBEDDING.reshape(32, 2)}, context=2)
    assert files.said_otherwise(ours, theirs) == [
        "gpt2.context_length: 8 in ours, 2 in theirs",
        "shape of x: (32, 2) in ours, (2, 32) in theirs",
        "tokenizer.ggml.tokens: 2 and 2 entries, 1 of them differ, the first 'bbbbbbbb' in ours and 'bb' in theirs",
    ]


def test_a_child_is_charged_for_its_own_memory() -> None:
    """What this process holds is not counted; what the child touches is."""
    held = np.ones(64 << 20, np.uint8)
    small, large = (measure.must(sys.executable, "-I", "-S", "-c", code) for code in ("pass", "b'1' * (64 << 20)"))
    assert small.peak < 32 < held.nbytes >> 20
    assert large.peak > small.peak + 48
    assert small.seconds > 0


def test_a_command_that_fails_is_reported_with_its_last_words() -> None:
    """Exit status and message; `must` raises."""
    command = (sys.executable, "-c", "raise SystemExit('no such thing')")
    done = measure.run(*command)
    assert (done.code, done.last) == (1, "no such thing")
    with pytest.raises(RuntimeError, match="no such thing"):
        measure.must(*command)


def test_steps_add_up() -> None:
    """Times are added, the peak is the higher one; the median is each figure's own."""
    first, second = measure.Cost(1, 2, 30), measure.Cost(4, 5, 6)
    assert first + second == measure.Cost(5, 7, 30)
    assert measure.middle([first, second, measure.Cost(2, 9, 7)]) == measure.Cost(2, 5, 7)


@pytest.mark.parametrize(
    ("version", "message"),
    [("0.0.1", "is not the sdist of llama-cpp-python"), (None, "it has no vendor")],
)
def test_an_sdist_that_does_not_fit_is_refused(tmp_path: Path, version: str | None, message: str) -> None:
    """Another version, and a folder without llama.cpp."""
    installed = importlib.metadata.version(source.PACKAGE)
    (tmp_path / "PKG-INFO").write_text(f"Name: x\nVersion: {version or installed}\n\n", "utf-8")
    with pytest.raises(source.UnusableError, match=message):
        source.prepare(tmp_path / "work", tmp_path, 1)


def test_a_damaged_sdist_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """What is no archive is not half unpacked."""
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(b"no archive")
    with pytest.raises(source.UnusableError, match="cannot be unpacked"):
        source.prepare(tmp_path / "work", archive, 1)
    assert list((tmp_path / "work").iterdir()) == []


def test_the_script_says_what_is_missing(tmp_path: Path) -> None:
    """A path that is not there ends it with one line."""
    command = [sys.executable, "bench/upstream.py", "--work", str(tmp_path / "work"), "--sdist", str(tmp_path / "none.tar.gz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no sdist ")
