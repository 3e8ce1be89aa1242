"""A checked GPT-2 checkpoint -> GGUF.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's `gpt2` architecture. Conv1D weights are
[in, out] and GGUF wants [out, in]; tied embeddings are written once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import gguf
import numpy as np

from convert import wordpiece
from convert.checkpoint import Checkpoint
from convert.config import Config
from convert.output import need, whole
from convert.weights import Array, Stored, Weights
from convert.words import Words
from edgegen.engine.gguf import pad
from edgegen.errors import ConvertError
from edgegen.slots import SPECIALS

Each = Callable[[int, int], None]
NAMES = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip
"""GGUF's name of each part of a block, and transformers' name."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What GGUF holds of a tokenizer: texts and types by id, merges as `left right` (none where it is a WordPiece)."""

    tokens: list[str]
    types: list[int]
    merges: list[str]


def vocabulary(words: Words, rows: int) -> Vocabulary:
    """A tokenizer as GGUF holds it, with unused tokens up to the weights' number of rows.

    Raises ConvertError for ids that are not 0 to n - 1, and for a BPE without merges or without start and end.
    """
    raw = words.raw
    by_id = {id_: token for token, id_ in words.vocab.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise ConvertError(
            f"The tokenizer's {len(by_id)} tokens are not numbered without gaps. Save it again without unused ids."
        )
    kinds = dict.fromkeys((t["content"] for t in raw["added_tokens"]), gguf.TokenType.USER_DEFINED)
    kinds |= dict.fromkeys([*SPECIALS, *(t["content"] for t in raw["added_tokens"] if t["special"])], gguf.TokenType.CONTROL)
    if wordpiece.follows(words):
        kinds |= dict.fromkeys(wordpiece.controls(words), gguf.TokenType.CONTROL)
    tokens = [by_id[id_] for id_ in range(len(by_id))] + [f"[PAD{id_}]" for id_ in range(len(by_id), rows)]
    kinds |= dict.fromkeys(tokens[len(by_id) :], gguf.TokenType.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in raw["model"].get("merges", ())]
    if not merges and not wordpiece.follows(words):
        raise ConvertError("The tokenizer has no merges; llama.cpp needs one at least. Train the tokenizer on more text.")
    if not wordpiece.follows(words) and words.id("bos") is None and words.id("eos") is None:
        raise ConvertError("The tokenizer names no start or end token, and llama.cpp would take token 11 for both. Name one.")
    return Vocabulary(tokens, [int(kinds.get(token, gguf.TokenType.NORMAL)) for token in tokens], merges)


def tensors(weights: Weights, config: Config) -> Iterator[tuple[str, Stored]]:
    """GGUF's name of every tensor and the tensor, matrices as [out, in]."""
    yield "token_embd.weight", weights["wte.weight"]
    yield "position_embd.weight", weights["wpe.weight"]
    for layer in range(config.n_layer):
        for ours, theirs in NAMES.items():
            weight, bias = (weights[f"h.{layer}.{theirs}.{part}"] for part in ("weight", "bias"))
            yield f"blk.{layer}.{ours}.weight", Stored(weight.shape[::-1], partial(_turned, weight))
            yield f"blk.{layer}.{ours}.bias", bias
    yield "output_norm.weight", weights["ln_f.weight"]
    yield "output_norm.bias", weights["ln_f.bias"]
    if not config.tie_word_embeddings:
        yield "output.weight", weights["lm_head.weight"]


def _turned(stored: Stored) -> Array:
    return np.ascontiguousarray(stored.load().T)


def write(
    checkpoint: Checkpoint, target: Path, *, name: str = "", licence: str = "", hollow: bool = False, each: Each = lambda *_: None
) -> Path:  # fmt: skip
    """Write a checkpoint as F32 GGUF, one tensor in memory at a time. Raises ConvertError, StorageError.

    A `hollow` file has the size and all but the data, which take no place on the disk. `each` is told how many tensors of how
    many are written.
    """
    words = vocabulary(checkpoint.words, checkpoint.config.vocab_size)
    found = dict(tensors(checkpoint.weights, checkpoint.config))
    size = 4 * sum(prod(stored.shape) for stored in found.values())
    need(target.parent, (0 if hollow else size) + (1 << 20))
    with whole(target) as part:
        writer = gguf.GGUFWriter(part, "gpt2")
        writer.add_name(name or checkpoint.folder.name)
        if licence:
            writer.add_license(licence)
        _add_sizes(writer, checkpoint.config)
        _add_vocabulary(writer, words, checkpoint.words)
        for tensor, stored in found.items():
            writer.add_tensor_info(tensor, stored.shape, np.dtype(np.float32), 4 * prod(stored.shape))
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for done, stored in enumerate(found.values() if not hollow else (), 1):
                writer.write_tensor_data(stored.load())
                each(done, len(found))
        finally:
            writer.close()
        if hollow:
            _stretch(part, found)
    return target


def _stretch(part: Path, found: dict[str, Stored]) -> None:
    """Make a file of a header as long as the whole one, with a hole for the data."""
    os.truncate(part, pad(part.stat().st_size) + sum(pad(4 * prod(stored.shape)) for stored in found.values()))


def _add_sizes(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter, words: Vocabulary, tokenizer: Words) -> None:
    if wordpiece.follows(tokenizer):
        wordpiece.describe(writer, words.tokens, words.types, tokenizer)
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    start, end, padding = map(tokenizer.id, ("bos", "eos", "pad"))
    # Without them llama.cpp takes token 11 for both.
    if (first := end if start is None else start) is not None:
        writer.add_bos_token_id(first)
    if (last := start if end is None else end) is not None:
        writer.add_eos_token_id(last)
    if padding is not None:
        writer.add_pad_token_id(padding)
    writer.add_add_bos_token(False)
