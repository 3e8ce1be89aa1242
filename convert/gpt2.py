"""HF GPT-2 checkpoint -> GGUF: converts what llama.cpp computes alike and refuses the rest by name.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's `gpt2` architecture. Conv1D weights are
[in, out] and GGUF wants [out, in]; tied embeddings are written once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from transformers import GPT2LMHeadModel, GPT2Tokenizer, PreTrainedTokenizerFast

from convert.output import need, whole
from edgegen.errors import ConvertError, NotFoundError
from edgegen.slots import SPECIALS
from edgegen.train import tokenizer as tokenizers

Array = npt.NDArray[np.float32]
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")  # two names of one function
_USUAL = {
    "dropout": None, "byte_fallback": False, "continuing_subword_prefix": None, "end_of_word_suffix": None,
    "ignore_merges": False,
}  # fmt: skip
NAMES = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip
"""GGUF's name of each part of a block, and transformers' name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A GPT-2 that llama.cpp computes alike: fp32 weights in evaluation mode, and its tokenizer."""

    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    folder: Path


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What GGUF holds of a tokenizer: texts and types by id, merges as `left right`."""

    tokens: list[str]
    types: list[int]
    merges: list[str]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Load and check a checkpoint folder. Raises NotFoundError, or ConvertError naming what cannot be converted."""
    check_config(_config(folder), str(folder))
    words = _load_tokenizer(folder)
    check_tokenizer(words, str(folder))
    model = _load_model(folder)
    rows = model.config.vocab_size
    if len(words) != rows:
        raise ConvertError(
            f"{folder}: the tokenizer has {len(words)} tokens and the weights have {rows}. "
            f"Call model.resize_token_embeddings({len(words)}) and save again."
        )
    return Checkpoint(model, words, folder)


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
    width, inner = config.get("n_embd", 768), config.get("n_inner")
    activation = config.get("activation_function", ACTIVATIONS[0])
    names = config.get("architectures") or ["GPT2LMHeadModel"]
    problems = [
        (config.get("model_type") != "gpt2", f"model_type is {config.get('model_type')!r}; only 'gpt2' can be converted"),
        ("GPT2LMHeadModel" not in names, f"architecture is {names[0]}; only GPT2LMHeadModel can be converted"),
        (inner not in (None, 4 * width), f"n_inner is {inner}; llama.cpp takes 4 * n_embd = {4 * width}"),
        (activation not in ACTIVATIONS, f"activation_function is {activation!r}; llama.cpp computes {ACTIVATIONS[0]}"),
        (not config.get("scale_attn_weights", True), "scale_attn_weights is false; llama.cpp always scales"),
    ]
    unknown = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention")
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
        raise ConvertError(f"{folder} has a WordPiece tokenizer (vocab.txt), not GPT-2's byte-level BPE. Use another base.")
    return tokenizers.load(folder)


def check_tokenizer(words: PreTrainedTokenizerFast, where: str) -> None:
    """Refuse tokenizers that llama.cpp's `gpt-2` pre-tokeniser and BPE would not follow."""
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
            raise ConvertError(f"{where}: {what}; only GPT-2's byte-level BPE can be converted. Use a GPT-2 tokenizer.")


def _load_model(folder: Path) -> GPT2LMHeadModel:
    try:
        model, info = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ConvertError(f"{folder}: the weights cannot be loaded: {error}. Copy or save the checkpoint again.") from error
    # transformers fills what is missing with random numbers and goes on.
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(what):
            names = ", ".join(sorted(map(str, info[what]))[:3])
            raise ConvertError(f"{folder}: the weights have {what.replace('_', ' ')}: {names}. Save the checkpoint again.")
    model.eval()
    return model


def vocabulary(words: PreTrainedTokenizerFast) -> Vocabulary:
    """A tokenizer as GGUF holds it. Raises ConvertError for ids that are not 0 to n - 1 or a BPE without merges."""
    raw = json.loads(words.backend_tokenizer.to_str())
    by_id = {id_: token for token, id_ in words.get_vocab().items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise ConvertError(
            f"The tokenizer's {len(by_id)} tokens are not numbered without gaps. Save it again without unused ids."
        )
    kinds = dict.fromkeys((t["content"] for t in raw["added_tokens"]), gguf.TokenType.USER_DEFINED)
    kinds |= dict.fromkeys([*SPECIALS, *(t["content"] for t in raw["added_tokens"] if t["special"])], gguf.TokenType.CONTROL)
    tokens = [by_id[id_] for id_ in range(len(by_id))]
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
    words = vocabulary(checkpoint.tokenizer)
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
