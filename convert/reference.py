"""What PyTorch and transformers make of a checkpoint: the other side of every comparison, and where training starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import BertTokenizerFast, GPT2LMHeadModel, GPT2Tokenizer, PreTrainedTokenizerFast

from convert.words import Words
from edgegen.errors import ConvertError
from edgegen.train import tokenizer as tokenizers

if TYPE_CHECKING:
    from convert.checkpoint import Checkpoint


def load_model(folder: Path) -> GPT2LMHeadModel:
    """The fp32 model of a folder in evaluation mode. Raises ConvertError."""
    try:
        model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ConvertError(f"{folder}: the weights cannot be loaded: {error}. Copy or save the checkpoint again.") from error
    model.eval()
    return model


def load_tokenizer(words: Words) -> PreTrainedTokenizerFast:
    """The tokenizer of transformers for the same folder. Raises ConvertError where it reads other tokens from it."""
    folder = words.folder
    try:
        if (folder / "tokenizer.json").is_file():
            found = tokenizers.load(folder)
        else:
            found = (GPT2Tokenizer if (folder / "vocab.json").is_file() else BertTokenizerFast).from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise ConvertError(f"{folder}: transformers cannot load the tokenizer: {error}. Save the tokenizer again.") from error
    theirs = found.get_vocab()
    if theirs != words.vocab:
        odd = sorted(set(theirs.items()) ^ set(words.vocab.items()))[:3]
        raise ConvertError(
            f"{folder}: transformers reads other tokens from the tokenizer than its files say ({odd}). Load it and save it again."
        )
    for role in ("bos", "eos"):
        token, ours = getattr(found, f"{role}_token"), words.named.get(role)
        if token is not None and token != ours:
            raise ConvertError(
                f"{folder}: transformers takes {token!r} as {role} token, the files say {ours!r}. Load and save it again."
            )
    return found


@torch.inference_mode()
def greedy(checkpoint: Checkpoint, prompt: Sequence[int], count: int) -> list[int]:
    """What the checkpoint writes after a prompt in PyTorch, the end token included."""
    ids = torch.tensor([list(prompt)])
    written = checkpoint.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
        eos_token_id=checkpoint.words.id("eos"), pad_token_id=checkpoint.words.id("pad"),
    )  # fmt: skip
    return [int(token) for token in written[0, len(prompt) :]]
