"""Meaning representations: `inform(name=...;price=...)` and the like, as requests and back. Knows no text.

Read are `act(slot=value;slot='value')`, `act(slot[value], slot[value])` and `slot[value], slot[value]`; several acts are
joined by `&`. Source of the formats: the RNNLG, E2E and ViGGO data sets.

The first section, `act`, has the act, what is of no matter (`slot=dontcare`: "any") and what is unknown (`slot=none`); the
others are items, a new one wherever a slot `name` comes again. Slots that come again without a name stay with their item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from edgegen import catalog_columns as names
from edgegen import catalog_read as cells
from edgegen import locale, schema
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.errors import DataError

Slot = tuple[str, str | None]

_ACT = re.compile(r"\s*([?\w-]*)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*")
_BRACKETS = re.compile(r"\s*([\w/ -]+?)\s*\[([^\]]*)\]\s*,?\s*")
_PARTS = re.compile(r"[^;=]*=\s*(?:'[^']*'|\"[^\"]*\")|[^;]+")
_QUOTES = ("''", '""', "‘’", "“”")
_ANY = frozenset({"dontcare", "dont_care", "don't care", "do_n't_care", "dont care"})
_NONE = frozenset({"none", "null", "unknown", ""})
_WORDS: Mapping[Lang, tuple[str, str]] = {"en": ("any", "unknown"), "zh": ("均可", "未知")}
_PREFIX = re.compile(r"(?:has|is)(?=[a-z]{3})")
_LEAD = re.compile(r"(?:has|is|with) +(?=\S)|是否[有带含]?(?=.)")
_LONGEST_LABEL = 5  # words
_COUNTS = {"count": "products"}  # how many there are, in `inform_count`
_KNOWN = frozenset({*names.ORDER, names.LAST})


@dataclass(frozen=True, slots=True)
class Act:
    """One act with its slots in order; a slot without a value, as in `?request(area)`, has None."""

    name: str
    slots: tuple[Slot, ...]


@dataclass
class Labels:
    """What slots are called in words: `hdmiport` -> "hdmi port", as the texts write it."""

    words: dict[str, str] = field(default_factory=dict)

    def of(self, slot: str) -> str:
        """A slot's name in words."""
        return self.words.get(slot.casefold()) or names.label(slot) or slot


def parse(text: str) -> tuple[Act, ...]:
    """The acts of a meaning representation. Raises DataError for what is none."""
    text = text.strip()
    found: list[Act] = []
    at = 0
    while match := _ACT.match(text, at):
        found.append(Act(match[1], _slots(match[2])))
        at = match.end()
        at += text.startswith(("&", "|", ","), at)
    if found and at >= len(text):
        return tuple(found)
    slots = _bracketed(text)
    if slots is None:
        raise DataError(
            f"{text[:60]!r} is no meaning representation. Write act(slot=value;slot=value) or slot[value], slot[value]."
        )
    return (Act("", slots),)


def _slots(inside: str) -> tuple[Slot, ...]:
    if "[" in inside and (found := _bracketed(inside)) is not None:
        return found
    return tuple(_slot(part) for part in _split(inside) if part.strip())


def _bracketed(text: str) -> tuple[Slot, ...] | None:
    found: list[Slot] = []
    at = 0
    while match := _BRACKETS.match(text, at):
        found.append((match[1], match[2].strip() or None))
        at = match.end()
    return tuple(found) if found and at >= len(text) else None


def _split(inside: str) -> list[str]:
    """Parts at semicolons; at commas where there are none and each part is a slot of its own."""
    parts = _PARTS.findall(inside)
    commas = inside.split(",")
    return commas if len(parts) == 1 and len(commas) > 1 and all("=" in part for part in commas) else parts


def _slot(part: str) -> Slot:
    key, sign, value = part.partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] + value[-1] in _QUOTES:
        value = value[1:-1].strip()
    return key.strip(), value if sign else None


def canonical(acts: Iterable[Act]) -> str:
    """One text for all representations that say the same, whatever the order of their slots within an item."""
    return " & ".join(f"{act.name}({'|'.join(';'.join(sorted(map(_text, item))) for item in _items(act.slots))})" for act in acts)


def _text(slot: Slot) -> str:
    return slot[0] if slot[1] is None else f"{slot[0]}={slot[1]}"


def _items(slots: Sequence[Slot]) -> list[list[Slot]]:
    """The slots of each item: a name that comes again begins another."""
    items: list[list[Slot]] = [[]]
    for slot in slots:
        if slot[0] == "name" and any(key == "name" for key, _ in items[-1]):
            items.append([])
        items[-1].append(slot)
    return items


