"""Quantize a GGUF file. Owns the types that edgegen offers and the space check; llama.cpp does the work."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import gguf

from convert.output import need, whole
from edgegen.engine import llama
from edgegen.engine.gguf import read_header
from edgegen.errors import EngineError, OptionError
from edgegen.hardware import usable_cores

TYPES = ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0")


def check_type(name: str) -> str:
    """The type's name in lower case. Raises OptionError for one that is not offered."""
    if name.lower() not in TYPES:
        raise OptionError(f"quantization must be one of {', '.join(TYPES)}, got {name!r}")
    return name.lower()


def quantize(source: Path, target: Path, type_name: str) -> Path:
    """Write an F32 or F16 GGUF as another type.

    Raises OptionError, NotFoundError, PackError, StorageError, EngineError.
    """
    kind = check_type(type_name)
    read_header(source)
    size = source.stat().st_size
    need(target.parent, size if kind == "f32" else size // 2 + (1 << 20))
    with whole(target) as part:
        try:
            llama.quantize(source, part, kind, threads=usable_cores())
        except EngineError:
            need(target.parent, 1 << 20)  # a full disk is its own error
            raise
        read_header(part)
    return target


def tensor_types(path: Path) -> dict[str, int]:
    """How many tensors have each type: llama.cpp falls back to a wider type where a row does not fit the one asked for."""
    return dict(Counter(tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors))
