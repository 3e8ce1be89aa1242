"""The byte-level BPE tokenizer: trained on a corpus, with edgegen's control and slot tokens as added tokens.

The pre-tokenisation is GPT-2's own, so that llama.cpp's `gpt-2` pre-tokeniser gives the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from edgegen.errors import ConvertError
from edgegen.slots import END, SPECIALS


def train(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with `vocab_size` entries, the added tokens among them (they come last)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return wrap(tokenizer)


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """As a transformers tokenizer, end-of-text and padding set."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, unk_token=END, pad_token=SPECIALS[0])


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint folder. Raises ConvertError where it lacks one."""
    if not (folder / "tokenizer.json").is_file():
        raise ConvertError(f"{folder} holds no tokenizer.json. Save the tokenizer beside the model.")
    return PreTrainedTokenizerFast.from_pretrained(folder)
