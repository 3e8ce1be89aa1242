"""One row of a catalogue as a product's facts, and what of it is withheld and why.

Knows no task and no model. What a cell means is `edgegen.catalog_read`'s business, what a column is
`edgegen.catalog_columns`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from babel.numbers import is_currency

from edgegen import catalog_columns as names
from edgegen import catalog_read as cells
from edgegen import lexicon, schema
from edgegen.catalog_columns import ORDER, ColumnMap
from edgegen.catalog_read import Row
from edgegen.domain import Fact, Kind, Lang, Section
from edgegen.errors import DataError, UsageError

MOST_FACTS = 12
MOST_VALUES = 4  # of a list, and of features
MOST_POINTS = 8
MOST_ASPECTS = 5
CURRENCY: Mapping[Lang, str] = {"en": "USD", "zh": "CNY"}
_EMPTY = frozenset({"", "null", "none", "n/a", "na", "nan", "-", "--", "—", "/"})
_UNSAID = re.compile(r"more than \d+ |is empty$")  # reasons that say nothing of the catalogue's quality
_VALUES = frozenset({Kind.MONEY, Kind.RATING, Kind.PERCENT, Kind.DISCOUNT, Kind.COUNT, Kind.DATE})
_FREE_TEXT = frozenset({"description", "summary", "body", "details", "about", "描述", "简介", "详情", "商品描述", "商品详情"})
_JUNK_VALUES = (
    (re.compile(r"https?://|www\.|^data:", re.IGNORECASE), "a web address"),
    (re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE), "HTML"),
    (re.compile(r"\S@\S+\.\w"), "an e-mail address"),
    (re.compile(r"\.(?:jpe?g|png|webp|gif|svg|pdf)$", re.IGNORECASE), "a file name"),
)


@dataclass(frozen=True, slots=True)
class Product:
    """A product's facts. `path` is its place in the shop's category tree, `withheld` the (column, reason) left out.

    `reasons` are what its reviewers praise, each a section with the point and how many said so; `ratings` a shopper's own
    stars for its aspects.
    """

    id: str
    section: Section
    path: str | None
    withheld: tuple[tuple[str, str], ...]
    reasons: tuple[Section, ...] = ()
    ratings: tuple[Fact, ...] = ()

    @property
    def lost(self) -> Iterator[tuple[str, str]]:
        """Of `withheld`, what says that something is wrong with the row."""
        return ((column, reason) for column, reason in self.withheld if not _UNSAID.match(reason))


@dataclass
class _Reading:
    """One row on its way to a product."""

    columns: ColumnMap
    lang: Lang
    currency: str
    facts: list[tuple[str, Fact]]
    withheld: list[tuple[str, str]]

    def add(self, column: str, fact: Fact) -> None:
        """Keep a fact, unless one like it is there."""
        same = [f for _, f in self.facts if f.key == fact.key]
        if same and (fact.key != "feature" or fact.value in [f.value for f in same]):
            self.withheld.append((column, "says the same as another column"))
        elif len(same) >= MOST_VALUES:
            self.withheld.append((column, f"more than {MOST_VALUES} features"))
        else:
            self.facts.append((column, fact))

    def get(self, key: str) -> Fact | None:
        """The fact with a key."""
        return next((f for _, f in self.facts if f.key == key), None)

    def drop(self, key: str, reason: str) -> None:
        """Withhold a fact that was kept before."""
        self.withheld += [(column, reason) for column, f in self.facts if f.key == key]
        self.facts = [(column, f) for column, f in self.facts if f.key != key]


def product(
    row: Row, columns: ColumnMap, lang: Lang, currency: str | None = None, most: int = MOST_FACTS, *, strict: bool = False
) -> Product:
    """A row's facts, at most `most`, the most telling first. Raises DataError for a row without a usable name.

    `strict` refuses a row whose price, rating, percentage, count or date is of a type that cannot hold one; else it is withheld.
    """
    reading = _Reading(columns, lang, _row_currency(row, columns, currency or CURRENCY[lang]), [], [])
    path = None
    reasons, ratings = tuple[Section, ...](), tuple[Fact, ...]()
    identity = str(row.number)
    for column, value in row.fields.items():
        key = columns.keys.get(column)
        try:
            if key == "id":
                identity = words(value)
            elif key == "category_path":
                path = _path(value, reading, ">|›»/")
            elif key == "praised":
                reasons = _reasons(value, lang)
            elif key == "own_ratings":
                ratings = _ratings(value, lang)
            elif key != "currency":
                _read_cell(reading, column, key, value)
        except ValueError as error:
            if strict and isinstance(error, cells.WrongTypeError) and _is_value(key):
                raise DataError(f"Row {row.number}: {column!r} {error}. Give a number or a text.") from None
            reading.withheld.append((column, str(error)))
    path = path or _path_of_category(row, reading)
    if path and not reading.get("category"):
        reading.facts.append((columns.column("category_path") or "", Fact("category", path.split(" > ")[-1], Kind.PHRASE)))
    if reading.get("name") is None:
        why = dict(reading.withheld).get(columns.column("name") or "", "is missing")
        raise DataError(f"Row {row.number}: the name {why}. Give every product a name.")
    _agree(reading)
    return Product(identity, Section("item", _ranked(reading, most)), path, tuple(reading.withheld), reasons, ratings)


def _is_value(key: str | None) -> bool:
    known = schema.known().get("price" if key == "sale_price" else key or "")
    return known is not None and known.kind in _VALUES


def _reasons(value: Any, lang: Lang) -> tuple[Section, ...]:
    """Praised points, as a list or as an object of point -> number of shoppers who said so, most said first."""
    points = map(words, value) if isinstance(value, list) else () if isinstance(value, Mapping) else _split(value)
    counts = value if isinstance(value, Mapping) else dict.fromkeys(points)
    votes = schema.known()["votes"]
    found = []
    for point, count in counts.items():
        facts = [Fact("point", translated(short(point), lang), Kind.PHRASE)]
        if count is not None:
            facts.append(_count(votes, count))
        found.append(Section("reason", tuple(facts)))
    found.sort(key=lambda s: -Decimal(str(f.value)) if (f := s.get("votes")) else Decimal(0))
    return tuple(found[:MOST_POINTS])


def _ratings(value: Any, lang: Lang) -> tuple[Fact, ...]:
    """A shopper's own stars: an object of aspect -> stars, or `aspect: stars` parts of a text."""
    if not isinstance(value, Mapping):
        parts = [re.split(r"\s*[:：=]\s*", part, maxsplit=1) for part in _split(value)]
        if not all(len(part) == 2 for part in parts):
            raise ValueError("is not aspects with stars")
        value = dict(parts)
    found = []
    for aspect, given in value.items():
        label = translated(short(aspect), lang)
        stars, scale = cells.rating(given)
        level = schema.aspect_level(stars, scale)
        found.append(Fact(names.slug(label), stars, Kind.ASPECT, label=label, level=level, scale=scale))
    return tuple(found[:MOST_ASPECTS])


