"""LoRA adapter + base -> one checkpoint folder, added up in fp32: W + alpha/r * B A, transposed for Conv1D."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import GPT2LMHeadModel

from convert import gpt2
from convert.output import whole
from edgegen.errors import ConvertError, NotFoundError
from edgegen.train import tokenizer as tokenizers

_CONFIG = "adapter_config.json"


def merge(adapter: Path, out: Path, base: Path | None = None) -> Path:
    """Write the merged checkpoint of an adapter folder to `out` and return it.

    `base` is the folder of the model that the adapter was trained on; None takes the one the adapter names, or `base`
    beside it. Raises NotFoundError, ConvertError, StorageError.
    """
    folder = base or _base_of(adapter)
    words = tokenizers.load(adapter if (adapter / "tokenizer.json").is_file() else folder)
    model = merged(gpt2.open_checkpoint(folder).model, adapter)
    with whole(out) as part:
        model.save_pretrained(part)
        words.save_pretrained(part)
    return out


def merged(model: GPT2LMHeadModel, adapter: Path) -> GPT2LMHeadModel:
    """An fp32 model with an adapter added up. Raises ConvertError where the adapter does not fit."""
    try:
        result = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise ConvertError(f"The adapter {adapter} does not fit its base: {error}. Give the base it was trained on.") from error
    assert isinstance(result, GPT2LMHeadModel), "PEFT gives the model back"  # noqa: S101 - narrows the type
    wide = [name for name, value in result.named_parameters() if value.dtype != torch.float32]
    if wide:
        raise ConvertError(f"{adapter}: {wide[0]} is not fp32 after merging. Load the base in fp32.")
    result.eval()
    return result


def _base_of(adapter: Path) -> Path:
    path = adapter / _CONFIG
    if not path.is_file():
        raise NotFoundError(f"{adapter} has no {_CONFIG}. Give the folder of a LoRA adapter.")
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
        name = str(config["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConvertError(f"{path} does not name its base: {error}. Give the base's folder.") from error
    for folder in (Path(name), adapter.parent / "base"):  # the second where the whole run was moved
        if folder.is_dir():
            return folder
    raise NotFoundError(f"The base {name} of {adapter} is not a folder here. Give the base's folder.")
