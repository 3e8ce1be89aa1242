"""The draft table: which token mostly follows the last few of a text. Learnt from the texts that a model was trained on. Pure.

A guess costs a text nothing but time where it is wrong, because the model verifies it. So contexts are kept as 32-bit hashes,
and only those that say something their shorter ends do not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FILE = "draft.bin"
LONGEST = 6
"""Tokens of a context at most."""
MOST = 48_000
"""Contexts of a table at most: 7 bytes each where the vocabulary has at most 65536 tokens, else 9."""
LEVELS = 16
"""Chances are kept in so many levels; level i is about (i + 0.5) / LEVELS."""
_MAGIC = b"EDGEGEN-DRAFT-1\n"
_HEAD = struct.Struct("<16sII")  # magic, size of the vocabulary, contexts
_LARGEST_VOCABULARY = 1 << 20
_BASIS, _MULTIPLIER, _MASK = 0x811C9DC5, 0x9E3779B1, 0xFFFF_FFFF
_SEEN = 4  # a context that stands in fewer places says nothing
_CALM = 0.25  # what a better known chance of the same token is worth, beside a right token in place of a wrong one

Ids = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]
Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Guess:
    """A token that may come next, the level of its chance, and how many tokens of the text speak for it."""

    token: int
    level: int
    length: int


@dataclass(frozen=True, eq=False)
class NGrams:
    """Hashes of contexts in ascending order, with the token that mostly follows each and its level."""

    n_vocab: int
    keys: Keys
    tokens: Keys
    levels: Levels

    def __post_init__(self) -> None:
        """Check that it is whole. Raises ValueError."""
        if not 0 < self.n_vocab <= _LARGEST_VOCABULARY or len({len(self.keys), len(self.tokens), len(self.levels)}) != 1:
            raise ValueError("its sizes do not fit each other")
        if (self.keys[1:] <= self.keys[:-1]).any():
            raise ValueError("its contexts are not in order")
        if (self.tokens >= self.n_vocab).any() or (self.levels >= LEVELS).any():
            raise ValueError("it names tokens or chances that there are not")

    def guess(self, text: Sequence[int]) -> Guess | None:
        """What mostly follows a text, by its longest end that the table knows."""
        slots, shift = self._slots
        key, found, reach = _BASIS, 0, 0
        for length, token in enumerate(reversed(text[-LONGEST:]), 1):
            key = _longer(key, token)
            at = key >> shift
            while (slot := slots[at]) and slot >> 32 != key:
                at += 1
            if slot:
                found, reach = slot, length
        return Guess(found >> 8 & 0xFF_FFFF, (found & 0xFF) - 1, reach) if found else None

    @cached_property
    def _slots(self) -> tuple[memoryview, int]:
        """A hash table that Python reads fast: key, token and level + 1 in 64 bits, each at home or as soon after as is free."""
        bits = len(self.keys).bit_length() + 1  # at most half full
        home = (self.keys >> np.uint32(32 - bits)).astype(np.int64)
        order = np.arange(len(self.keys))
        at = np.maximum.accumulate(home - order) + order if len(order) else order
        slots = np.zeros(max(1 << bits, int(at[-1]) + 1 if len(at) else 0) + 1, dtype=np.uint64)
        words = [part.astype(np.uint64) for part in (self.keys, self.tokens, self.levels)]
        slots[at] = words[0] << np.uint64(32) | words[1] << np.uint64(8) | words[2] + np.uint64(1)
        return memoryview(slots.data), 32 - bits

    def to_bytes(self) -> bytes:
        """The table as a file: head, then the hashes, tokens and levels, little-endian."""
        head = _HEAD.pack(_MAGIC, self.n_vocab, len(self.keys))
        tokens = self.tokens.astype(_token_type(self.n_vocab))
        return b"".join([head, self.keys.astype("<u4").tobytes(), tokens.tobytes(), self.levels.tobytes()])


def from_bytes(data: bytes) -> NGrams:
    """The table that `to_bytes` wrote. Raises ValueError for anything else."""
    if len(data) < _HEAD.size:
        raise ValueError("it is cut off")
    magic, n_vocab, count = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it is no draft table of this format")
    kind = _token_type(n_vocab)
    if len(data) != _HEAD.size + count * (4 + kind.itemsize + 1):
        raise ValueError("its size does not fit what it says")
    keys = np.frombuffer(data, "<u4", count, _HEAD.size)
    tokens = np.frombuffer(data, kind, count, _HEAD.size + 4 * count)
    levels = np.frombuffer(data, np.uint8, count, len(data) - count)
    return NGrams(n_vocab, keys.astype(np.uint32), tokens.astype(np.uint32), levels)


def _token_type(n_vocab: int) -> np.dtype[np.generic]:
    return np.dtype("<u2" if n_vocab <= 1 << 16 else "<u4")


def _longer(key: int, token: int) -> int:
    """The hash of a context with one more token before it."""
    key = (key ^ token) * _MULTIPLIER & _MASK
    return key ^ key >> 15


def learn(texts: Iterable[tuple[Sequence[int], int]], n_vocab: int, most: int = MOST) -> NGrams:
    """A table of at most `most` contexts from texts: token ids, and where what is to be guessed begins."""
    places = _Places(texts)
    orders = [_order(places, length) for length in range(1, LONGEST + 1)]
    least = float(_SEEN)
    while (kept := _select(places, orders, least)) and sum(len(part[0]) for part in kept) > most:
        least *= 1.25
    keys, tokens, levels = (np.concatenate(column) for column in zip(*kept, strict=True))
    # Of two contexts of one hash the shorter stays, which stands first.
    keys, first = np.unique(keys, return_index=True)
    return NGrams(n_vocab, keys, tokens[first].astype(np.uint32), levels[first].astype(np.uint8))


class _Places:
    """Every place of the texts where a token is to be guessed: what stands there, and where in all ids it stands."""

    def __init__(self, texts: Iterable[tuple[Sequence[int], int]]) -> None:
        pad = np.full(LONGEST, -1, dtype=np.int64)  # no context reaches into the text before
        parts, at, end = [pad], [np.empty(0, dtype=np.int64)], LONGEST
        for ids, start in texts:
            parts += [np.asarray(ids, dtype=np.int64), pad]
            at.append(np.arange(end + start, end + len(ids)))
            end += len(ids) + LONGEST
        self.ids, self.at = np.concatenate(parts), np.concatenate(at)
        self.next = self.ids[self.at]


@dataclass(frozen=True, slots=True)
class _Order:
    """The contexts of one length: each one's hash, places, likeliest token and that token's count, and whose each place is."""

    keys: Keys
    counts: Ids
    tokens: Ids
    hits: Ids
    group: Ids
    first: Ids


def _order(places: _Places, length: int) -> _Order:
    keys = np.full(len(places.at), _BASIS, dtype=np.uint64)
    for back in range(1, length + 1):
        keys = (keys ^ places.ids[places.at - back].astype(np.uint64)) * np.uint64(_MULTIPLIER) & np.uint64(_MASK)
        keys ^= keys >> np.uint64(15)
    found, first, group, counts = np.unique(keys.astype(np.uint32), return_index=True, return_inverse=True, return_counts=True)
    pairs, hits = np.unique(group.astype(np.int64) << 24 | places.next, return_counts=True)
    owner = pairs >> 24
    order = np.lexsort((pairs, -hits, owner))
    best = order[np.unique(owner[order], return_index=True)[1]]
    return _Order(found, counts, pairs[best] & 0xFF_FFFF, hits[best], group, first)


def _select(places: _Places, orders: Sequence[_Order], least: float) -> list[tuple[Keys, Ids, Ids]]:
    """The contexts that are worth `least` right guesses more than what the shorter ones say."""
    kept: list[tuple[Keys, Ids, Ids]] = []
    told, chance = np.full(len(places.at), -1, dtype=np.int64), np.zeros(len(places.at))
    for order in orders:
        right = np.bincount(order.group, places.next == told, len(order.keys))
        share = order.hits / (order.counts + 1)
        before = told[order.first], chance[order.first]
        calmer = _CALM * order.counts * np.abs(share - before[1])
        gain = np.where(before[0] == order.tokens, calmer, order.hits - right)
        worth = (order.counts >= _SEEN) & (gain >= least)
        kept.append((order.keys[worth], order.tokens[worth], np.minimum(share[worth] * LEVELS, LEVELS - 1).astype(np.int64)))
        at = worth[order.group]
        told, chance = np.where(at, order.tokens[order.group], told), np.where(at, share[order.group], chance)
    return kept
