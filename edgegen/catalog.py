"""A retailer's whole catalogue: its products with price levels, the category tree, the shoppers, the sample.

Rows come from `edgegen.catalog_read`, the meaning of columns from `edgegen.catalog_columns`, a product's facts from
`edgegen.catalog_product`; callers need this module only. Knows no task and no model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgegen import catalog_read as cells
from edgegen import schema
from edgegen.catalog_columns import ColumnMap, columns_of, guess
from edgegen.catalog_product import CURRENCY, MOST_VALUES, Product, copied, product, short, translated, words
from edgegen.catalog_read import BadRow, Row, read
from edgegen.domain import Fact, Kind, Lang, Section
from edgegen.errors import DataError

__all__ = ["BadRow", "Catalogue", "ColumnMap", "Product", "Row", "columns_of", "guess", "levels", "load", "paths", "product",
           "read", "sample", "sample_shoppers", "shopper", "shoppers"]  # fmt: skip
_OTHERS = frozenset({"also_bought", "liked", "bought", "viewed"})  # facts that name another product
_PRICED_LEAST = 4  # products of a category that make "cheap" and "dear" mean something


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A whole catalogue: its products, the rows that cannot be used, and which column was taken for what."""

    products: tuple[Product, ...]
    bad: tuple[BadRow, ...]
    columns: ColumnMap


def load(
    path: str | Path,
    lang: Lang,
    overrides: Mapping[str, str] | None = None,
    currency: str | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
) -> Catalogue:
    """Read a whole catalogue and give its prices their levels. Raises DataError where no row can be used."""
    rows = list(read(path, format))
    good = [row for row in rows if isinstance(row, Row)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    columns = guess(columns_of(good), overrides) if good else ColumnMap({}, {})
    found: dict[str, Product] = {}
    for row in good:
        try:
            made = product(row, columns, lang, currency)
        except DataError as error:
            bad.append(BadRow(row.number, str(error)))
            continue
        if made.id in found:
            bad.append(BadRow(row.number, f"Row {row.number}: the id {made.id!r} is taken. Give each product its own."))
        found.setdefault(made.id, made)
    if not found:
        raise DataError(f"No row of {path} can be used. The first: {bad[0].message}")
    products = tuple(levels([_with_names(item, found) for item in found.values()]))
    return Catalogue(products, tuple(sorted(bad, key=lambda b: b.number)), columns)


def _with_names(item: Product, by_id: Mapping[str, Product]) -> Product:
    """The product with names where its evidence gave the ids of other products; a bare number is no name."""
    facts: list[Fact] = []
    withheld = list(item.withheld)
    for fact in item.section:
        other = by_id.get(str(fact.value)) if fact.key in _OTHERS else None
        if other:
            facts.append(replace(fact, value=words(other.section.facts[0].value)))
        elif fact.key in _OTHERS and str(fact.value).isdecimal():
            withheld.append((fact.key, "is the id of no product"))
        else:
            facts.append(fact)
    return replace(item, section=Section("item", tuple(facts)), withheld=tuple(withheld))


def levels(products: Sequence[Product]) -> list[Product]:
    """The products with price levels by thirds of the prices in their category, where it has enough priced products."""
    prices: dict[tuple[str, str | None], list[Decimal]] = defaultdict(list)
    for item in products:
        if (group := _price_group(item)) and (fact := item.section.get("price")):
            prices[group].append(Decimal(str(fact.value)))
    return [_with_level(item, prices[group]) if (group := _price_group(item)) else item for item in products]


def _price_group(item: Product) -> tuple[str, str | None] | None:
    category, price = item.section.get("category"), item.section.get("price")
    return (str(category.value).casefold(), price.currency) if category and price else None


def _with_level(item: Product, prices: Sequence[Decimal]) -> Product:
    if len(prices) < _PRICED_LEAST:
        return item
    facts = tuple(_placed(fact, prices) if fact.key == "price" else fact for fact in item.section)
    return replace(item, section=Section(item.section.label, facts))


def _placed(price: Fact, prices: Sequence[Decimal]) -> Fact:
    amount = Decimal(str(price.value))
    below, same = sum(p < amount for p in prices), prices.count(amount)
    return replace(price, level=schema.thirds((below + (same - 1) / 2) / (len(prices) - 1)))


def paths(products: Iterable[Product]) -> tuple[str, ...]:
    """The shop's category tree: every category path, or the category's word where a product has no path; sorted."""
    found: set[str] = set()
    for item in products:
        category = item.section.get("category")
        if item.path or category:
            found.add(item.path or str(category and category.value))
    return tuple(sorted(found))


# --- shoppers


def shoppers(path: str | Path | None, lang: Lang, currency: str | None = None) -> dict[str, Section]:
    """Shopper profiles by id: likes, need, budget, and the names of what they bought. None reads the sample's.

    Raises DataError for a profile that cannot be used: a shop has few of them, and each is somebody.
    """
    found: dict[str, Section] = {}
    for row in read(path if path is not None else sample_shoppers(lang)):
        if isinstance(row, BadRow):
            raise DataError(row.message)
        identity, section = shopper(row, lang, currency or CURRENCY[lang])
        if identity in found:
            raise DataError(f"Shopper {identity!r} occurs twice. Give each shopper an id of their own.")
        found[identity] = section
    return found


def shopper(row: Row, lang: Lang, currency: str) -> tuple[str, Section]:
    """The id and the profile of one row. Raises DataError where it cannot be used."""
    known = [schema.known()[key] for key in ("likes", "need", "budget", "bought")]
    aliases = {schema.fold(name): key.name for key in known for name in (key.name, *key.aliases, *key.labels.values())}
    fields = {aliases.get(schema.fold(key), schema.fold(key)): value for key, value in row.fields.items()}
    identity = str(row.number)
    try:
        identity = words(fields.get("id", fields.get("编号", row.number)))
        facts = [Fact("likes", translated(short(v), lang), Kind.PHRASE) for v in _several(fields.get("likes"))[:MOST_VALUES]]
        if need := fields.get("need"):
            facts.append(Fact("need", translated(short(need), lang), Kind.PHRASE))
        if budget := fields.get("budget"):
            amount, code = cells.money(budget, currency)
            facts.append(Fact("budget", amount, Kind.MONEY, currency=code))
        facts += [Fact("bought", copied("bought", v), Kind.TEXT) for v in _several(fields.get("bought"))]
    except ValueError as error:
        raise DataError(f"Shopper {identity}: a value {error}. Give likes, need, budget and bought as in the sample.") from None
    return identity, Section("shopper", tuple(facts))


def _several(value: Any) -> list[Any]:
    """A list, or the parts of a text as a CSV has it."""
    if isinstance(value, str):
        return [part for part in re.split(r"\s*[;|；、]\s*", value.strip()) if part]
    return value if isinstance(value, list) else [] if value is None else [value]


def sample(lang: Lang) -> Path:
    """The project's own sample catalogue."""
    return Path(__file__).parent / "data" / "sample" / f"{lang}.json"


def sample_shoppers(lang: Lang) -> Path:
    """The shoppers of the sample catalogue."""
    return Path(__file__).parent / "data" / "sample" / f"{lang}_shoppers.json"
