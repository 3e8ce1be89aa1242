"""A deterministic backend without a model: bytes and edgegen's control tokens as vocabulary, logits from a hash.

It keeps its cache the way llama.cpp keeps a unified one: a cell holds a token at a position for a set of sequences.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgegen.engine.backend import Batch, Logits
from edgegen.engine.grammar import Automaton, Followed, Words
from edgegen.engine.options import BATCH
from edgegen.errors import EngineError
from edgegen.slots import CONTROLS, END, SLOT_TOKENS, SPECIALS

TEXT = 256
VOCABULARY = tuple(bytes([i]) for i in range(TEXT)) + tuple(token.encode() for token in SPECIALS)
_GATE_S = 10
Script = Callable[[tuple[int, ...]], Logits]


@dataclass
class Cell:
    """A token in the cache and the sequences it belongs to."""

    token: int
    pos: int
    seqs: set[int] = field(default_factory=set)


def hashed(context: tuple[int, ...]) -> Logits:
    """Logits that depend on every token of the context."""
    seed = zlib.crc32(np.asarray(context, dtype=np.int64).tobytes())
    return 3 * np.random.default_rng(seed).standard_normal(len(VOCABULARY), dtype=np.float32)


def scripted(text: str, *, end: str = END) -> Script:
    """Logits that favour `text` byte by byte, its slot marks as slot tokens, after the prompt, then the end token.

    The prompt ends with its last control token that is no slot.
    """
    parts = re.split(r"(<\|v\d+\|>)", text)
    wanted = [id_ for part in parts for id_ in ([TEXT + SPECIALS.index(part)] if part in SLOT_TOKENS else part.encode())]
    wanted.append(TEXT + SPECIALS.index(end))

    def logits(context: tuple[int, ...]) -> Logits:
        start = max((i + 1 for i, token in enumerate(context) if TEXT <= token < TEXT + len(CONTROLS)), default=0)
        row = np.zeros(len(VOCABULARY), dtype=np.float32)
        row[wanted[min(len(context) - start, len(wanted) - 1)]] = 50
        return row

    return logits


class FakeBackend:
    """Implements `edgegen.engine.backend.Backend`."""

    def __init__(self, script: Script = hashed, *, n_ctx: int = 256, n_cells: int = 512, max_sequences: int = 12) -> None:
        """`script` gives the logits after a context."""
        self.n_ctx, self.n_cells, self.max_sequences, self.n_vocab = n_ctx, n_cells, max_sequences, len(VOCABULARY)
        self.most_rows, self.batch = 64, BATCH
        self.eos: int | None = TEXT + SPECIALS.index(END)
        self.cells: list[Cell] = []
        self.decoded: list[int] = []
        """The number of tokens of each batch."""
        self.threads, self.closed = 0, False
        self._script = script

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Bytes; control tokens are found only when `special`."""
        ids: list[int] = []
        while text:
            found = next((i for i, token in enumerate(SPECIALS) if special and text.startswith(token)), None)
            head = text[0] if found is None else SPECIALS[found]
            ids += list(head.encode()) if found is None else [TEXT + found]
            text = text[len(head) :]
        return ids

    def token_bytes(self, token: int) -> bytes:
        """One byte, or the text of a control token."""
        return VOCABULARY[token]

    def is_control(self, token: int) -> bool:
        """Whether it is one of edgegen's control tokens."""
        return token >= TEXT

    def is_end(self, token: int) -> bool:
        """Whether it is the end token."""
        return token == self.eos

    def control_id(self, token: str) -> int | None:
        """The id of a control token."""
        return TEXT + SPECIALS.index(token) if token in SPECIALS else None

    def grammar(self, text: str) -> Followed:
        """A grammar in GBNF, at its beginning."""
        return Followed(Automaton(text, Words(VOCABULARY, [] if self.eos is None else [self.eos])))

    def decode(self, batch: Batch) -> Logits:
        """Put tokens into the cache; a row of the script's logits for each that is wanted."""
        self.decoded.append(len(batch))
        columns = zip(batch.tokens, batch.positions, batch.seqs, batch.outputs, strict=True)
        rows = [row for entry in columns if (row := self._decode(*entry)) is not None]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.n_vocab)

    def _decode(self, token: int, pos: int, seqs: tuple[int, ...], wanted: bool) -> Logits | None:
        if not 0 <= pos < self.n_ctx or not 0 <= token < self.n_vocab:
            raise EngineError(f"Token {token} or position {pos} is out of range.")
        if not seqs or not all(0 <= seq < self.max_sequences for seq in seqs):
            raise EngineError(f"Sequences {seqs} are out of range.")
        for seq in seqs:
            if pos != (n := sum([seq in cell.seqs for cell in self.cells])):
                raise EngineError(f"Sequence {seq} has {n} tokens, got position {pos}.")
        if len(self.cells) == self.n_cells:
            raise EngineError(f"The cache of {self.n_cells} tokens is full.")
        self.cells.append(Cell(token, pos, set(seqs)))
        return self._script(self.context(seqs[0])) if wanted else None

    def context(self, seq: int) -> tuple[int, ...]:
        """The tokens of a sequence."""
        return tuple([cell.token for cell in self.cells if seq in cell.seqs])  # a sequence's cells come in their order

    def fork(self, src: int, dst: int, upto: int) -> None:
        """Let `dst` share cells of `src`."""
        for cell in self.cells:
            if src in cell.seqs and cell.pos < upto:
                cell.seqs.add(dst)

    def drop(self, seq: int, from_pos: int = 0) -> None:
        """Take cells from a sequence and forget those that nobody has."""
        for cell in self.cells:
            if cell.pos >= from_pos:
                cell.seqs.discard(seq)
        self.cells = [cell for cell in self.cells if cell.seqs]

    def set_threads(self, n: int) -> None:
        """Note the number."""
        self.threads = n

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class Gate(FakeBackend):
    """A fake that stops before each step until it is let through."""

    def __init__(self, script: Script = hashed) -> None:
        """Closed at first."""
        super().__init__(script)
        self.entered, self.open = threading.Event(), threading.Event()

    def decode(self, batch: Batch) -> Logits:
        """Wait, then decode."""
        self.entered.set()
        assert self.open.wait(_GATE_S)
        return super().decode(batch)
