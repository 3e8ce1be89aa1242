"""A checked GPT-2 checkpoint -> GGUF.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's `gpt2` architecture. Conv1D weights are
[in, out] and GGUF wants [out, in]; tied embeddings are written once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from convert.checkpoint import Checkpoint
from convert.output import need, whole
from edgegen.errors import ConvertError
from edgegen.slots import SPECIALS

Array = npt.NDArray[np.float32]
NAMES = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip
"""GGUF's name of each part of a block, and transformers' name."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What GGUF holds of a tokenizer: texts and types by id, merges as `left right`."""

    tokens: list[str]
    types: list[int]
    merges: list[str]


def vocabulary(words: PreTrainedTokenizerFast, rows: int) -> Vocabulary:
    """A tokenizer as GGUF holds it, with unused tokens up to the weights' number of rows.

    Raises ConvertError for ids that are not 0 to n - 1 or a BPE without merges.
    """
    raw = json.loads(words.backend_tokenizer.to_str())
    by_id = {id_: token for token, id_ in words.get_vocab().items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise ConvertError(
            f"The tokenizer's {len(by_id)} tokens are not numbered without gaps. Save it again without unused ids."
        )
    kinds = dict.fromkeys((t["content"] for t in raw["added_tokens"]), gguf.TokenType.USER_DEFINED)
    kinds |= dict.fromkeys([*SPECIALS, *(t["content"] for t in raw["added_tokens"] if t["special"])], gguf.TokenType.CONTROL)
    tokens = [by_id[id_] for id_ in range(len(by_id))] + [f"[PAD{id_}]" for id_ in range(len(by_id), rows)]
    kinds |= dict.fromkeys(tokens[len(by_id) :], gguf.TokenType.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in raw["model"]["merges"]]
    if not merges:
        raise ConvertError("The tokenizer has no merges; llama.cpp needs one at least. Train the tokenizer on more text.")
    return Vocabulary(tokens, [int(kinds.get(token, gguf.TokenType.NORMAL)) for token in tokens], merges)


def tensors(model: GPT2LMHeadModel) -> Iterator[tuple[str, Array]]:
    """GGUF's name and fp32 array of every tensor, matrices as [out, in]."""
    state = {name.removeprefix("transformer."): value for name, value in model.state_dict().items()}

    def array(name: str) -> Array:
        result: Array = state[name].detach().to(torch.float32).contiguous().numpy()
        return result

    yield "token_embd.weight", array("wte.weight")
    yield "position_embd.weight", array("wpe.weight")
    for layer in range(model.config.n_layer):
        for ours, theirs in NAMES.items():
            weight = array(f"h.{layer}.{theirs}.weight")
            yield f"blk.{layer}.{ours}.weight", np.ascontiguousarray(weight.T)
            yield f"blk.{layer}.{ours}.bias", array(f"h.{layer}.{theirs}.bias")
    yield "output_norm.weight", array("ln_f.weight")
    yield "output_norm.bias", array("ln_f.bias")
    if model.lm_head.weight.data_ptr() != model.transformer.wte.weight.data_ptr():
        yield "output.weight", array("lm_head.weight")


def write(checkpoint: Checkpoint, target: Path, *, name: str = "", licence: str = "") -> Path:
    """Write a checkpoint as F32 GGUF. Raises ConvertError, StorageError."""
    words = vocabulary(checkpoint.tokenizer, checkpoint.model.config.vocab_size)
    need(target.parent, 4 * sum(p.numel() for p in checkpoint.model.parameters()) + (1 << 20))
    with whole(target) as part:
        writer = gguf.GGUFWriter(part, "gpt2")
        writer.add_name(name or checkpoint.folder.name)
        if licence:
            writer.add_license(licence)
        _add_sizes(writer, checkpoint.model)
        _add_vocabulary(writer, words, checkpoint.tokenizer)
        for tensor, values in tensors(checkpoint.model):
            writer.add_tensor(tensor, values)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return target


def _add_sizes(writer: gguf.GGUFWriter, model: GPT2LMHeadModel) -> None:
    config = model.config
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter, words: Vocabulary, tokenizer: PreTrainedTokenizerFast) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