def _split(value: Any) -> list[str]:
    return [part for part in re.split(r"\s*[;|；、\n]\s*", words(value)) if part]


def _row_currency(row: Row, columns: ColumnMap, default: str) -> str:
    if not is_currency(default):
        raise UsageError(f"Unknown currency {default!r}. Give an ISO 4217 code such as USD, EUR or CNY.", "currency")
    code = str(row.fields.get(columns.column("currency") or "", "")).strip().upper()
    return code if is_currency(code) else default


def _ranked(reading: _Reading, most: int) -> tuple[Fact, ...]:
    ranks = {key: rank for rank, key in enumerate(ORDER)} | {names.LAST: len(ORDER) + 1}
    ordered = sorted(reading.facts, key=lambda pair: (ranks.get(pair[1].key, len(ORDER)), pair[1].kind is Kind.FLAG))
    reading.withheld += [(column, f"more than {most} facts") for column, _ in ordered[most:]]
    return tuple(fact for _, fact in ordered[:most])


def _agree(reading: _Reading) -> None:
    """Withhold an original price that is no higher than the price, and a discount that the two prices contradict."""
    _take_sale_price(reading)
    price, was, off = reading.get("price"), reading.get("was_price"), reading.get("discount")
    if not price or not was:
        return
    now, before = Decimal(str(price.value)), Decimal(str(was.value))
    if price.currency != was.currency or before <= now:
        reading.drop("was_price", "is not above the price")
    elif off and abs((1 - now / before) * 100 - Decimal(str(off.value))) > Decimal("1.5"):
        reading.drop("discount", f"the two prices make it {(1 - now / before) * 100:.0f}%")


