"""Texts without slots, to compare and to weigh a model by that has none of edgegen's tokens. Such a model serves no task."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerFast

from edgegen import slots, tasks
from edgegen.slots import SPECIALS
from edgegen.train.dataset import Encoder, Example
from edgegen.train.pairs import Pair


def encoder(words: PreTrainedTokenizerFast) -> Encoder | PlainEncoder:
    """The encoder of pairs that fits a tokenizer."""
    return Encoder(words) if set(SPECIALS) <= set(words.get_vocab()) else PlainEncoder(words)


class PlainEncoder:
    """Encodes what a reader sees of a pair's text; its first half stands for the prompt."""

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        """User text is never parsed for special tokens."""
        self._backend = words.backend_tokenizer
        self._backend.encode_special_tokens = True

    def text_ids(self, text: str) -> list[int]:
        """Ids of plain text."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def pair(self, pair: Pair) -> Example:
        """Ids of a pair's text, its values in place of the slots."""
        prompt = tasks.get(pair.request.task).prompt(pair.request)
        ids = self.text_ids(slots.render(slots.parse(pair.text, prompt), pair.request.lang))
        return Example(np.asarray(ids, dtype=np.int32), max(1, len(ids) // 2))
