"""Reads the header of a GGUF file and checks that the file is whole, before native code sees it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. Knows no llama.cpp and reads no weights.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgegen.errors import NotFoundError, PackError

_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST = 1_000_000  # more tensors, keys or dimensions than any real file has
_DEFAULT_ALIGNMENT = 32

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself."""

    version: int
    meta: dict[str, Value]
    """Scalar metadata; arrays are left out."""
    lengths: dict[str, int]
    """The length of each metadata array."""
    tensors: int

    @property
    def architecture(self) -> str:
        """The model family, such as `gpt2`."""
        return str(self.meta.get("general.architecture", ""))

    @property
    def n_ctx_train(self) -> int:
        """Positions the model was trained with; 0 where the file does not say."""
        return int(self.meta.get(f"{self.architecture}.context_length", 0))


class _Short(ValueError):
    """The header runs past the end of the file."""


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self.take(size))[0]

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise _Short
        self.at += size
        return self.data[self.at - size : self.at]

    def count(self) -> int:
        value: int = self.number("Q")
        if value > _MOST:
            raise _Short
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
            raise _Short
        if kind != _STRING:
            self.take(length * struct.calcsize(_FORMATS[kind]))
            return int(length)
        for _ in range(length):
            self.take(self.number("Q"))
        return int(length)


def read_header(path: Path) -> Header:
    """The header of a GGUF file. Raises NotFoundError, and PackError for a file that is not one or is cut off."""
    if not path.is_file():
        raise NotFoundError(f"No model file at {path}. Check the path, or install a pack.")
    size = path.stat().st_size
    if size < 24:
        raise PackError(f"{path} is not a GGUF model: it has only {size} bytes. Copy the file again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise PackError(f"{path} is not a GGUF model: it begins with {data[:4]!r}. Convert the checkpoint first.")
        try:
            return _read(_Reader(data), path)
        except (_Short, KeyError) as error:
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
        if kind == _ARRAY:
            lengths[key] = reader.array()
        else:
            meta[key] = reader.value(kind)
    _check_tensors(reader, n_tensors, int(meta.get("general.alignment", _DEFAULT_ALIGNMENT)))
    return Header(version, meta, lengths, n_tensors)


def _check_tensors(reader: _Reader, n_tensors: int, alignment: int) -> None:
    """Every tensor must begin inside the file; llama.cpp itself checks where each ends."""
    last = 0
    for _ in range(n_tensors):
        reader.text()
        dimensions: int = reader.number("I")
        if dimensions > 4:
            raise _Short
        reader.take(8 * dimensions + 4)
        last = max(last, reader.number("Q"))
    start = -(-reader.at // max(1, alignment)) * alignment
    if start + last >= len(reader.data):
        raise _Short
