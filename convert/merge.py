"""Adapter + base -> one checkpoint, added up in fp32 and compared with the two before it is used.

W' = W + alpha/r * B A, and what PEFT's other kinds make of it (rsLoRA, DoRA, AdaLoRA, `modules_to_save`, trained token rows).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import GPT2LMHeadModel

from convert import adapter_config, weights
from convert.checkpoint import Checkpoint, open_checkpoint, open_words
from convert.config import checked, read
from convert.output import whole
from edgegen.errors import ConvertError

TOLERANCE = 1e-4
"""The largest difference of logits between base with adapter and merged model; fp32 rounding stays well below."""
_BESIDE = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")
_PROBE = (4, 48)  # sequences, tokens
_LONGEST = 300  # characters of an error that is passed on


def merge(adapter: Path, out: Path, base: str | Path | None = None) -> Path:
    """Write the merged checkpoint of an adapter folder to `out` and return it. Arguments and errors: see `open_adapted`."""
    opened = open_adapted(adapter, base)
    with whole(out) as part:
        opened.model.save_pretrained(part)
        opened.tokenizer.save_pretrained(part)
    return out


def open_adapted(adapter: Path, base: str | Path | None = None) -> Checkpoint:
    """A base with its adapter merged, as a checkpoint.

    `base` is the checkpoint that the adapter was trained on; None takes the one the adapter names, or `base` beside it. Where
    the adapter brings a tokenizer with more tokens, the base grows to it. Raises NotFoundError, ConvertError, StorageError.
    """
    if (kind := str(adapter_config.read(adapter).get("peft_type"))) in _BESIDE:
        raise ConvertError(f"{adapter} is of type {kind}: it stands beside the weights and cannot be merged. Train a LoRA.")
    opened = open_checkpoint(base_of(adapter) if base is None else base)
    own = any((adapter / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt"))
    words = open_words(adapter, read(opened.folder)) if own else opened.words
    if len(words) > opened.config.vocab_size:
        opened.model.resize_token_embeddings(len(words), mean_resizing=False)
    model = merged(opened.model, adapter)
    config = checked(model.config.to_dict(), str(adapter))
    return Checkpoint(config, words, opened.folder, weights.of_model(model), model)


def merged(model: GPT2LMHeadModel, adapter: Path) -> GPT2LMHeadModel:
    """An fp32 model with an adapter added up. Raises ConvertError where the adapter does not fit or the sum differs."""
    try:
        tuned = attached(model, adapter)
        expected = _logits(tuned, model.config)
        result = tuned.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError) as error:
        raise _misfit(adapter, error) from error
    assert isinstance(result, GPT2LMHeadModel), "PEFT gives the model back"  # noqa: S101 - narrows the type
    wide = [name for name, value in result.named_parameters() if value.dtype != torch.float32]
    if wide:
        raise ConvertError(f"{adapter}: {wide[0]} is not fp32 after merging. Load the base in fp32.")
    result.eval()
    worst = float((_logits(result, result.config) - expected).abs().max())
    if not worst <= TOLERANCE:
        raise ConvertError(
            f"{adapter}: merged, the logits differ by {worst:.2g} from base and adapter, {TOLERANCE:g} is rounding. "
            "Merge it where it was trained, and give the merged checkpoint."
        )
    return result


def attached(model: GPT2LMHeadModel, adapter: Path) -> PeftModel:
    """A model with an adapter beside its weights, in evaluation mode. Raises ConvertError where the adapter does not fit."""
    try:
        with warnings.catch_warnings():
            # AdaLoRA's pattern names its singular values; PEFT uses it, and another part of PEFT says that it is unused.
            warnings.filterwarnings("ignore", "The following rank_pattern keys did not match", RuntimeWarning)
            return PeftModel.from_pretrained(model, str(adapter)).eval()
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise _misfit(adapter, error) from error


def _misfit(adapter: Path, error: Exception) -> ConvertError:
    why = shorten(str(error), _LONGEST, placeholder=" ...")  # PEFT has a line for each matrix
    return ConvertError(f"The adapter {adapter} does not fit its base: {why.rstrip('.')}. Give the base it was trained on.")


@torch.inference_mode()
def _logits(model: Any, config: Any) -> torch.Tensor:
    """Logits for the same tokens each time, float32 [sequences, tokens, vocabulary]."""
    sequences, tokens = _PROBE
    size = (sequences, min(tokens, config.n_positions))
    ids = torch.randint(config.vocab_size, size, generator=torch.Generator().manual_seed(0))
    logits: torch.Tensor = model(input_ids=ids).logits.float()
    return logits


def base_of(adapter: Path) -> str | Path:
    """The base that an adapter folder names, or `base` beside it. Raises NotFoundError, ConvertError."""
    name = adapter_config.read(adapter).get("base_model_name_or_path")
    if not isinstance(name, str):
        raise ConvertError(f"{adapter / adapter_config.FILE} does not name its base. Give the base's folder.")
    beside = adapter.parent / "base"  # where the whole run was moved
    return beside if not Path(name).is_dir() and beside.is_dir() else name
