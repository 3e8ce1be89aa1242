"""The bilingual lexicon (`data/lexicon/<domain>.toml`): categories, phrases, attributes and flags of a retail domain.

The corpus draws its products from it; at run time it translates known words between English and Chinese. Knows no task.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from edgegen.domain import Lang

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of product: its word and its path in both languages, and the usual price span in US dollars."""

    word: Pair
    path: Pair
    price: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Flag:
    """Something a product is ("waterproof") or has ("USB port"), or not."""

    form: str
    word: Pair


@dataclass(frozen=True, slots=True)
class Domain:
    """The words of one retail domain."""

    id: str
    name: Pair
    categories: tuple[Category, ...]
    phrases: Mapping[str, tuple[Pair, ...]]
    attributes: tuple[tuple[Pair, tuple[Pair, ...]], ...]
    flags: tuple[Flag, ...]


def pick(pair: Pair, lang: Lang) -> str:
    """The side of a pair in `lang`."""
    return pair[lang == "zh"]


@cache
def domains() -> Mapping[str, Domain]:
    """Every domain by the name of its file."""
    folder = files("edgegen").joinpath("data/lexicon")
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {
        f.name.removesuffix(".toml"): _domain(f.name.removesuffix(".toml"), tomllib.loads(f.read_text("utf-8"))) for f in found
    }


def _pair(raw: list[str]) -> Pair:
    english, chinese = raw
    return english, chinese


def _domain(name: str, raw: Mapping[str, Any]) -> Domain:
    return Domain(
        id=name,
        name=_pair(raw["name"]),
        categories=tuple(
            Category(_pair(c["word"]), _pair(c["path"]), (float(c["price"][0]), float(c["price"][1]))) for c in raw["category"]
        ),
        phrases={key: tuple(map(_pair, pairs)) for key, pairs in raw["phrases"].items()},
        attributes=tuple((_pair(a["key"]), tuple(map(_pair, a["values"]))) for a in raw["attribute"]),
        flags=tuple(Flag(f["form"], _pair(f["word"])) for f in raw["flag"]),
    )


@cache
def translations(lang: Lang) -> Mapping[str, str]:
    """Known words of the other language -> their form in `lang` (keys case-folded)."""
    table: dict[str, str] = {}
    for domain in domains().values():
        for pair in _pairs(domain):
            table.setdefault(pick(pair, "en" if lang == "zh" else "zh").casefold(), pick(pair, lang))
    return table


def _pairs(domain: Domain) -> list[Pair]:
    return [
        domain.name,
        *(c.word for c in domain.categories),
        *(pair for pairs in domain.phrases.values() for pair in pairs),
        *(pair for key, values in domain.attributes for pair in (key, *values)),
        *(flag.word for flag in domain.flags),
    ]
