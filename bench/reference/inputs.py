"""Checkpoints of every kind, ordinary and odd. Each function writes one and is a row of the table; its docstring names it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import checkpoints
from .checkpoints import SMALL, edit_config

BASE, ADAPTER = "base", "adapter"
"""Folders of a case: the checkpoint, and the adapter where there is one."""
_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
Make = Callable[[Path, Path], None]


def _configs() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Rows that differ by their config: how the model is made, and what is changed in the file."""
    return {
        "an ordinary GPT-2, with `n_ctx`": ({}, {}),
        "a config of transformers 5, without `n_ctx`": ({}, {"n_ctx": None}),
        "an output matrix of its own": ({"tie_word_embeddings": False}, {}),
        "a bare `GPT2Model`": ({}, {"architectures": ["GPT2Model"]}),
        "`n_inner` of 3 x `n_embd`": ({"n_inner": 3 * SMALL["n_embd"]}, {}),
        "`activation_function`: `relu`": ({"activation_function": "relu"}, {}),
        "`scale_attn_weights`: false": ({"scale_attn_weights": False}, {}),
        "`scale_attn_by_inverse_layer_idx`": ({"scale_attn_by_inverse_layer_idx": True}, {}),
        "`reorder_and_upcast_attn`": ({"reorder_and_upcast_attn": True}, {}),
        "`n_ctx` of half of `n_positions`": ({}, {"n_ctx": SMALL["n_positions"] // 2}),
    }


def _of_config(made: Mapping[str, Any], edited: Mapping[str, Any]) -> Make:
    def make(vocabulary: Path, folder: Path) -> None:
        words = checkpoints.words(vocabulary)
        checkpoints.save(folder / BASE, checkpoints.model(len(words), SMALL, **made), words)
        edit_config(folder / BASE, **edited)

    return make


def _of_words(change: Callable[[Any], Any]) -> Make:
    def make(vocabulary: Path, folder: Path) -> None:
        words = change(checkpoints.words(vocabulary))
        checkpoints.save(folder / BASE, checkpoints.model(len(words), SMALL), words)

    return make


def _own_words(_: Any) -> Any:
    from edgegen.slots import SPECIALS
    from edgegen.train import tokenizer

    return tokenizer.train(["It's a walnut desk for a small room.", "这张木桌很结实，适合小户型。"] * 8, len(SPECIALS) + 300)


def _prefix_space(words: Any) -> Any:
    from tokenizers import pre_tokenizers

    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return words


def _other_split(words: Any) -> Any:
    from tokenizers import Regex, pre_tokenizers

    parts: list[Any] = [
        pre_tokenizers.Split(Regex(_CL100K), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return words


def _normalised(words: Any) -> Any:
    from tokenizers import normalizers

    words.backend_tokenizer.normalizer = normalizers.NFC()
    return words


def _greedy_token(words: Any) -> Any:
    from tokenizers import AddedToken

    words.add_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)], special_tokens=True)
    return words


def _word_piece(_: Path, folder: Path) -> None:
    from transformers import BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,'-木桌很结实。", "##s", "##t"]
    base = folder / BASE
    checkpoints.model(len(pieces), SMALL, bos_token_id=2, eos_token_id=3).save_pretrained(base)
    edit_config(base, n_ctx=SMALL["n_positions"], tokenizer_class="BertTokenizer")
    (base / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), "utf-8")
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": BertTokenizer.__name__}), "utf-8")


def _rows(difference: int) -> Make:
    def make(vocabulary: Path, folder: Path) -> None:
        words = checkpoints.words(vocabulary)
        checkpoints.save(folder / BASE, checkpoints.model(len(words) + difference, SMALL), words)

    return make


def _of_weights(change: Callable[[dict[str, Any]], None]) -> Make:
    def make(vocabulary: Path, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        _of_config({}, {})(vocabulary, folder)
        path = folder / BASE / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return make


def _dtype(name: str) -> Make:
    def change(tensors: dict[str, Any]) -> None:
        import torch

        tensors |= {key: tensor.to(getattr(torch, name)) for key, tensor in tensors.items()}

    return _of_weights(change)


def _pickled(vocabulary: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    _of_config({}, {})(vocabulary, folder)
    path = folder / BASE / "model.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()


def _sharded(vocabulary: Path, folder: Path) -> None:
    words = checkpoints.words(vocabulary)
    made = checkpoints.model(len(words), SMALL)
    checkpoints.save(folder / BASE, made, words)
    (folder / BASE / "model.safetensors").unlink()
    made.save_pretrained(folder / BASE, max_shard_size="200kB")
    edit_config(folder / BASE, n_ctx=SMALL["n_positions"])


def _adapter(targets: str) -> Make:
    def make(vocabulary: Path, folder: Path) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        words = checkpoints.words(vocabulary)
        made = checkpoints.model(len(words), SMALL)
        checkpoints.save(folder / BASE, made, words)
        tuned = get_peft_model(made, LoraConfig(r=4, lora_alpha=8, target_modules=targets, fan_in_fan_out=True))
        with torch.no_grad():
            for name, value in tuned.named_parameters():
                if "lora_" in name:
                    value.copy_(0.2 * torch.randn_like(value))
        tuned.save_pretrained(folder / ADAPTER)

    return make


def _lack(tensors: dict[str, Any]) -> None:
    del tensors["transformer.h.1.mlp.c_fc.bias"]


def _one_more(tensors: dict[str, Any]) -> None:
    tensors["transformer.h.1.attn.extra.weight"] = tensors["transformer.h.1.ln_1.weight"].clone()


def _other_shape(tensors: dict[str, Any]) -> None:
    name = "transformer.h.1.mlp.c_fc.weight"
    tensors[name] = tensors[name][:, :-64].contiguous()


CASES: dict[str, Make] = {
    **{what: _of_config(*how) for what, how in _configs().items()},
    "weights in fp16": _dtype("float16"),
    "weights in bf16": _dtype("bfloat16"),
    "weights in fp64": _dtype("float64"),
    "weights in `.bin`": _pickled,
    "weights in shards": _sharded,
    "more rows than tokens": _rows(7),
    "more tokens than rows": _rows(-7),
    "weights that lack a tensor": _of_weights(_lack),
    "weights with one too many": _of_weights(_one_more),
    "a tensor of another shape": _of_weights(_other_shape),
    "a byte-level BPE of one's own": _of_words(_own_words),
    "`add_prefix_space`": _of_words(_prefix_space),
    "another pre-tokenisation (cl100k's)": _of_words(_other_split),
    "a normaliser (NFC)": _of_words(_normalised),
    "an added token that takes in the space before it": _of_words(_greedy_token),
    "WordPiece (`vocab.txt`)": _word_piece,
    "LoRA on the attention's output, a square matrix": _adapter(r".*attn\.c_proj"),
    "LoRA on attention and feed-forward": _adapter(r".*(c_attn|c_proj|c_fc)"),
}
"""Rows of the table: what the input is, and how it is written."""


def make(what: str, vocabulary: Path, folder: Path) -> None:
    """Write the input of a row."""
    CASES[what](vocabulary, folder)


def slug(what: str) -> str:
    """A folder's name for a row."""
    return re.sub(r"\W+", "-", what).strip("-")
