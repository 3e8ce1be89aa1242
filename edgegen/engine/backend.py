"""The one seam between edgegen and a language model: tokens in, logits out, and the cache of sequences between.

Knows no sampling, no jobs and no llama.cpp. `llama.LlamaBackend` is the real one; the tests have a deterministic one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]


@dataclass(slots=True)
class Batch:
    """Tokens to decode together, in order, as columns. Each sequence's tokens continue where its cache ends."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    seqs: list[tuple[int, ...]] = field(default_factory=list)
    """Whose each token is; those that share one share its cell."""
    outputs: list[bool] = field(default_factory=list)
    """Whether the logits after each token are wanted."""
    wanted: int = 0
    """How many rows of logits it asks for."""

    def add(self, token: int, pos: int, seqs: tuple[int, ...], *, wanted: bool = False) -> None:
        """Append one token."""
        self.tokens.append(token)
        self.positions.append(pos)
        self.seqs.append(seqs)
        self.outputs.append(wanted)
        self.wanted += wanted

    def extend(self, tokens: Sequence[int], start: int, seqs: tuple[int, ...]) -> None:
        """Append tokens in a row, no logits of which are wanted."""
        n = len(tokens)
        self.tokens.extend(tokens)
        self.positions.extend(range(start, start + n))
        self.seqs.extend([seqs] * n)
        self.outputs.extend([False] * n)

    def __len__(self) -> int:
        """How many tokens it holds."""
        return len(self.tokens)


class Grammar(Protocol):
    """How far a text has come along a grammar."""

    def allows(self, ids: Ids) -> Mask:
        """Which of these tokens may come next: bool [len(ids)]. A token that ends texts may where the text may end."""

    def accept(self, token: int) -> None:
        """Go on with a token that is allowed."""

    def copy(self) -> Self:
        """Another text that has come as far."""


class Backend(Protocol):
    """A loaded model with its cache. Every call comes from the thread that made it."""

    @property
    def n_ctx(self) -> int:
        """Positions a sequence may have."""

    @property
    def n_cells(self) -> int:
        """Tokens the cache holds in all; a token that several sequences share takes one."""

    @property
    def n_vocab(self) -> int:
        """Size of the vocabulary, and of a row of logits."""

    @property
    def max_sequences(self) -> int:
        """Sequences the cache tells apart: ids 0 to max_sequences - 1."""

    @property
    def batch(self) -> int:
        """Tokens that it takes in one go; a longer batch takes several."""

    @property
    def most_rows(self) -> int:
        """Rows of logits that a batch gives in one go; one that asks for more takes several."""

    @property
    def eos(self) -> int | None:
        """The token that ends a text, if the model has one."""

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text, without a start token. Control tokens in it are plain text unless `special`."""

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes of a token; a control token gives its own text."""

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token, as opposed to text."""

    def is_end(self, token: int) -> bool:
        """Whether a token ends a text: `eos`, or another that the model was trained to end texts of some kind with."""

    def control_id(self, token: str) -> int | None:
        """The id of a control token given as text, or None where the model has none."""

    def grammar(self, text: str) -> Grammar:
        """A grammar in GBNF, at its beginning. Raises GrammarError for one that cannot be read."""

    def decode(self, batch: Batch) -> Logits:
        """Run a batch; float32 [batch.wanted, n_vocab], the caller's to change, gone with the next decode. Raises EngineError."""

    def fork(self, src: int, dst: int, upto: int) -> None:
        """Let `dst` share the first `upto` tokens of `src`. `dst` must be empty."""

    def drop(self, seq: int, from_pos: int = 0) -> None:
        """Forget a sequence's tokens from a position on."""

    def set_threads(self, n: int) -> None:
        """Use `n` threads from the next decode on."""

    def close(self) -> None:
        """Free the model. Nothing may be called after it but close() itself."""
