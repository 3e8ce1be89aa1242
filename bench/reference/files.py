"""Compares two GGUF files tensor by tensor: names, types, bytes; and shapes and what they say of the model and its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
import numpy.typing as npt

from edgegen.engine.gguf import Tensor, read_header

_PREFIXES = ("gpt2.", "tokenizer.")


def differences(ours: Path, theirs: Path) -> tuple[list[str], int]:
    """What differs between the tensors of two files, nothing where every byte is the same; and how many theirs has.

    Read with edgegen's reader, because the gguf package does not know every type that llama.cpp writes.
    """
    mine, other = (read_header(path).tensors for path in (ours, theirs))
    found = [f"{name} is missing in ours" for name in other if name not in mine]
    found += [f"{name} is missing in theirs" for name in mine if name not in other]
    with ours.open("rb") as first, theirs.open("rb") as second:
        for name in mine.keys() & other.keys():
            a, b = mine[name], other[name]
            if (a.kind, a.size) != (b.kind, b.size):
                found.append(f"{name} is {_kind(a)}, theirs {_kind(b)}")
            elif changed := int((_bytes(first, a) != _bytes(second, b)).sum()):
                found.append(f"{name}: {changed} of {a.size} bytes")
    return sorted(found), len(other)


def _bytes(file: BinaryIO, tensor: Tensor) -> npt.NDArray[np.uint8]:
    file.seek(tensor.offset)
    return np.frombuffer(file.read(tensor.size), np.uint8)


def _kind(tensor: Tensor) -> str:
    known = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    return f"{tensor.size} bytes of {known.get(tensor.kind, tensor.kind)}"


def said_otherwise(ours: Path, theirs: Path) -> list[str]:
    """Shapes, and metadata of the model and its tokenizer, that only one file has or that differ."""
    mine, other = _metadata(ours), _metadata(theirs)
    found = [f"{key} only in ours" for key in mine.keys() - other.keys()]
    found += [f"{key} only in theirs" for key in other.keys() - mine.keys()]
    return sorted(found + [_between(key, mine[key], other[key]) for key in mine.keys() & other.keys() if mine[key] != other[key]])


def _between(key: str, mine: Any, other: Any) -> str:
    if not isinstance(mine, list):
        return f"{key}: {mine} in ours, {other} in theirs"
    pairs = [(a, b) for a, b in zip(mine, other, strict=False) if a != b]
    first = f", the first {pairs[0][0]!r} in ours and {pairs[0][1]!r} in theirs" if pairs else ""
    return f"{key}: {len(mine)} and {len(other)} entries, {len(pairs)} of them differ{first}"


def _metadata(path: Path) -> dict[str, Any]:
    reader = gguf.GGUFReader(path)
    shapes = {f"shape of {tensor.name}": tuple(map(int, tensor.shape)) for tensor in reader.tensors}
    return shapes | {key: field.contents() for key, field in reader.fields.items() if key.startswith(_PREFIXES)}
