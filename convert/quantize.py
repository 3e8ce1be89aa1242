"""Quantize a GGUF file. Owns the types that edgegen offers, what each may lose, and the space check; llama.cpp does the work.

Bounds and gains by the importance matrix were measured on the bundled base: docs/convert.md has the table.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf

from convert.output import need, whole
from edgegen.engine import quantizing
from edgegen.engine.gguf import BLOCKS, pad, read_header
from edgegen.engine.quantizing import Importance
from edgegen.errors import EngineError, OptionError
from edgegen.hardware import usable_cores

BOUNDS = {
    "f32": 0.001, "f16": 0.001, "bf16": 0.001, "q8_0": 0.005, "q6_k": 0.015,
    "q5_k_m": 0.03, "q5_k_s": 0.03, "q5_1": 0.03, "q5_0": 0.03,
    "q4_k_m": 0.06, "q4_k_s": 0.06, "q4_1": 0.06, "q4_0": 0.06, "iq4_nl": 0.06, "iq4_xs": 0.06,
    "q3_k_l": 0.2, "q3_k_m": 0.2, "q3_k_s": 0.2, "iq3_m": 0.2, "iq3_s": 0.2, "iq3_xs": 0.2, "iq3_xxs": 0.3,
    "q2_k": 0.3, "q2_k_s": 0.5, "iq2_m": 0.3, "iq2_s": 0.5, "iq2_xs": 0.5, "iq2_xxs": 0.5, "iq1_m": 1.0, "iq1_s": 1.0,
    "tq2_0": 1.0, "tq1_0": 1.0, "q2_0": 1.0, "q1_0": 1.0,
}  # fmt: skip
"""Every type that is offered, and the mean KL divergence (nats) from the checkpoint that it may have."""
TYPES = tuple(BOUNDS)
CALIBRATED = frozenset(TYPES) - {"f32", "f16", "bf16", "q8_0", "q6_k"}
"""Types that an importance matrix makes better, or that llama.cpp does not write without one."""
_KINDS = {kind.name: int(kind) for kind in gguf.GGMLQuantizationType} | {"Q2_0": 42}  # which the package does not know yet
_NAMES = {number: name for name, number in _KINDS.items()}
_POSITIONS = "position_embd.weight"  # llama.cpp never quantizes it


@dataclass(frozen=True, slots=True)
class Fallback:
    """A matrix that does not get the type asked for, because its rows of `row` values do not divide by `block`."""

    tensor: str
    row: int
    block: int
    type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A quantization before it is made: the file's size in bytes, and the matrices that fall back."""

    kind: str
    size: int
    fallbacks: list[Fallback]


def check_type(name: str) -> str:
    """The type's name in lower case. Raises OptionError for one that is not offered."""
    if name.lower() not in TYPES:
        raise OptionError(f"quantization must be one of {', '.join(TYPES)}, got {name!r}")
    return name.lower()


def quantize(source: Path, target: Path, type_name: str, importance: Importance | None = None) -> Path:
    """Write an F32 or F16 GGUF as another type, with an importance matrix where the type gains from one.

    Raises OptionError, NotFoundError, PackError, StorageError, EngineError.
    """
    kind = check_type(type_name)
    read_header(source)
    size = source.stat().st_size
    need(target.parent, size if kind == "f32" else size // 2 + (1 << 20))
    with whole(target) as part:
        try:
            quantizing.quantize(source, part, kind, threads=usable_cores(), importance=importance if kind in CALIBRATED else None)
        except EngineError:
            need(target.parent, 1 << 20)  # a full disk is its own error
            raise
        read_header(part)
    return target


def tensor_types(path: Path) -> dict[str, int]:
    """How many tensors have each type."""
    return dict(Counter(_NAMES[tensor.kind] for tensor in read_header(path).tensors.values()))


def plan(exact: Path, kind: str) -> Plan:
    """What quantizing an F32 GGUF would give; no data are read. Raises OptionError, PackError, EngineError."""
    types = quantizing.plan(exact, check_type(kind), calibrated=kind in CALIBRATED)
    reader = gguf.GGUFReader(exact)
    shapes = {tensor.name: [int(n) for n in tensor.shape] for tensor in reader.tensors}
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    data = sum(_stored(sizes[name], type_) for name, type_ in types.items())
    wanted = _block(kind)
    odd = [
        Fallback(name, shape[0], wanted, types[name].lower())
        for name, shape in shapes.items() if len(shape) == 2 and name != _POSITIONS and shape[0] % wanted
    ]  # fmt: skip
    return Plan(kind, data + reader.data_offset, odd)


def _stored(values: int, type_: str) -> int:
    block, size = BLOCKS[_KINDS[type_.upper()]]
    return pad(values // block * size)


def _block(kind: str) -> int:
    """Values that a block of a type holds; 1 where nothing is quantized."""
    small = {"f32": 1, "f16": 1, "bf16": 1, "q2_0": 64, "q1_0": 128, "iq4_nl": 32}
    return small.get(kind, 256 if "k" in kind or kind.startswith(("iq", "tq")) else 32)
