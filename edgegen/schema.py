"""The table of known keys (`data/keys.toml`): their kinds, labels, aliases and level bounds. Knows no product."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from edgegen.domain import Kind, Lang, Level

_FOLD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that edgegen knows by name."""

    name: str
    kind: Kind
    labels: Mapping[str, str]
    aliases: tuple[str, ...]
    low: Decimal | None = None
    high: Decimal | None = None

    def label(self, lang: Lang) -> str:
        """The key as a person writes it in `lang`."""
        return self.labels[lang]

    def level(self, value: Decimal) -> Level | None:
        """The coarse hint for a number, or None where the key has no bounds."""
        if self.low is None or self.high is None:
            return None
        return Level.LOW if value <= self.low else Level.HIGH if value >= self.high else Level.MID


def fold(name: str) -> str:
    """A column name without case, spaces and punctuation, camelCase included: `discountPercentage` -> `discountpercentage`."""
    return _FOLD.sub("", name).casefold()


@cache
def known() -> Mapping[str, Key]:
    """Every known key by name."""
    raw = tomllib.loads(files("edgegen").joinpath("data/keys.toml").read_text("utf-8"), parse_float=Decimal)
    return {name: _key(name, entry) for name, entry in raw.items()}


@cache
def alias_table() -> Mapping[str, str]:
    """Folded column name -> key name."""
    table: dict[str, str] = {}
    for key in known().values():
        for alias in (key.name, *key.aliases):
            table.setdefault(fold(alias), key.name)
    return table


def _key(name: str, entry: Mapping[str, Any]) -> Key:
    low, high = map(Decimal, entry["levels"]) if "levels" in entry else (None, None)
    return Key(name, Kind(entry["kind"]), {"en": entry["en"], "zh": entry["zh"]}, tuple(entry["aliases"]), low, high)


def thirds(place: float) -> Level:
    """The hint for a price at `place` (0 to 1) of its category's span."""
    return Level.LOW if place <= 1 / 3 else Level.HIGH if place >= 2 / 3 else Level.MID


def aspect_level(stars: Decimal, scale: Decimal) -> Level:
    """The hint for a shopper's own stars: 4 of 5 and up is high, 2 and down is low."""
    share = stars / scale
    return Level.HIGH if share >= Decimal("0.75") else Level.LOW if share <= Decimal("0.45") else Level.MID
