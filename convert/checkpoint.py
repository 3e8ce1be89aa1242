"""Finds, loads and checks what is to be converted: refuses by name what llama.cpp would load and compute differently.

A source is a folder or a hub name (from the cache, or fetched); weights in safetensors or .bin, whole or sharded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer, PreTrainedTokenizerFast

from convert import weights, wordpiece
from convert.weights import Weights
from edgegen.errors import ConvertError, NotFoundError
from edgegen.train import tokenizer as tokenizers

ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")  # two names of one function
_ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")  # the second lacks only the output matrix, which is tied
_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_USUAL = {
    "dropout": None, "byte_fallback": False, "continuing_subword_prefix": None, "end_of_word_suffix": None,
    "ignore_merges": False,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A GPT-2 that llama.cpp computes alike, and its tokenizer. `built` is the model where it is in memory already."""

    config: GPT2Config
    tokenizer: PreTrainedTokenizerFast
    folder: Path
    weights: Weights
    built: GPT2LMHeadModel | None = None

    @cached_property
    def model(self) -> GPT2LMHeadModel:
        """The fp32 model in evaluation mode, loaded when it is first asked for. Raises ConvertError."""
        return self.built or _load_model(self.folder)


def find(source: str | Path) -> Path:
    """The folder of a checkpoint: a folder as it is, a hub name from the cache or else from the hub. Raises NotFoundError."""
    name = str(source)
    if Path(source).is_dir() or not _HUB_NAME.fullmatch(name):
        return Path(source)
    for offline in (True, False):
        for files in ("*.safetensors", "*.bin"):
            with suppress(OSError, ValueError):
                folder = Path(snapshot_download(name, local_files_only=offline, allow_patterns=["*.json", "*.txt", files]))
                if any(folder.glob(files)):
                    return folder
    raise NotFoundError(
        f"There is no checkpoint {name!r}: no such folder, not in the cache of hub models, and the hub gives none by that "
        "name. Give a checkpoint's folder, or a hub name where there is a network."
    )


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Load and check a checkpoint. Raises NotFoundError, or ConvertError naming what cannot be converted.

    The weights may have more rows than the tokenizer has tokens, as those padded to a round number have.
    """
    folder = find(source)
    check_config(_config(folder), str(folder))
    words = _load_tokenizer(folder)
    check_tokenizer(words, str(folder))
    config = GPT2Config.from_pretrained(folder)
    if len(words) > config.vocab_size:
        raise ConvertError(
            f"{folder}: the tokenizer has {len(words)} tokens and the weights have {config.vocab_size}. "
            f"Call model.resize_token_embeddings({len(words)}) and save again."
        )
    found = weights.of_folder(folder)
    weights.check(found, config, str(folder))
    return Checkpoint(config, words, folder, found)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise NotFoundError(f"There is no checkpoint folder {folder}. Give the folder that training saved.")
    if (folder / "adapter_config.json").is_file() and not path.is_file():
        raise ConvertError(f"{folder} holds an adapter, not a whole model. Merge it into its base first.")
    if not path.is_file():
        raise NotFoundError(f"{folder} has no config.json. Give a folder that save_pretrained wrote.")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConvertError(f"{path} is not JSON: {error}. Save the checkpoint again.") from error
    if not isinstance(config, dict):
        raise ConvertError(f"{path} is not a JSON object. Save the checkpoint again.")
    return config


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse what llama.cpp would load and compute differently. `where` names the checkpoint in the message."""
    width, inner, positions = config.get("n_embd", 768), config.get("n_inner"), config.get("n_positions", 1024)
    activation = config.get("activation_function", ACTIVATIONS[0])
    names = config.get("architectures") or ["GPT2LMHeadModel"]
    problems = [
        (config.get("model_type") != "gpt2", f"model_type is {config.get('model_type')!r}; only 'gpt2' can be converted"),
        (not set(names) & set(_ARCHITECTURES), f"architecture is {names[0]}; only {_ARCHITECTURES[0]} can be converted"),
        (config.get("n_ctx", positions) != positions, f"n_ctx is {config.get('n_ctx')} and n_positions {positions}"),
        (inner not in (None, 4 * width), f"n_inner is {inner}; llama.cpp takes 4 * n_embd = {4 * width}"),
        (activation not in ACTIVATIONS, f"activation_function is {activation!r}; llama.cpp computes {ACTIVATIONS[0]}"),
        (not config.get("scale_attn_weights", True), "scale_attn_weights is false; llama.cpp always scales"),
    ]
    unknown = ("scale_attn_by_inverse_layer_idx", "add_cross_attention")
    problems += [(bool(config.get(key)), f"{key} is true; llama.cpp does not know it") for key in unknown]
    for wrong, what in problems:
        if wrong:
            raise ConvertError(f"{where}: {what}. Train a GPT-2 without it, or use another base.")


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ConvertError(f"{path} is not JSON: {error}. Save the tokenizer again.") from error
        return tokenizers.load(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return GPT2Tokenizer.from_pretrained(folder)
    if (folder / "vocab.txt").is_file():
        return wordpiece.load(folder)
    return tokenizers.load(folder)


def check_tokenizer(words: PreTrainedTokenizerFast, where: str) -> None:
    """Refuse tokenizers that llama.cpp's `gpt-2` pre-tokeniser and BPE, or its WordPiece, would not follow."""
    if wordpiece.follows(words):
        wordpiece.check(words, where)
        return
    raw = json.loads(words.backend_tokenizer.to_str())
    model, pre = raw["model"], raw["pre_tokenizer"] or {"type": "none"}
    problems = [
        (model["type"] != "BPE", f"the tokenizer's model is {model['type']}"),
        (raw["normalizer"] is not None, f"the tokenizer normalises text ({(raw['normalizer'] or {}).get('type')})"),
        (pre["type"] != "ByteLevel" or not pre.get("use_regex", True), f"the pre-tokeniser is {pre['type']}, not GPT-2's"),
        (bool(pre.get("add_prefix_space")), "the pre-tokeniser adds a space (add_prefix_space)"),
    ]
    problems += [(model.get(key, usual) not in (usual, "", None), f"the BPE has {key}") for key, usual in _USUAL.items()]
    trimming = [t["content"] for t in raw["added_tokens"] if t["lstrip"] or t["rstrip"] or t["single_word"]]
    problems.append((bool(trimming), f"the added tokens {trimming[:3]} take in what stands beside them"))
    for wrong, what in problems:
        if wrong:
            raise ConvertError(
                f"{where}: {what}; only GPT-2's byte-level BPE and BERT's WordPiece can be converted. Use a tokenizer of these."
            )


def _load_model(folder: Path) -> GPT2LMHeadModel:
    try:
        model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ConvertError(f"{folder}: the weights cannot be loaded: {error}. Copy or save the checkpoint again.") from error
    model.eval()
    return model