def _take_sale_price(reading: _Reading) -> None:
    """A sale price is the price, and the price beside it is the original one."""
    sale, price = reading.get("sale_price"), reading.get("price")
    if not sale:
        return
    if price and (price.currency != sale.currency or Decimal(str(sale.value)) >= Decimal(str(price.value))):
        reading.drop("sale_price", "is not below the price")
        return
    if price:
        reading.drop("was_price", "is not the price before the sale")
    become = {"sale_price": "price", "price": "was_price"}
    reading.facts = [(column, replace(fact, key=become.get(fact.key, fact.key))) for column, fact in reading.facts]


def _read_cell(reading: _Reading, column: str, key: str | None, value: Any) -> None:
    if value in ([], {}) or value is None or (isinstance(value, str) and value.strip().casefold() in _EMPTY):
        raise ValueError("is empty")
    if key is None:
        reading.add(column, _attribute(reading, column, value))
    elif key in ("feature", "category"):
        (_features if key == "feature" else _category)(reading, column, value)
    elif key == "rating" and isinstance(value, Mapping):
        stars = next((value[k] for k in ("rate", "value", "average") if k in value), None)
        if stars is None:
            raise cells.WrongTypeError("is an object without a rate")
        _read_cell(reading, column, key, stars)
        if "count" in value and not reading.columns.column("reviews"):
            _read_cell(reading, column, "reviews", value["count"])
    else:
        reading.add(column, _known(reading, column, key, value))


def _known(reading: _Reading, column: str, key: str, value: Any) -> Fact:
    known = schema.known()["price" if key == "sale_price" else key]
    match known.kind:
        case Kind.MONEY:
            unit = reading.columns.units.get(column, "").upper()
            amount, currency = cells.money(value, unit if is_currency(unit) else reading.currency)
            return Fact(key, amount, known.kind, currency=currency)
        case Kind.RATING:
            stars, scale = cells.rating(value)
            return Fact(key, stars, known.kind, level=known.level(stars * 5 / scale), scale=scale)
        case Kind.PERCENT | Kind.DISCOUNT:
            share = (cells.percent if known.kind is Kind.PERCENT else cells.discount)(value, column)
            return Fact(key, share, known.kind, level=known.level(share))
        case Kind.COUNT:
            return _count(known, value)
        case Kind.DATE:
            return Fact(key, cells.day(value), known.kind)
        case Kind.FLAG:
            return _reason_flag(key, value)
        case Kind.MEASURE:
            return Fact(key, _measure(value, reading.columns.units.get(column, "")), known.kind)
        case Kind.TEXT:
            return Fact(key, copied(key, value), known.kind)
        case _:
            return _phrases(reading, key, value, known.kind)


def _count(known: schema.Key, value: Any) -> Fact:
    count = cells.count(value)
    if not count and known.name != "stock":
        raise ValueError("is zero, which is no reason")
    return Fact(known.name, count, known.kind, level=known.level(count))


def _reason_flag(key: str, value: Any) -> Fact:
    yes = cells.boolean(value)
    if yes is None and value in (0, 1, "0", "1"):
        yes = str(value) == "1"
    if not yes:
        raise ValueError("is not yes or no" if yes is None else "is no, which is no reason")
    return Fact(key, True, Kind.FLAG)


def copied(key: str, value: Any) -> str:
    """A name or a quotation; these never pass through the model, so that they may be longer than other values."""
    text = words(value[0] if isinstance(value, list) and value else value)
    if len(text) > {"name": 200, "brand": 60, "quote": 120}.get(key, 120):
        raise ValueError("is too long to be a fact")
    return text


def words(value: Any) -> str:
    """A scalar as text on one line."""
    if isinstance(value, str):
        text = cells.clean(value)
    elif isinstance(value, bool | Mapping | list) or value is None:
        raise ValueError("is not text")
    else:
        text = f"{cells.number(value).normalize():f}"
    if not text:
        raise ValueError("is empty")
    return text


def short(value: Any) -> str:
    """A scalar as a few words that the model may see."""
    text = words(value)
    for pattern, what in _JUNK_VALUES:
        if pattern.search(text):
            raise ValueError(f"is {what}")
    if len(text) > 60 or text.count(" ") > 8:
        raise ValueError("is too long to be a fact")
    return text


