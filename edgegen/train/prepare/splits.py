"""Which split a pair goes to, and what two splits share. Pure.

What must not be in two splits is a group: a product, or a set of facts. A group's place is a hash of its name, so that it keeps
it when the data grow; pairs that share a group are joined, however long the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

Known = tuple[str, str, tuple[str, ...]]
"""Facts, text and products of a pair."""

TRAIN, VALID, TEST = SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Leak:
    """What two splits share: how many pairs of the second, of what kind, and an example."""

    first: str
    second: str
    what: str
    pairs: int
    of: int
    example: str


def place(groups: Sequence[tuple[str, ...]], valid: float, test: float, seed: int) -> list[str]:
    """The split of each pair, given its groups."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for names in groups:
        for name in names[1:]:
            first, second = sorted((root(names[0]), root(name)))
            parent[second] = first  # the smaller name stands for both, whatever the order of the rows
    return [_split(root(names[0]) if names else "", valid, test, seed) for names in groups]


def _split(name: str, valid: float, test: float, seed: int) -> str:
    share = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()) / 2**56
    return TEST if share < test else VALID if share < test + valid else TRAIN


def leaks(splits: Mapping[str, Iterable[Known]]) -> list[Leak]:
    """What each two splits share, of (facts, text, products) for every pair: facts, texts on the same facts, products."""
    found: list[Leak] = []
    kept = {name: list(pairs) for name, pairs in splits.items()}
    for at, first in enumerate(kept):
        for second in list(kept)[at + 1 :]:
            for what, keys in _KEYS.items():
                there = {key for pair in kept[first] for key in keys(pair)}
                shared = [pair for pair in kept[second] if there & set(keys(pair))]
                if shared:
                    example = next(key for key in keys(shared[0]) if key in there)
                    found.append(Leak(first, second, what, len(shared), len(kept[second]), example))
    return found


_KEYS: Mapping[str, Callable[[Known], tuple[str, ...]]] = {
    "facts": lambda pair: (pair[0],),
    "text and facts": lambda pair: (f"{pair[0]} -> {' '.join(pair[1].casefold().split())}",),
    "product": lambda pair: pair[2],
}