def labels(acts: Sequence[Act], texts: Sequence[str]) -> Labels:
    """Names in words for slots that are written in one: the words of the texts that make them up, most frequent first."""
    wanted = {_bare(key) for act in acts for key, _ in act.slots if key.isalpha() and key.islower() and key.isascii()}
    most = max(map(len, wanted), default=0)
    found: dict[str, dict[str, int]] = {key: {} for key in wanted}
    for text in texts:
        words = re.findall(r"[a-z]+", text.lower())
        for start in range(len(words)):
            joined = ""
            for size, word in enumerate(words[start : start + _LONGEST_LABEL], 1):
                joined += word
                if len(joined) > most + 1:
                    break
                for key in {joined, joined.removesuffix("s")} & found.keys():
                    said = " ".join(words[start : start + size]).removesuffix("s" if key != joined else "")
                    found[key][said] = found[key].get(said, 0) + 1
    seen = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    best = {key: _parted(key, seen) for key in wanted} | {
        key: max(said, key=lambda name: (said[name] * (1 + name.count(" ")), name)) for key, said in found.items() if said
    }
    out = {}
    for key in (key for act in acts for key, _ in act.slots):
        bare = _bare(key)
        if bare in best:
            out[key.casefold()] = f"{key.removesuffix(bare)} {best[bare]}".strip()
    return Labels(out)


def _parted(key: str, words: set[str]) -> str:
    """A slot's name as the fewest words of the texts that make it up, itself where none do."""
    ways: list[list[str] | None] = [[]]
    for end in range(1, len(key) + 1):
        found = [[*way, key[at:end]] for at, way in enumerate(ways) if way is not None and end - at > 1 and key[at:end] in words]
        ways.append(min(found, key=len, default=None))
    return " ".join(ways[-1] or [key])


def _bare(key: str) -> str:
    return _PREFIX.sub("", key, count=1) if key.isascii() else key


def request(acts: Sequence[Act], lang: Lang, words: Labels, task: str) -> Request:
    """The request that a representation asks for, with nothing left out."""
    given = [Fact("act", " and ".join(name), Kind.PHRASE)] if (name := [_act(a.name) for a in acts if a.name]) else []
    items: list[Section] = []
    for act in acts:
        for slots in _items(act.slots):
            facts = [fact(key, value, lang, words) for key, value in slots]
            given += [f for (_, value), f in zip(slots, facts, strict=True) if _vague(value)]
            told = tuple(f for (_, value), f in zip(slots, facts, strict=True) if not _vague(value))
            items += [Section("item", told)] if told else []
    return Request(task, lang, (*([Section("act", tuple(given))] if given else []), *items))


def _act(name: str) -> str:
    return f"{name.removeprefix('?').replace('_', ' ')}?" if name.startswith("?") else name.replace("_", " ")


def _vague(value: str | None) -> bool:
    return value is None or value.casefold() in _ANY or value.casefold() in _NONE


def fact(slot: str, value: str | None, lang: Lang, words: Labels) -> Fact:
    """One slot as a fact: digits make a value copied, `true` and `false` a flag, other words are read."""
    known = schema.alias_table().get(schema.fold(slot), "")
    known = known if known in _KNOWN else _COUNTS.get(slot.casefold(), "")
    label = words.of(slot)
    if _vague(value) or value is None:
        asked, unknown = _WORDS[lang]
        said = asked if value is not None and value.casefold() in _ANY else unknown
        label = _LEAD.sub("", label) or label
        return Fact(known or names.slug(label), said, Kind.PHRASE, None if known else label)
    yes = cells.boolean(value)
    if yes is not None and not known:
        form, _ = names.flag(label, value, lang)
        said = _LEAD.sub("", label) or label
        return Fact(f"{form}_{names.slug(said)}", yes, Kind.FLAG, said)
    return valued(known or names.slug(label), value, None if known else label, lang)


def valued(key: str, value: str, label: str | None, lang: Lang) -> Fact:
    """A value in words or digits as a fact that shows exactly as it stands."""
    if (number := _number(value)) is not None and locale.number(number, lang) == value:
        return Fact(key, number, Kind.NUMBER, label)
    if (stars := _rating(key, value, label)) and locale.value_text(stars, lang) == value:
        return stars
    if any(char.isdecimal() for char in value):
        known = schema.known().get(key)
        return Fact(key, value, Kind.TEXT if known and known.kind is Kind.TEXT else Kind.MEASURE, label)
    kind = schema.known()[key].kind if key in schema.known() else Kind.PHRASE
    return Fact(key, value, kind if kind is Kind.TEXT else Kind.PHRASE, label)


def _rating(key: str, value: str, label: str | None) -> Fact | None:
    try:
        stars, scale = cells.rating(value)
    except ValueError:
        return None
    return Fact(key, stars, Kind.RATING, label, scale=scale)


def _number(value: str) -> Decimal | None:
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None
