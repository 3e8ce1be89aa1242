"""What edgegen talks about: facts, sections, requests. Knows no language, no model, no file format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Literal, get_args

from edgegen.errors import DataError, UsageError

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, ...] = get_args(Lang)
Value = str | Decimal | bool | date | tuple[str, ...]


class Kind(StrEnum):
    """What a value is; it decides the policy (copy or read) and how the value is written."""

    TEXT = "text"  # a name, brand, id, quotation: copied as it stands
    MEASURE = "measure"  # "500 ml", "24 months": copied as it stands
    NUMBER = "number"
    COUNT = "count"
    MONEY = "money"
    PERCENT = "percent"  # 87 means 87 %
    DISCOUNT = "discount"  # 15 means 15 % off
    RATING = "rating"  # stars, out of `scale`
    DATE = "date"
    PHRASE = "phrase"  # words the model sees: a category, a material, a feature
    LIST = "list"  # several phrases
    FLAG = "flag"  # yes or no; the key's label is what is (not) so
    ASPECT = "aspect"  # a shopper's own stars for an aspect; the label is the aspect


class Policy(StrEnum):
    """`copy`: only a slot reaches the model. `read`: the model sees the words too."""

    COPY = "copy"
    READ = "read"


class Level(StrEnum):
    """A coarse hint about a number, relative to its kind: all of a copied value that the model may see."""

    HIGH = "high"
    MID = "mid"
    LOW = "low"


READ_KINDS = frozenset({Kind.PHRASE, Kind.LIST, Kind.FLAG, Kind.ASPECT})
_TYPES: dict[Kind, type | tuple[type, ...]] = {
    Kind.TEXT: str,
    Kind.MEASURE: str,
    Kind.NUMBER: Decimal,
    Kind.COUNT: Decimal,
    Kind.MONEY: Decimal,
    Kind.PERCENT: Decimal,
    Kind.DISCOUNT: Decimal,
    Kind.RATING: Decimal,
    Kind.ASPECT: Decimal,
    Kind.DATE: date,
    Kind.PHRASE: str,
    Kind.LIST: tuple,
    Kind.FLAG: bool,
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing known to be true of a section's subject.

    `label` is the key as a person would write it, in the request's language; it is needed for flags, aspects and keys
    that the schema does not know. `currency` is an ISO 4217 code, `scale` the top of a rating.
    """

    key: str
    value: Value
    kind: Kind
    label: str | None = None
    level: Level | None = None
    currency: str | None = None
    scale: Decimal = Decimal(5)

    def __post_init__(self) -> None:
        """Refuse a value whose type does not fit its kind."""
        expected = _TYPES[self.kind]
        if not isinstance(self.value, expected) or self.value in ("", ()):
            raise DataError(
                f"Fact {self.key!r}: {self.value!r} is not a {self.kind.value}. Give a value of that kind or leave the fact out."
            )
        if isinstance(self.value, Decimal) and not self.value.is_finite():
            raise DataError(f"Fact {self.key!r}: {self.value} is not a finite number. Leave the fact out.")

    @property
    def policy(self) -> Policy:
        """Whether the model may see the value's words."""
        return Policy.READ if self.kind in READ_KINDS else Policy.COPY


@dataclass(frozen=True, slots=True)
class Section:
    """Facts about one subject: an `item`, the `shopper`, the `query`, a recommender's evidence (`by`), a `reason`."""

    label: str
    facts: tuple[Fact, ...]

    def get(self, key: str) -> Fact | None:
        """The first fact with this key, or None."""
        return next((fact for fact in self.facts if fact.key == key), None)

    def __iter__(self) -> Iterator[Fact]:
        """The facts in order."""
        return iter(self.facts)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be explained: a task's name, a language and the sections it draws on.

    `choices` are the texts that may be answered, for tasks that choose (the shop's category paths).
    """

    task: str
    lang: Lang
    sections: tuple[Section, ...]
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a language that edgegen does not write."""
        if self.lang not in LANGS:
            raise UsageError(f"Unknown language {self.lang!r}. Known: {', '.join(LANGS)}.")

    def labelled(self, label: str) -> tuple[Section, ...]:
        """The sections with this label, in order."""
        return tuple(section for section in self.sections if section.label == label)
