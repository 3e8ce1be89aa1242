"""Which slot token stands for which kind of fact. Pure tables; the order is part of the prompt format.

Slots are generic, and any key can have one. But a fact that edgegen knows by name always gets the same slot where it is
free, an unknown attribute the next of the attributes' slots, a no-flag one of the no-flags', the second item's price the
second item's: a small model then learns where a slot may stand as it learns a word, and the mask keeps it to those that
the request offers. With slots numbered by order of appearance a 17M model had not learnt to find a fact's slot after
2M tokens (docs/log.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

from edgegen import schema
from edgegen.domain import Fact, Kind, Level

ITEMS = 6  # products with slots of their own
_KNOWN = (  # noqa: SIM905 - a list of 47 quoted words is harder to read
    "name brand category price was_price discount rating reviews sales stock released material color style flavor scent "
    "size capacity weight feature audience occasion season origin warranty shipping returns tags similar_shoppers "
    "also_bought liked bought viewed match quote votes likes need budget query topic criterion lowest highest products "
    "source title_words point guide.category"
).split()
_SEVERAL = {"feature": 3, "likes": 3, "criterion": 4, "point": 8, "votes": 8, "source": 4}
_CLASSES = {
    "attr.label": 5, "attr": 5, "is+": 3, "is-": 3, "has+": 3, "has-": 3, "digits": 12,
    "high.label": 5, "mid.label": 5, "low.label": 5, "high": 5, "mid": 5, "low": 5,
}  # fmt: skip
_ITEM = {
    "name": 1, "category": 1, "price": 1, "rating": 1, "feature": 2, "other": 4,
    "attr.label": 1, "attr": 1, "flag+": 1, "flag-": 1,
}  # fmt: skip
OVERFLOW = "overflow"
_SPARE = 18


def _pools() -> Iterator[tuple[str, int]]:
    yield from ((key, _SEVERAL.get(key, 1)) for key in _KNOWN)
    yield from _CLASSES.items()
    for item in range(2, ITEMS + 1):
        yield from ((f"{item}.{name}", size) for name, size in _ITEM.items())
    yield OVERFLOW, _SPARE


def _ranges() -> dict[str, range]:
    ranges, at = {}, 1
    for name, size in _pools():
        ranges[name] = range(at, at + size)
        at += size
    return ranges


POOLS = _ranges()
"""Name of a pool -> the indices of its slots."""
COUNT = POOLS[OVERFLOW].stop - 1


def home(section: str, nth: int, fact: Fact, part: str, *, by_key: bool = False) -> Sequence[int]:
    """Where the slot for a part of a fact is looked for first, in the `nth` section with this label (from 1).

    `by_key` begins at a place of the key's own for an attribute's value, so that a key nearly always has the same slot.
    """
    indices = POOLS[_pool(section, nth, fact, part)]
    if by_key and part == "value" and class_of(fact) == "attr":
        return _from_key([*indices, *POOLS.get(f"{nth}.other", POOLS[OVERFLOW])], fact.key)
    if section in ("reason", "by") and len(indices) > 1:
        return indices[nth - 1 : nth]  # so that a point and its votes go together
    return indices


def _from_key(indices: Sequence[int], key: str) -> Sequence[int]:
    at = crc32(key.encode()) % len(indices)
    return [*indices[at:], *indices[:at]]


def _pool(section: str, item: int, fact: Fact, part: str) -> str:
    if part == "digits":
        return part
    name = class_of(fact)
    if part == "label" and fact.kind is not Kind.FLAG:
        name += ".label"
    if section == "guide" and fact.key == "category":
        return "guide.category"
    if section != "item" or item == 1:
        return name if name in POOLS else OVERFLOW
    if name[-1] in "+-":
        name = "flag" + name[-1]
    return next((p for p in (f"{item}.{name}", f"{item}.other") if p in POOLS), OVERFLOW)


def class_of(fact: Fact) -> str:
    """The kind of fact that a slot stands for: a known key, `attr`, a flag by its answer, an aspect by its level."""
    if fact.kind is Kind.ASPECT:
        return {Level.HIGH: "high", Level.LOW: "low"}.get(fact.level or Level.MID, "mid")
    if fact.key in schema.known():
        return fact.key
    if fact.kind is Kind.FLAG:
        return ("has" if fact.key.startswith("has_") else "is") + ("+" if fact.value else "-")
    return "attr"
