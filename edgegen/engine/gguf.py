"""Reads the header of a GGUF file and checks that the file is whole, before native code sees it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. Knows no llama.cpp and reads no weights.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgegen.errors import NotFoundError, PackError

BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 41: (128, 18), 42: (64, 18),
}  # fmt: skip
"""Each tensor type's values in a block and bytes of a block, as in `enum ggml_type`."""
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST = 1_000_000  # more tensors or keys than any real file has
_DIMENSIONS = 4  # the most that ggml has
_ALIGNMENT, DEFAULT_ALIGNMENT = "general.alignment", 32

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's data stand, in bytes from where the model begins, and their type as in `enum ggml_type`."""

    kind: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself."""

    version: int
    meta: dict[str, Value]
    """Scalar metadata; arrays are left out."""
    lengths: dict[str, int]
    """The length of each metadata array."""
    tensors: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        """The model family, such as `gpt2`."""
        return str(self.meta.get("general.architecture", ""))

    @property
    def n_ctx_train(self) -> int:
        """Positions the model was trained with; 0 where the file does not say."""
        value = self.meta.get(f"{self.architecture}.context_length", 0)
        return value if isinstance(value, int) else 0


class _Misfit(ValueError):
    """The header contradicts itself or the size of the file."""


class _Reader:
    """Reads forward; positions count from where the model begins."""

    def __init__(self, data: mmap.mmap, start: int, size: int) -> None:
        self.data, self.start, self.size, self.at = data, start, size, 0

    def number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self.take(size))[0]

    def take(self, size: int) -> bytes:
        if size > self.size - self.at:
            raise _Misfit
        self.at += size
        end = self.start + self.at
        return self.data[end - size : end]

    def count(self) -> int:
        value: int = self.number("Q")
        if value > _MOST:
            raise _Misfit
        return value

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.text()
        result: Value = self.number(_FORMATS[kind])
        return result

    def array(self) -> int:
        kind, length = self.number("I"), self.number("Q")
        if kind == _ARRAY:
            raise _Misfit
        if kind != _STRING:
            self.take(length * struct.calcsize(_FORMATS[kind]))
            return int(length)
        for _ in range(length):
            self.take(self.number("Q"))
        return int(length)


def read_header(path: Path, start: int = 0, size: int | None = None) -> Header:
    """The header of a GGUF file, or of the `size` bytes from `start` on.

    Raises NotFoundError, and PackError for what is not a GGUF model, is cut off, or says sizes that do not fit.
    """
    if not path.is_file():
        raise NotFoundError(f"No model file at {path}. Check the path, or install a pack.")
    size = path.stat().st_size - start if size is None else size
    if size < 24:
        raise PackError(f"{path} is not a GGUF model: it has only {size} bytes. Copy the file again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic = data[start : start + 4]
        if magic != b"GGUF":
            raise PackError(f"{path} is not a GGUF model: it begins with {magic!r}. Convert the checkpoint first.")
        try:
            return _read(_Reader(data, start, size), path)
        except (_Misfit, KeyError) as error:
            raise PackError(f"{path} is damaged or cut off: its header does not fit its {size} bytes. Copy it again.") from error


def _read(reader: _Reader, path: Path) -> Header:
    reader.take(4)
    version: int = reader.number("I")
    if version not in (2, 3):
        raise PackError(f"{path} has GGUF version {version & 0xFFFF_FFFF}; versions 2 and 3 can be read. Convert it again.")
    n_tensors, n_keys = reader.count(), reader.count()
    meta: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(n_keys):
        key, kind = reader.text(), reader.number("I")
        if key in meta or key in lengths:
            raise _Misfit
        if kind == _ARRAY:
            lengths[key] = reader.array()
        else:
            meta[key] = reader.value(kind)
    return Header(version, meta, lengths, _tensors(reader, n_tensors, _alignment(meta)))


def _alignment(meta: dict[str, Value]) -> int:
    value = meta.get(_ALIGNMENT, DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or value < 1 or value & (value - 1):
        raise _Misfit
    return value


def _tensors(reader: _Reader, n_tensors: int, alignment: int) -> dict[str, Tensor]:
    """Tensors stand one after another, each padded to the alignment, and nothing but padding follows the last."""
    found: dict[str, Tensor] = {}
    end = padded = 0
    for _ in range(n_tensors):
        name = reader.text()
        kind, size = _tensor_size(reader)
        offset = reader.number("Q")
        if offset != padded:
            raise _Misfit
        found[name] = Tensor(kind, offset, size)
        end = offset + size
        padded = pad(end, alignment)
    start = pad(reader.at, alignment)
    if len(found) != n_tensors or not 0 <= reader.size - start - end < alignment:
        raise _Misfit
    return {name: Tensor(tensor.kind, start + tensor.offset, tensor.size) for name, tensor in found.items()}


def _tensor_size(reader: _Reader) -> tuple[int, int]:
    """A tensor's type and the bytes of its data: its dimensions, whole blocks in each row."""
    n_dimensions: int = reader.number("I")
    if n_dimensions > _DIMENSIONS:
        raise _Misfit
    dimensions = [int(reader.number("Q")) for _ in range(n_dimensions)]
    kind: int = reader.number("I")
    values, size = BLOCKS[kind]
    if not dimensions or min(dimensions) < 1 or dimensions[0] % values:
        raise _Misfit
    return kind, prod(dimensions) // values * size


def pad(size: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """A size with what is added so that the next tensor begins at a multiple of the alignment."""
    return -(-size // alignment) * alignment
