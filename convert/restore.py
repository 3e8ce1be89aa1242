"""GGUF -> HF GPT-2 folder, so that fine-tuning can start from a pack: the inverse of `gpt2.write`.

Weights come back as fp32 (Q8_0 within its rounding). GGUF holds no dropout rates; the restored config has none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from convert.gpt2 import NAMES
from convert.output import whole
from edgegen.engine.gguf import read_header
from edgegen.errors import ConvertError

_SOURCES = ("F32", "F16", "BF16", "Q8_0")
_OUTSIDE = {
    "token_embd.weight": "transformer.wte.weight", "position_embd.weight": "transformer.wpe.weight",
    "output_norm.weight": "transformer.ln_f.weight", "output_norm.bias": "transformer.ln_f.bias",
    "output.weight": "lm_head.weight",
}  # fmt: skip
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


def restore(source: Path, out: Path) -> Path:
    """Write the checkpoint folder of a GGUF model that edgegen converted; returns `out`.

    Raises NotFoundError, PackError, StorageError, and ConvertError for another family or weights below Q8_0.
    """
    architecture = read_header(source).architecture
    if architecture != "gpt2":
        raise ConvertError(f"{source} is not a gpt2 model but {architecture or 'nameless'}. Use a pack that edgegen built.")
    reader = gguf.GGUFReader(source)
    words = tokenizer(reader)
    model = _model(reader, source, words)
    with whole(out) as part:
        model.save_pretrained(part)
        words.save_pretrained(part)
    return out


def _value(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def tokenizer(reader: gguf.GGUFReader) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file holds: the same ids for the same text."""
    if _value(reader, "tokenizer.ggml.model") != "gpt2" or _value(reader, "tokenizer.ggml.pre") != "gpt-2":
        raise ConvertError("The model's tokenizer is not GPT-2's byte-level BPE. Use a pack that edgegen built.")
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    types: list[int] = _value(reader, "tokenizer.ggml.token_type")
    ids = {token: id_ for id_, (token, type_) in enumerate(zip(tokens, types, strict=True)) if type_ != gguf.TokenType.UNUSED}
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges")]
    added = {t: types[id_] == gguf.TokenType.CONTROL for t, id_ in ids.items() if types[id_] != gguf.TokenType.NORMAL}
    # The added ones are in the BPE's vocabulary too: so they keep their ids wherever they stand.
    made = Tokenizer(models.BPE(vocab=ids, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    for token, special in added.items():
        (made.add_special_tokens if special else made.add_tokens)([AddedToken(token, special=special, normalized=False)])
    named = {f"{name}_token": _token(reader, key, tokens) for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=named["eos_token"], **named)


def _token(reader: gguf.GGUFReader, key: str, tokens: list[str]) -> str | None:
    id_ = _value(reader, f"tokenizer.ggml.{key}_token_id")
    return None if id_ is None else tokens[int(id_)]


def _model(reader: gguf.GGUFReader, source: Path, words: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    state = {_theirs(tensor.name): _tensor(tensor, source) for tensor in reader.tensors}
    model = GPT2LMHeadModel(_config(reader, state, words))
    if model.config.tie_word_embeddings:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConvertError(f"{source} is not a whole GPT-2: {error}. Use a pack that edgegen built.") from error
    model.eval()
    return model


def _theirs(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    match = _BLOCK.fullmatch(name)
    if match is None or match[2] not in NAMES:
        raise ConvertError(f"The model has a tensor {name!r} that GPT-2 does not have. Use a pack that edgegen built.")
    return f"transformer.h.{match[1]}.{NAMES[match[2]]}.{match[3]}"


def _tensor(tensor: gguf.ReaderTensor, source: Path) -> torch.Tensor:
    kind = tensor.tensor_type.name
    if kind not in _SOURCES:
        raise ConvertError(f"{source} holds {kind} weights, too coarse to train from. Use a pack with q8_0, f16 or f32.")
    values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    block = _BLOCK.fullmatch(tensor.name)
    transposed = block is not None and block[3] == "weight" and not block[2].endswith("_norm")
    return torch.from_numpy(np.ascontiguousarray(values.T if transposed else values))


def _config(reader: gguf.GGUFReader, state: dict[str, torch.Tensor], words: PreTrainedTokenizerFast) -> GPT2Config:
    def size(key: str) -> Any:
        return _value(reader, f"gpt2.{key}")

    return GPT2Config(
        vocab_size=state["transformer.wte.weight"].shape[0],
        n_positions=size("context_length"),
        n_embd=size("embedding_length"),
        n_layer=size("block_count"),
        n_head=size("attention.head_count"),
        layer_norm_epsilon=size("attention.layer_norm_epsilon"),
        activation_function="gelu_new",
        tie_word_embeddings="lm_head.weight" not in state,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
