"""The draft table: which token mostly follows the last few of a text. Pure; `edgegen.train.ngrams` learns one.

A guess costs a text nothing but time where it is wrong, because the model verifies it. So contexts are kept as 32-bit hashes,
and only those that say something their shorter ends do not. A file of a table is, little-endian: 16 bytes of magic, the size
of the vocabulary and the number of contexts as 32-bit numbers, the contexts' hashes in ascending order (32 bits each), the
tokens that mostly follow them (16 bits each, 32 where the vocabulary has more than 65536), and their levels (8 bits each).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

LONGEST = 6
"""Tokens of a context at most."""
MOST = 48_000
"""Contexts of a table at most: 7 bytes each where a token takes two."""
LARGEST = 8 << 20
"""Bytes a file may have."""
LEVELS = 16
"""Chances are kept in so many levels; level i is about (i + 0.5) / LEVELS."""
BASIS, MULTIPLIER, SHIFT, MASK = 0x811C9DC5, 0x9E3779B1, 15, 0xFFFF_FFFF
"""A context's hash: from its last token back, the hash so far xor the token, times the multiplier, xor itself shifted."""
_MAGIC = b"EDGEGEN-DRAFT-1\n"
_HEAD = struct.Struct("<16sII")
_LARGEST_VOCABULARY = 1 << 20
_SHORT = 1 << 16


class Guess(NamedTuple):
    """A token that may come next, the level of its chance, and how many tokens of the text speak for it."""

    token: int
    level: int
    length: int


@dataclass(frozen=True, eq=False)
class NGrams:
    """Hashes of contexts in ascending order, with the token that mostly follows each and its level."""

    n_vocab: int
    keys: Sequence[int]
    tokens: Sequence[int]
    levels: Sequence[int]

    def __post_init__(self) -> None:
        """Check that it is whole. Raises ValueError."""
        if not 0 < self.n_vocab <= _LARGEST_VOCABULARY or len({len(self.keys), len(self.tokens), len(self.levels)}) != 1:
            raise ValueError("its sizes do not fit each other")
        if any(key >= after for key, after in zip(self.keys, self.keys[1:], strict=False)):
            raise ValueError("its contexts are not in order")
        if max(self.tokens, default=0) >= self.n_vocab or max(self.levels, default=0) >= LEVELS:
            raise ValueError("it names tokens or chances that there are not")

    def guess(self, text: Sequence[int]) -> Guess | None:
        """What mostly follows a text, by its longest end that the table knows."""
        slots, shift = self._slots
        key, found, reach = BASIS, 0, 0
        for length, token in enumerate(text[: -LONGEST - 1 : -1], 1):
            key = (key ^ token) * MULTIPLIER & MASK
            key ^= key >> SHIFT
            at = key >> shift
            while (slot := slots[at]) and slot >> 32 != key:
                at += 1
            if slot:
                found, reach = slot, length
        return Guess(found >> 8 & 0xFF_FFFF, (found & 0xFF) - 1, reach) if found else None

    @cached_property
    def _slots(self) -> tuple[array[int], int]:
        """A hash table in little memory: key, token and level + 1 in 64 bits, each at its home or as soon after as is free."""
        bits = len(self.keys).bit_length() + 1  # at most half full
        slots, free = array("Q", bytes(8 * ((1 << bits) + len(self.keys) + 1))), 0
        for key, token, level in zip(self.keys, self.tokens, self.levels, strict=True):
            free = max(free, key >> 32 - bits)
            slots[free] = key << 32 | token << 8 | level + 1
            free += 1
        return slots, 32 - bits

    def to_bytes(self) -> bytes:
        """The table as a file."""
        columns = (("I", self.keys), (_code(self.n_vocab), self.tokens), ("B", self.levels))
        return b"".join([_HEAD.pack(_MAGIC, self.n_vocab, len(self.keys)), *(_little(array(*c)).tobytes() for c in columns)])


def from_bytes(data: bytes) -> NGrams:
    """The table that `to_bytes` wrote. Raises ValueError for anything else."""
    if not _HEAD.size <= len(data) <= LARGEST:
        raise ValueError("it is cut off, or too large")
    magic, n_vocab, count = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it is no draft table of this format")
    columns, at = [array("I"), array(_code(n_vocab)), array("B")], _HEAD.size
    if len(data) != at + count * sum(column.itemsize for column in columns):
        raise ValueError("its size does not fit what it says")
    for column in columns:
        column.frombytes(data[at : at + count * column.itemsize])
        at += count * column.itemsize
    return NGrams(n_vocab, *map(_little, columns))


def _code(n_vocab: int) -> str:
    return "H" if n_vocab <= _SHORT else "I"


def _little(column: array[int]) -> array[int]:
    """Between this machine's order of bytes and the file's."""
    if sys.byteorder == "big":
        column.byteswap()
    return column
