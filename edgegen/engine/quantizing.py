"""llama.cpp's quantizer as a function: a GGUF file as another type, or what would come of it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgegen.engine import native
from edgegen.errors import EngineError, OptionError

Importance = Mapping[str, npt.NDArray[np.float32]]
"""By tensor name, the mean square of what each column of the matrix is multiplied with: float32 [row length]."""

_TENSOR = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[[^]]*\], type = +(\w+), .*?(?:\((\w+)\))?$", re.MULTILINE)


def quantize(
    source: Path, target: Path, type_name: str, *, threads: int = 1, importance: Importance | None = None
) -> None:  # fmt: skip
    """Write an F32 or F16 GGUF as another type, such as `q4_k_m`. Raises OptionError for an unknown type, EngineError."""
    _run(source, target, type_name, threads=threads, importance=importance)


def plan(source: Path, type_name: str, *, calibrated: bool = False) -> dict[str, str]:
    """The type that each tensor of a GGUF would get; reads the header alone. Raises as `quantize` does.

    The choice depends on whether there will be an importance matrix, not on what is in it.
    """
    some = {"any": np.ones(1, dtype=np.float32)} if calibrated else None
    with native.LOG.kept() as said:
        _run(source, source.with_name("none"), type_name, importance=some, dry=True)
    # The dry run's log is the only place that says what it found.
    found = {name: new or old for name, old, new in _TENSOR.findall("".join(said))}
    if not found:
        raise EngineError("llama.cpp's dry run says nothing of any tensor. Convert without --dry-run, and please report this.")
    return found


def _run(
    source: Path, target: Path, type_name: str, *, threads: int = 1, importance: Importance | None = None, dry: bool = False
) -> None:
    lib = native.bindings()
    name = "LLAMA_FTYPE_ALL_F32" if type_name == "f32" else f"LLAMA_FTYPE_MOSTLY_{type_name.upper()}"
    if not hasattr(lib, name):
        raise OptionError(f"llama.cpp has no quantization {type_name!r}. Use q8_0, q4_k_m or f16.")
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.dry_run = getattr(lib, name), threads, dry
    entries = list(_entries(lib, importance or {}))
    if importance:
        params.imatrix = (lib.llama_model_imatrix_data * (len(entries) + 1))(*entries)  # the last is empty and ends the list
    native.LOG.errors.clear()
    if lib.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise EngineError(
            f"llama.cpp cannot quantize {source} to {type_name}: {native.LOG.reason}. Use another type, or convert anew."
        )


def _entries(lib: Any, importance: Importance) -> Iterator[Any]:
    """The C structures; `importance` must outlive them."""
    for name, values in importance.items():
        data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        yield lib.llama_model_imatrix_data(name.encode(), data, len(values))