def _measure(value: Any, unit: str) -> str:
    if isinstance(value, Mapping):
        unit = str(value.get("unit") or value.get("units") or unit)
        numbers = [f"{cells.number(v).normalize():f}" for k, v in value.items() if k not in ("unit", "units")]
        if not numbers or (len(numbers) == 1 and not unit):
            raise ValueError("no unit")
        return short(f"{' x '.join(numbers)} {unit}")
    text = short(value)
    if not any(c.isalpha() or c in "%°\"″'×" for c in text):
        if not unit:
            raise ValueError("no unit")
        text = f"{text} {unit}" if unit.isascii() else text + unit
    return text


def _phrases(reading: _Reading, key: str, value: Any, kind: Kind, label: str | None = None) -> Fact:
    if kind is Kind.LIST and isinstance(value, str):
        value = [part for part in re.split(r"\s*[,;|、，；]\s*", value) if part]
    if isinstance(value, list) and (len(value) > 1 or kind is Kind.LIST):
        several = tuple(dict.fromkeys(translated(short(v), reading.lang) for v in value[:MOST_VALUES]))
        if not several:
            raise ValueError("is empty")
        return Fact(key, several, Kind.LIST, label=label)
    if cells.boolean(value) is not None:
        raise ValueError("is yes or no and not words")
    value = value[0] if isinstance(value, list) and value else value
    return Fact(key, translated(short(value), reading.lang), Kind.PHRASE, label=label)


def _features(reading: _Reading, column: str, value: Any) -> None:
    parts = re.split(r"\s*[;|；\n]\s*", value) if isinstance(value, str) else value if isinstance(value, list) else [value]
    for part in parts:
        try:
            reading.add(column, _phrases(reading, "feature", part, Kind.PHRASE))
        except ValueError as error:
            reading.withheld.append((column, str(error)))


def _category(reading: _Reading, column: str, value: Any) -> None:
    path = _path(value, reading, ">|›»")
    reading.add(column, Fact("category", path.split(" > ")[-1], Kind.PHRASE))


def _path(value: Any, reading: _Reading, separators: str) -> str:
    parts = value if isinstance(value, list) else re.split(f"[{separators}]", words(value))
    parted = [translated(_unslugged(short(part)), reading.lang) for part in parts if not isinstance(part, str) or part.strip()]
    if not parted:
        raise ValueError("is empty")
    return " > ".join(parted)


def _path_of_category(row: Row, reading: _Reading) -> str | None:
    value = row.fields.get(reading.columns.column("category") or "")
    try:
        path = _path(value, reading, ">|›»")
    except ValueError:
        return None
    return path if " > " in path else None


def _unslugged(text: str) -> str:
    """`mens-shirts` -> `men's shirts`; words that are written with a hyphen (`t-shirts`) stay."""
    if not re.fullmatch(r"[a-z]{2,}(?:[-_][a-z]{2,})+", text):
        return text
    return re.sub(r"\b(men|women)s\b", r"\1's", re.sub("[-_]", " ", text))


def translated(text: str, lang: Lang) -> str:
    """A word of the other language in `lang` where the lexicon knows it, else the text itself."""
    return lexicon.translations(lang).get(text.casefold(), text)


def _attribute(reading: _Reading, column: str, value: Any) -> Fact:
    unit = reading.columns.units.get(column, "")
    text = names.label(names.split_unit(column)[0] if unit else column)
    if not text or len(text) > 40:
        raise ValueError("the column has no usable name")
    if names.JUNK.search(text):
        raise ValueError("is not something a shopper asks about")
    yes = cells.boolean(value)
    if yes is not None:
        form, said = names.flag(text, value, reading.lang)
        return Fact(f"{form}_{names.slug(said)}", yes, Kind.FLAG, label=said)
    if isinstance(value, Mapping) or unit:
        value = _measure(value, unit)
    elif not isinstance(value, list):
        value = short(value)
    if text.casefold() in _FREE_TEXT:
        raise ValueError("is free text")
    spelled = names.spelled(reading.lang).get(text.casefold(), text)
    return _phrases(reading, names.slug(spelled), value, Kind.PHRASE, spelled)
