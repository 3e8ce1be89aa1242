"""Finds and checks what is to be converted, without PyTorch: refuses by name what llama.cpp would load and compute differently.

A source is a folder or a hub name (from the cache, or fetched); weights in safetensors or .bin, whole or sharded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert import config as configs
from convert import weights, wordpiece
from convert import words as tokenizers
from convert.config import Config
from convert.weights import Weights
from convert.words import Words
from edgegen.errors import ConvertError, NotFoundError

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_USUAL = {
    "dropout": None, "byte_fallback": False, "continuing_subword_prefix": None, "end_of_word_suffix": None,
    "ignore_merges": False,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A GPT-2 that llama.cpp computes alike, and its tokenizer. `built` is the model where it is in memory already."""

    config: Config
    words: Words
    folder: Path
    weights: Weights
    built: GPT2LMHeadModel | None = None

    @cached_property
    def model(self) -> GPT2LMHeadModel:
        """The fp32 PyTorch model in evaluation mode, loaded when it is first asked for. Raises ConvertError."""
        from convert import reference

        return self.built or reference.load_model(self.folder)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of transformers, loaded when it is first asked for. Raises ConvertError."""
        from convert import reference

        return reference.load_tokenizer(self.words)


def find(source: str | Path) -> Path:
    """The folder of a checkpoint: a folder as it is, a hub name from the cache or else from the hub. Raises NotFoundError."""
    name = str(source)
    if Path(source).is_dir() or not _HUB_NAME.fullmatch(name):
        return Path(source)
    from huggingface_hub import snapshot_download  # slow to load, and folders do without

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
    """Find and check a checkpoint. Raises NotFoundError, or ConvertError naming what cannot be converted.

    The weights may have more rows than the tokenizer has tokens, as those padded to a round number have.
    """
    folder = find(source)
    raw = configs.read(folder)
    config = configs.checked(raw, str(folder))
    words = open_words(folder, raw)
    if len(words) > config.vocab_size:
        raise ConvertError(
            f"{folder}: the tokenizer has {len(words)} tokens and the weights have {config.vocab_size}. "
            f"Call model.resize_token_embeddings({len(words)}) and save again."
        )
    found = weights.of_folder(folder)
    weights.check(found, config, str(folder))
    return Checkpoint(config, words, folder, found)


def open_words(folder: Path, config: Mapping[str, Any] | None = None) -> Words:
    """Read and check the tokenizer of a folder. Raises ConvertError for one that llama.cpp would not follow."""
    words = tokenizers.read(folder, config)
    _check(words, str(folder))
    return words


def _check(words: Words, where: str) -> None:
    """Refuse tokenizers that llama.cpp's `gpt-2` pre-tokeniser and BPE, or its WordPiece, would not follow."""
    if wordpiece.follows(words):
        wordpiece.check(words, where)
        return
    raw = words.raw
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
