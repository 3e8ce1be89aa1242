"""Compares two GGUF files tensor by tensor: names, types, bytes; and what they say of the model and its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

_PREFIXES = ("gpt2.", "tokenizer.")


def differences(ours: Path, theirs: Path) -> tuple[list[str], int]:
    """What differs between the tensors of two files, nothing where every byte is the same; and how many theirs has."""
    mine, other = ({tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    found = [f"{name} is missing in ours" for name in other if name not in mine]
    found += [f"{name} is missing in theirs" for name in mine if name not in other]
    for name in mine.keys() & other.keys():
        a, b = mine[name], other[name]
        if (a.tensor_type, list(a.shape)) != (b.tensor_type, list(b.shape)):
            found.append(f"{name} is {_kind(a)}, theirs {_kind(b)}")
        elif not np.array_equal(a.data.view(np.uint8), b.data.view(np.uint8)):
            changed = int((a.data.view(np.uint8) != b.data.view(np.uint8)).sum())
            found.append(f"{name}: {changed} of {a.n_bytes} bytes")
    return sorted(found), len(other)


def said_otherwise(ours: Path, theirs: Path) -> list[str]:
    """Metadata of the model and its tokenizer that only one file has, or that differ."""
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
    fields = gguf.GGUFReader(path).fields.items()
    return {key: field.contents() for key, field in fields if key.startswith(_PREFIXES)}


def _kind(tensor: gguf.ReaderTensor) -> str:
    return f"{tensor.tensor_type.name} {list(map(int, tensor.shape))}"
