"""The GGUF header: what does not fit its file is refused before native code sees it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from edgegen.engine import gguf
from edgegen.errors import PackError
from tests.fakes.tiny_gguf import write_tiny_gguf

U32, U64, F32, STRING, ARRAY = 4, 10, 6, 8, 9


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, kind: int, data: bytes) -> bytes:
    """A key and its value."""
    return text(key) + struct.pack("<I", kind) + data


def tensor(name: str, dimensions: tuple[int, ...], kind: int, offset: int) -> bytes:
    """A tensor's description."""
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


NAMED = pair("general.architecture", STRING, text("gpt2"))


def model(
    pairs: list[bytes], tensors: list[bytes], data: int, counts: tuple[int, int] | None = None, alignment: int = 32
) -> bytes:
    """A GGUF file with so many bytes of data."""
    n_tensors, n_pairs = counts or (len(tensors), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_pairs) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + bytes(data)


A, B = tensor("a", (32, 2), 8, 0), tensor("b", (3,), 0, 96)  # Q8_0: 34 bytes a block; 68 are padded to 96

FITS = [
    model([NAMED], [A, B], 96 + 12),
    model([NAMED], [A, B], 96 + 32),  # padded at the end
    model([NAMED], [], 0),
    model([NAMED, pair("general.alignment", U32, struct.pack("<I", 8))], [A, tensor("b", (3,), 0, 72)], 84, alignment=8),
    model([NAMED, pair("x", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("b"))], [A], 68),
]


@pytest.mark.parametrize("data", FITS)
def test_headers_that_fit(data: bytes, tmp_path: Path) -> None:
    """Padding, alignment and arrays are read as the format says."""
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    assert gguf.read_header(path).architecture == "gpt2"
    path.write_bytes(b"before" + data + b"after")
    assert gguf.read_header(path, 6, len(data)).tensors == gguf.read_header(path, 6, len(data)).tensors


LIES = {
    "a tensor ends after the file": model([NAMED], [A, B], 96 + 11),
    "something follows the last tensor": model([NAMED], [A, B], 96 + 44),
    "more tensors than there are": model([NAMED], [A, B], 108, counts=(3, 1)),
    "fewer tensors than there are": model([NAMED], [A, B], 108, counts=(1, 1)),
    "fewer keys than there are": model([NAMED, pair("x", U32, bytes(4))], [A, B], 108, counts=(2, 1)),
    "a number of tensors that overflows": model([NAMED], [A, B], 108, counts=(1 << 63, 1)),
    "tensors overlap": model([NAMED], [A, tensor("b", (3,), 0, 64)], 108),
    "a gap between tensors": model([NAMED], [A, tensor("b", (3,), 0, 128)], 140),
    "a size that overflows": model([NAMED], [tensor("a", (1 << 62, 4), 0, 0)], 0),
    "a dimension of nothing": model([NAMED], [tensor("a", (32, 0), 8, 0)], 0),
    "no dimension": model([NAMED], [tensor("a", (), 0, 0)], 4),
    "five dimensions": model([NAMED], [tensor("a", (1, 1, 1, 1, 1), 0, 0)], 4),
    "half a block": model([NAMED], [tensor("a", (16, 4), 8, 0)], 68),
    "an unknown type": model([NAMED], [tensor("a", (32,), 4, 0)], 32),
    "two tensors of one name": model([NAMED], [A, tensor("a", (3,), 0, 96)], 108),
    "two keys of one name": model([NAMED, NAMED], [A, B], 108),
    "an alignment of zero": model([NAMED, pair("general.alignment", U32, bytes(4))], [A], 68),
    "an alignment of three": model([NAMED, pair("general.alignment", U32, struct.pack("<I", 3))], [A], 68),
    "an alignment in words": model([NAMED, pair("general.alignment", STRING, text("wide"))], [A], 68),
    "an alignment without end": model([NAMED, pair("general.alignment", F32, struct.pack("<f", float("inf")))], [A], 68),
    "a text longer than the file": model([pair("x", STRING, struct.pack("<Q", 1 << 40))], [A], 68),
    "an array longer than the file": model([pair("x", ARRAY, struct.pack("<IQ", U64, 1 << 61))], [A], 68),
    "an array of arrays": model([pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1))], [A], 68),
    "an unknown kind of value": model([pair("x", 13, bytes(8))], [A], 68),
}


@pytest.mark.parametrize("what", LIES)
def test_headers_that_lie(what: str, tmp_path: Path) -> None:
    """Each is one clear error."""
    path = tmp_path / "a.gguf"
    path.write_bytes(LIES[what])
    with pytest.raises(PackError, match="its header does not fit its"):
        gguf.read_header(path)


def test_a_context_length_in_words(tmp_path: Path) -> None:
    """What is no number is no length."""
    path = tmp_path / "a.gguf"
    path.write_bytes(model([NAMED, pair("gpt2.context_length", STRING, text("long"))], [A], 68))
    assert gguf.read_header(path).n_ctx_train == 0


CUTS: list[Callable[[int], int]] = [lambda size: size - 1, lambda size: size // 2, lambda size: 100, lambda size: 24]


@pytest.mark.parametrize("cut", CUTS)
def test_real_models_that_are_cut_off(cut: Callable[[int], int], tmp_path: Path) -> None:
    """The last byte counts."""
    path = write_tiny_gguf(tmp_path / "a.gguf")
    data = path.read_bytes()
    path.write_bytes(data[: cut(len(data))])
    with pytest.raises(PackError, match="its header does not fit its"):
        gguf.read_header(path)
