"""A checkpoint's tensors, one at a time, whatever holds them. Owns names, shapes and dtypes; computes nothing.

Files are read and not mapped: mapped pages count as the process's memory, and a model may be larger than it.
safetensors: 8 bytes of header length (little-endian), a JSON header, the data. Source:
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import numpy as np
import numpy.typing as npt

from edgegen.errors import ConvertError

Array = npt.NDArray[np.float32]
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_BUFFER = re.compile(r"h\.\d+\.attn\.(?:bias|masked_bias)")  # the causal mask, which older checkpoints store
_CHUNK = 1 << 22  # values
_ADVICE = "Copy or save the checkpoint again."


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor: its shape, and how to get it as fp32."""

    shape: tuple[int, ...]
    load: Callable[[], Array]


Weights = Mapping[str, Stored]
"""Tensors by transformers' name, without the prefix `transformer.`."""


def of_folder(folder: Path) -> Weights:
    """The tensors of a checkpoint folder, whole or sharded. Raises ConvertError for files that are missing or damaged."""
    for name, read in ((_SAFE, _safetensors), (_PICKLED, _pickled)):
        if paths := _parts(folder, name):
            return dict(_plain(pair for path in paths for pair in read(path)))
    raise ConvertError(f"{folder}: the weights cannot be loaded: there is neither {_SAFE} nor {_PICKLED}. {_ADVICE}")


def of_adapter(folder: Path) -> Weights:
    """The tensors of a PEFT adapter's folder, by PEFT's names. Raises ConvertError for a file that is missing or damaged."""
    for name, read in (("adapter_model.safetensors", _safetensors), ("adapter_model.bin", _pickled)):
        if (folder / name).is_file():
            return dict(read(folder / name))
    raise ConvertError(f"{folder} has neither adapter_model.safetensors nor adapter_model.bin. Save the adapter again.")


def of_model(model: Any) -> Weights:
    """The tensors of a PyTorch model in memory."""
    return dict(_plain(_tensors(model.state_dict())))


def _parts(folder: Path, name: str) -> list[Path]:
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return [folder / name] if (folder / name).is_file() else []
    try:
        names = sorted({str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ConvertError(f"{index} is not an index of weights: {error}. {_ADVICE}") from error
    for part in names:
        if Path(part).name != part or not (folder / part).is_file():
            raise ConvertError(f"{folder}: the weights cannot be loaded: {part} is missing. {_ADVICE}")
    return [folder / part for part in names]


def _plain(pairs: Iterator[tuple[str, Stored]]) -> Iterator[tuple[str, Stored]]:
    for name, stored in pairs:
        plain = name.removeprefix("transformer.")
        if not _BUFFER.fullmatch(plain):
            yield plain, stored


def _safetensors(path: Path) -> Iterator[tuple[str, Stored]]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise ValueError("it is cut off")
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] not in _DTYPES:
                raise ValueError(f"{name} is of type {entry['dtype']}, and only {', '.join(_DTYPES)} are read")
            dtype, shape, (start, end) = _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"])), entry["data_offsets"]
            if end - start != prod(shape) * np.dtype(dtype).itemsize or not 0 <= start <= end <= size - 8 - length:
                raise ValueError(f"{name} lies outside of the file")
            yield name, Stored(shape, partial(_read, path, 8 + length + start, dtype, shape))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, OSError) as error:
        raise ConvertError(f"{path}: the weights cannot be loaded: {error}. {_ADVICE}") from error


def _read(path: Path, offset: int, dtype: type, shape: tuple[int, ...]) -> Array:
    """A stretch of a file as fp32, without holding it in two types at once."""
    out = np.empty(prod(shape), dtype=np.float32)
    with path.open("rb") as file:
        file.seek(offset)
        for at in range(0, len(out), _CHUNK):
            part: npt.NDArray[Any] = np.fromfile(file, dtype, min(_CHUNK, len(out) - at))
            bits = (part.astype(np.uint32) << 16).view(np.float32) if dtype is np.uint16 else part  # bfloat16
            out[at : at + len(part)] = bits
    return out.reshape(shape)


def _pickled(path: Path) -> Iterator[tuple[str, Stored]]:
    import torch

    try:
        # Before PyTorch 1.6 the file was no zip archive, and such a file cannot be mapped.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, UnpicklingError) as error:
        raise ConvertError(
            f"{path}: the weights cannot be loaded: it is cut off or damaged, or holds more than tensors. {_ADVICE}"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ConvertError(f"{path} holds something else than tensors by name. Save the checkpoint with save_pretrained.")
    yield from _tensors(found)


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Stored]]:
    for name, tensor in state.items():
        yield name, Stored(tuple(tensor.shape), partial(_numpy, tensor))


def _numpy(tensor: Any) -> Array:
    result: Array = tensor.detach().float().contiguous().numpy()
    return result


def expected(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a GPT-2's tensors, the output matrix aside. `config` is a GPT2Config."""
    n, layers = config.n_embd, range(config.n_layer)
    block = {
        "ln_1.weight": (n,), "ln_1.bias": (n,), "ln_2.weight": (n,), "ln_2.bias": (n,),
        "attn.c_attn.weight": (n, 3 * n), "attn.c_attn.bias": (3 * n,), "attn.c_proj.weight": (n, n), "attn.c_proj.bias": (n,),
        "mlp.c_fc.weight": (n, 4 * n), "mlp.c_fc.bias": (4 * n,), "mlp.c_proj.weight": (4 * n, n), "mlp.c_proj.bias": (n,),
    }  # fmt: skip
    outside = {"wte.weight": (config.vocab_size, n), "wpe.weight": (config.n_positions, n)}
    inside = {f"h.{layer}.{name}": shape for layer in layers for name, shape in block.items()}
    return outside | inside | {"ln_f.weight": (n,), "ln_f.bias": (n,)}


def check(weights: Weights, config: Any, where: str) -> None:
    """Refuse weights that lack a tensor, have one too many, or one of another shape than the config says."""
    shapes = expected(config)
    output = {} if config.tie_word_embeddings else {"lm_head.weight": (config.vocab_size, config.n_embd)}
    wrong = {
        "missing keys": [name for name in shapes | output if name not in weights],
        "unexpected keys": [name for name in weights if name not in shapes and name != "lm_head.weight"],
        "mismatched keys": [
            f"{name} is {list(weights[name].shape)} and not {list(shape)}"
            for name, shape in (shapes | output).items() if name in weights and weights[name].shape != shape
        ],
    }  # fmt: skip
    for what, names in wrong.items():
        if names:
            raise ConvertError(f"{where}: the weights have {what}: {', '.join(sorted(names)[:3])}. Save the checkpoint again.")
