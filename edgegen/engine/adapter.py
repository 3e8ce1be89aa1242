"""Checks a LoRA adapter in GGUF against the model it is to go on, before native code sees either.

llama.cpp compares shapes; it passes over tensors that it never applies, aborts on some, and cannot tell two bases of one
shape apart. Knows no llama.cpp.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

from edgegen.engine.gguf import Header, read_header
from edgegen.errors import NotFoundError, PackError

BASE = "edgegen.base"
"""The key under which an adapter keeps `base_digest` of the model it was made for; other tools' adapters have none."""
ADVICE = "Use the adapter that was converted for this model's base."
_WITNESS = "output_norm.weight"
_F32 = 0
_KINDS = (_F32, 1, 8, 30)  # F32, F16, Q8_0, BF16
_APPLIED = re.compile(r"(?P<base>(?:blk\.\d+\.(?!\w*norm)\w+|output)\.weight)\.lora_[ab]")


def base_digest(path: Path, header: Header) -> str:
    """SHA-256 of the last norm's weights, which every quantization keeps in F32; empty where a model has none."""
    tensor = header.tensors.get(_WITNESS)
    if tensor is None or tensor.kind != _F32:
        return ""
    with path.open("rb") as file:
        file.seek(tensor.offset)
        return hashlib.sha256(file.read(tensor.size)).hexdigest()


def check(adapter: Path, model: Path, header: Header) -> None:
    """Refuse an adapter that does not go on a model, `header` being the model's.

    Raises NotFoundError, and PackError for what is damaged, no LoRA adapter, or one of another base.
    """
    if not adapter.is_file():
        raise NotFoundError(f"No adapter file at {adapter}. Check the path, or make it with edgegen convert --as-adapter.")
    found = read_header(adapter)
    alpha, base = found.meta.get("adapter.lora.alpha"), found.meta.get(BASE, "")
    problems = [
        (found.meta.get("general.type") != "adapter", "is a model and not an adapter"),
        (found.architecture != header.architecture, f"is for {found.architecture!r} models, this is {header.architecture!r}"),
        (found.meta.get("adapter.type") != "lora", f"is of type {found.meta.get('adapter.type')!r} and not 'lora'"),
        (not isinstance(alpha, float) or not alpha or not math.isfinite(alpha), f"has the alpha {alpha!r}"),
        ("adapter.alora.invocation_tokens" in found.lengths, "is to be switched on by tokens (aLoRA)"),
        (not found.tensors, "holds nothing"),
    ]
    problems += [(True, what) for what in _odd_tensors(found, header)]
    problems.append((bool(base) and base != base_digest(model, header), "was made for a base with other weights"))
    for wrong, what in problems:
        if wrong:
            raise PackError(f"The adapter {adapter} cannot go on {model.name}: it {what}. {ADVICE}")


def _odd_tensors(found: Header, model: Header) -> list[str]:
    """What is wrong with each tensor: of a kind or a place that llama.cpp does not apply, or not in the model."""
    odd = []
    for name, tensor in found.tensors.items():
        match = _APPLIED.fullmatch(name)
        if match is None or tensor.kind not in _KINDS:
            odd.append(f"changes {name!r} with type {tensor.kind}, which llama.cpp does not apply")
        elif match["base"] not in model.tensors:
            odd.append(f"changes {match['base']!r}, which the model lacks")
    return odd
