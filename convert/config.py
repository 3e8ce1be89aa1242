"""A GPT-2's config: its sizes, and by name what llama.cpp would load and compute differently. Reads JSON, no transformers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgegen.errors import ConvertError, NotFoundError

ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")  # two names of one function
_ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")  # the second lacks only the output matrix, which is tied
_OTHER_NAMES = {
    "hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """The sizes of a GPT-2. Names and defaults are those of transformers' GPT2Config."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True


def read(folder: Path) -> dict[str, Any]:
    """The config of a checkpoint folder. Raises NotFoundError, ConvertError."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise NotFoundError(f"There is no checkpoint folder {folder}. Give the folder that training saved.")
    if (folder / "adapter_config.json").is_file() and not path.is_file():
        raise ConvertError(f"{folder} holds an adapter, not a whole model. Merge it into its base first.")
    if not path.is_file():
        raise NotFoundError(f"{folder} has no config.json. Give a folder that save_pretrained wrote.")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path} is not JSON: {error}. Save the checkpoint again.") from error
    if not isinstance(found, dict):
        raise ConvertError(f"{path} is not a JSON object. Save the checkpoint again.")
    return {_OTHER_NAMES.get(str(key), str(key)): value for key, value in found.items()}


def checked(raw: Mapping[str, Any], where: str) -> Config:
    """The sizes of a config as `read` gives it. Raises ConvertError for what would be computed differently; `where` names it."""
    config = _sizes(raw, where)
    width, inner, activation = config.n_embd, raw.get("n_inner"), raw.get("activation_function", ACTIVATIONS[0])
    names, context = raw.get("architectures") or _ARCHITECTURES[:1], raw.get("n_ctx")
    names = names if isinstance(names, (list, tuple)) else [names]
    problems = [
        (raw.get("model_type") != "gpt2", f"model_type is {raw.get('model_type')!r}; only 'gpt2' can be converted"),
        (not any(name in _ARCHITECTURES for name in names), f"architecture is {names[0]}; only {_ARCHITECTURES[0]} is known"),
        (context not in (None, config.n_positions), f"n_ctx is {context!r} and n_positions {config.n_positions}"),
        (width % config.n_head != 0, f"n_embd is {width}, which does not divide by the {config.n_head} heads"),
        (inner not in (None, 4 * width), f"n_inner is {inner!r}; llama.cpp takes 4 * n_embd = {4 * width}"),
        (activation not in ACTIVATIONS, f"activation_function is {activation!r}; llama.cpp computes {ACTIVATIONS[0]}"),
        (not raw.get("scale_attn_weights", True), "scale_attn_weights is false; llama.cpp always scales"),
    ]
    unknown = ("scale_attn_by_inverse_layer_idx", "add_cross_attention")
    problems += [(bool(raw.get(key)), f"{key} is true; llama.cpp does not know it") for key in unknown]
    for wrong, what in problems:
        if wrong:
            raise ConvertError(f"{where}: {what}. Train a GPT-2 without it, or use another base.")
    return config


def _sizes(raw: Mapping[str, Any], where: str) -> Config:
    given = {field.name: raw[field.name] for field in fields(Config) if raw.get(field.name) is not None}
    usual = Config()
    for name, value in given.items():
        kind = type(getattr(usual, name))
        right = isinstance(value, (int, kind)) and isinstance(value, bool) == (kind is bool)
        if not right or (kind is not bool and not 0 < value < math.inf):
            raise ConvertError(f"{where}: {name} is {value!r} in config.json. Save the checkpoint again.")
    return Config(**given)
