"""Learns a draft table from the texts that a model is trained on: see `edgegen.engine.ngrams`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgegen.engine.ngrams import BASIS, LEVELS, LONGEST, MASK, MOST, MULTIPLIER, SHIFT, NGrams

_SEEN = 4  # a context that stands in fewer places says nothing
_CALM = 0.25  # what a better known chance of the same token is worth, beside a right token in place of a wrong one

Ids = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]


def learn(texts: Iterable[tuple[Sequence[int] | np.ndarray, int]], n_vocab: int, most: int = MOST) -> NGrams:
    """A table of at most `most` contexts from texts: token ids, and where what is to be guessed begins."""
    places = _Places(texts)
    orders = [_order(places, length) for length in range(1, LONGEST + 1)]
    least = float(_SEEN)
    while (kept := _select(places, orders, least)) and sum(len(part[0]) for part in kept) > most:
        least *= 1.25
    keys, tokens, levels = (np.concatenate(column) for column in zip(*kept, strict=True))
    # Of two contexts of one hash the shorter stays, which stands first.
    keys, first = np.unique(keys, return_index=True)
    return NGrams(n_vocab, keys.tolist(), tokens[first].tolist(), levels[first].tolist())


class _Places:
    """Every place of the texts where a token is to be guessed: what stands there, and where in all ids it stands."""

    def __init__(self, texts: Iterable[tuple[Sequence[int] | np.ndarray, int]]) -> None:
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
    keys = np.full(len(places.at), BASIS, dtype=np.uint64)
    for back in range(1, length + 1):
        keys = (keys ^ places.ids[places.at - back].astype(np.uint64)) * np.uint64(MULTIPLIER) & np.uint64(MASK)
        keys ^= keys >> np.uint64(SHIFT)
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
