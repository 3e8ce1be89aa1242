"""Pairs as token ids: prompt, text, end. Owns the encoding and the batches; the loss is on the text only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from edgegen import licensing, slots, tasks
from edgegen.decode import ends_clause, ends_sentence
from edgegen.engine.ngrams import NGrams
from edgegen.errors import DataError
from edgegen.licensing import Ends, Features, Table
from edgegen.slots import END, SPECIALS, Prompt, Segment
from edgegen.train import ngrams
from edgegen.train.pairs import Pair

IGNORE = -100
_SHORT = 32  # texts up to here recur (keys, words, joints) and are kept


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one pair; the text (with its end token) begins at `start`."""

    ids: np.ndarray
    start: int


class Encoder:
    """Encodes pairs with a tokenizer, user text never parsed for special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._backend.encode_special_tokens = True
        self._controls = {token: self._backend.token_to_id(token) for token in SPECIALS}
        if missing := [token for token, id_ in self._controls.items() if id_ is None]:
            raise DataError(f"The tokenizer lacks edgegen's tokens {missing[:3]}... Add them before training.")
        self._cache: dict[str, list[int]] = {}
        texts = [tokenizer.decode([i]) for i in range(len(tokenizer))]
        self._ends = Ends(*(frozenset(i for i, text in enumerate(texts) if ends(text)) for ends in (ends_sentence, ends_clause)))

    def text_ids(self, text: str) -> list[int]:
        """Ids of plain text."""
        ids = self._cache.get(text)
        if ids is None:
            ids = self._backend.encode(text, add_special_tokens=False).ids
            if len(text) < _SHORT:
                self._cache[text] = ids
        return ids

    def pair(self, pair: Pair) -> Example:
        """Ids of a pair: the prompt shows the facts that its text tells."""
        return self.example(*self.told(pair))

    def example(self, prompt: Prompt, segments: Sequence[Segment]) -> Example:
        """Ids of a prompt and a text on it."""
        head = slots.encode(prompt.pieces, self.text_ids, self._controls)
        tail = slots.encode(slots.to_pieces(segments), self.text_ids, self._controls)
        return Example(np.asarray([*head, *tail, self._controls[END]], dtype=np.int32), len(head))

    def licensed(self, pair: Pair) -> Iterator[tuple[int, Features]]:
        """Each token of a pair's text that is no slot, with the features of the facts told there."""
        prompt, segments = self.told(pair)
        scopes, written = licensing.scopes(prompt), list[int]()
        offered = {self._controls[slot.control.token]: slot for slot in prompt.slots}
        for token in slots.encode(slots.to_pieces(segments), self.text_ids, self._controls):
            if token not in offered:
                yield token, scopes.of(licensing.section_of(written, offered.get, self._ends, prompt, scopes))
            written.append(token)

    def told(self, pair: Pair) -> tuple[Prompt, list[Segment]]:
        """The prompt that shows what a pair's text tells, and the text on it."""
        return pair.prompted()


class PairDataset(Dataset[Example]):
    """Encoded pairs that fit the context."""

    def __init__(self, encoder: Encoder, pairs: Iterable[Pair], context: int) -> None:
        found = [(encoder.pair(pair), f"{pair.request.task}.{pair.request.lang}") for pair in pairs]
        kept = [(example, group) for example, group in found if len(example.ids) <= context]
        self.examples = [example for example, _ in kept]
        self.groups = [group for _, group in kept]
        self.too_long = len(found) - len(kept)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(e.ids) for e in self.examples]


def collate(examples: Sequence[Example], pad: int) -> dict[str, Any]:
    """A right-padded batch: `input_ids` and `labels`, both int64 [examples, longest].

    No attention mask: with causal attention a token never sees the padding to its right.
    """
    width = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), width), pad, dtype=torch.int64)
    labels = torch.full((len(examples), width), IGNORE, dtype=torch.int64)
    for row, example in enumerate(examples):
        tokens = torch.from_numpy(example.ids.astype(np.int64))
        ids[row, : len(tokens)] = tokens
        labels[row, example.start : len(tokens)] = tokens[example.start :]
    return {"input_ids": ids, "labels": labels}


def licensing_table(encoder: Encoder, pairs: Iterable[Pair]) -> Table:
    """Which facts license which tokens in the texts of each task and language; pairs of one come together."""
    free = (pair for pair in pairs if not tasks.get(pair.request.task).choices)
    groups = groupby(free, key=lambda pair: f"{pair.request.task}.{pair.request.lang}")
    return {name: licensing.learn(token for pair in found for token in encoder.licensed(pair)) for name, found in groups}


def draft_table(pairs: PairDataset, n_vocab: int) -> NGrams:
    """What mostly follows what in the texts of pairs, each after its prompt."""
    return ngrams.learn(((example.ids, example.start) for example in pairs.examples), n_vocab)
