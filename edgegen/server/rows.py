"""What is to be told, from a body's fields: rows as a catalogue file has them, ids of the served catalogue, or exact facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgegen import catalog, requests, tasks, wire
from edgegen.catalog import Product, Row
from edgegen.catalog_product import CURRENCY
from edgegen.domain import LANGS, Lang, Request, Section
from edgegen.server.body import BodyError, about, field
from edgegen.server.shop import Shop

ROW_FIELDS = ("task", "lang", "product", "products", "shopper", "query", "topic", "currency", "paths")
"""The fields that stand for exact facts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A text that is asked for."""

    id: str | None
    """Of the product, where it is one."""
    request: Request
    left_out: Sequence[Mapping[str, str]] = ()
    """What of the call's own rows cannot be told: product, column and reason."""


class Rows:
    """Makes requests, on the served catalogues."""

    def __init__(self, shops: Mapping[Lang, Shop]) -> None:
        self._shops = shops

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What is asked for. Raises UsageError, DataError, NotFoundError."""
        body = {name: value for name, value in body.items() if value is not None}  # null is as good as nothing
        if "request" in body:
            if both := sorted(set(ROW_FIELDS) & set(body)):
                raise BodyError(f"The field {both[0]!r} cannot stand beside 'request'. Give one or the other.", both[0])
            return Asked(None, _exact(body["request"]))
        lang, task = _lang(body), tasks.asked(field(body, "task", str, "reason")).name
        shop = self._shops.get(lang) or Shop(lang, (), served=False)
        query, topic = field(body, "query", str, None), field(body, "topic", str, None)
        context = requests.Context(lang, _shopper(body, shop), query, topic, _paths(body, shop), shop.products)
        products, left_out = _products(body, shop)
        with about(_given(body)):
            found = list(requests.build(task, products, context))
        if len(found) != 1:
            raise BodyError(_number_message(task, len(found)), "shopper" if task == "personal" and not found else _given(body))
        return Asked(*found[0], left_out)


def _number_message(task: str, found: int) -> str:
    if found:
        return f"These products make {found} texts with task {task!r}, but one is asked for. Ask for each text, with 'requests'."
    why = requests.PASSED_OVER.get(task)
    lack = f": {why}" if why else ""
    return f"No text can be made with task {task!r}{lack}. GET /v1/tasks says what each task is made from."


def _given(body: Mapping[str, Any]) -> str:
    """The field that names the products."""
    return "products" if "products" in body else "product"


def _lang(body: Mapping[str, Any]) -> Lang:
    wanted = field(body, "lang", str, "en")
    for lang in LANGS:
        if wanted == lang:
            return lang
    raise BodyError(f"Unknown language {wanted!r}. Known: {', '.join(LANGS)}.", "lang")


def _products(body: Mapping[str, Any], shop: Shop) -> tuple[list[Product], list[Mapping[str, str]]]:
    if ("product" in body) == ("products" in body):
        raise BodyError("Give either 'product' or 'products': a catalogue row, or the id of a served product.", "product")
    given = [body["product"]] if "product" in body else field(body, "products", list, [])
    if not given:
        raise BodyError("The field 'products' is empty. Give at least one.", "products")
    currency = field(body, "currency", str, None)
    found: list[Product] = []
    rows: list[Row] = []
    with about(_given(body)):
        for number, one in enumerate(given, 1):
            if isinstance(one, str):
                found.append(shop.product(one))
            elif isinstance(one, dict):
                rows.append(Row(number, one))
            else:
                raise BodyError(f"Product {number} is neither a catalogue row (an object) nor the id of one (a string).")
        columns = catalog.guess(catalog.columns_of(rows)) if rows else None
        made = [catalog.product(row, columns, shop.lang, currency, strict=True) for row in rows] if columns else []
    left_out: list[Mapping[str, str]] = [
        {"product": one.id, "column": column, "reason": reason} for one in made for column, reason in one.lost
    ]
    return found + catalog.levels(made), left_out


def _shopper(body: Mapping[str, Any], shop: Shop) -> Section | None:
    given = field(body, "shopper", (str, dict), None)
    if given is None:
        return None
    currency = field(body, "currency", str, None) or CURRENCY[shop.lang]
    with about("shopper"):
        if isinstance(given, str):
            return shop.shopper(given)
        return catalog.shopper(Row(1, given), shop.lang, currency)[1]


def _paths(body: Mapping[str, Any], shop: Shop) -> tuple[str, ...]:
    given = field(body, "paths", list, None)
    if given is None:
        return shop.paths
    if not all(isinstance(path, str) and path for path in given):
        raise BodyError("The field 'paths' must be a list of category paths, each a string.", "paths")
    return tuple(given)


def _exact(raw: Any) -> Request:
    """The request of exact facts. Raises BodyError, UsageError, DataError."""
    with about("request"):
        request = wire.request_from_json(_contained(raw))
        tasks.asked(request.task)
    return request


def _contained(raw: Any) -> Mapping[str, Any]:
    """A wire request whose containers are of the right types; `wire` looks at what is in them."""
    if not isinstance(raw, dict):
        raise BodyError("The field 'request' must be an object with task, lang and sections.", "request")
    sections = field(raw, "sections", list, [])
    facts = [fact for s in sections if isinstance(s, dict) for fact in field(s, "facts", list, [])]
    if not all(isinstance(part, dict) for part in [*sections, *facts]):
        raise BodyError("Each section of 'request' must be an object, and so must each of its facts.", "request")
    if not all(isinstance(choice, str) for choice in field(raw, "choices", list, [])):
        raise BodyError("The choices of 'request' must be strings.", "request")
    return raw
