"""POST /v1/explanations: a body becomes a request, the request a checked text, whole or as server-sent events.

A product is a plain row as a catalogue file has it, or the id of one in the served catalogue. `request` gives the exact
facts instead.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edgegen import catalog, requests, tasks, wire
from edgegen.catalog import Product, Row
from edgegen.catalog_product import CURRENCY
from edgegen.domain import LANGS, Lang, Section
from edgegen.domain import Request as Asked
from edgegen.errors import UsageError
from edgegen.explain import Explainer, ExplainOptions, Explanation
from edgegen.server.errors import BodyError, read_body
from edgegen.server.shop import Shop

_FIELDS = (
    "task", "lang", "product", "products", "shopper", "query", "topic", "currency", "paths", "request", "n", "seed",
    "temperature", "stream",
)  # fmt: skip
_ROW_FIELDS = frozenset({"task", "lang", "product", "products", "shopper", "query", "topic", "currency", "paths"})


def event(data: Any) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def sse(events: AsyncIterator[str]) -> Response:
    """An answer of server-sent events."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


class Explanations:
    """The route, on an explainer and the served catalogues."""

    def __init__(self, explainer: Explainer, shops: Mapping[Lang, Shop]) -> None:
        self._explainer, self._shops = explainer, shops

    async def create(self, request: Request) -> Response:
        """Answer with the record of an explanation, or with its text bit by bit and then the record."""
        body = await read_body(request, _FIELDS)
        stream, options = field(body, "stream", bool, False), _options(body)
        # Reading rows and explaining both keep a thread busy; the event loop must not wait for them.
        id_, answer = await run_in_threadpool(self._explain, body, options)
        record = {"id": id_, **answer.to_json()}
        if stream:
            return sse(_events(answer, record))
        return JSONResponse(record)

    def _explain(self, body: Mapping[str, Any], options: ExplainOptions) -> tuple[str | None, Explanation]:
        id_, asked = self._asked(body)
        return id_, self._explainer.explain(asked, options)

    def _asked(self, body: Mapping[str, Any]) -> tuple[str | None, Asked]:
        if "request" in body:
            if both := sorted(_ROW_FIELDS & set(body)):
                raise BodyError(f"The field {both[0]!r} cannot stand beside 'request'. Give one or the other.", both[0])
            return None, wire.request_from_json(_exact(body["request"]))
        lang, task = _lang(body), str(field(body, "task", str, "reason"))
        tasks.get(task)
        shop = self._shops.get(lang) or Shop(lang, ())
        query, topic = field(body, "query", str, None), field(body, "topic", str, None)
        context = requests.Context(lang, _shopper(body, shop), query, topic, _paths(body, shop), shop.products)
        found = list(requests.build(task, _products(body, shop), context))
        if len(found) != 1:
            raise UsageError(_number_message(task, len(found)))
        return found[0]


async def _events(answer: Explanation, record: Mapping[str, Any]) -> AsyncIterator[str]:
    for piece in answer.pieces():
        yield event({"delta": piece})
    yield event({"done": record})


def _number_message(task: str, found: int) -> str:
    if not found:
        return f"The products lack facts that task {task!r} needs. GET /v1/tasks says what each task is made from."
    return f"These products make {found} texts with task {task!r}, but a call writes one. Send a call for each text."


def field(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """A field of a body, `default` where it is missing or null. Raises BodyError where it has another type."""
    value = body.get(name)
    if value is None:
        return default
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_KINDS[k] for k in kinds if k is not int or float not in kinds)
        raise BodyError(f"The field {name!r} must be {wanted}.", name)
    return value


_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


def _options(body: Mapping[str, Any]) -> ExplainOptions:
    n, seed = field(body, "n", int, ExplainOptions.n), field(body, "seed", int, ExplainOptions.seed)
    return ExplainOptions(n=n, seed=seed, temperature=field(body, "temperature", (int, float), None))


def _lang(body: Mapping[str, Any]) -> Lang:
    wanted = field(body, "lang", str, "en")
    for lang in LANGS:
        if wanted == lang:
            return lang
    raise BodyError(f"Unknown language {wanted!r}. Known: {', '.join(LANGS)}.", "lang")


def _products(body: Mapping[str, Any], shop: Shop) -> list[Product]:
    if ("product" in body) == ("products" in body):
        raise BodyError("Give either 'product' or 'products': a catalogue row, or the id of a served product.", "product")
    given = [body["product"]] if "product" in body else field(body, "products", list, [])
    currency = field(body, "currency", str, None)
    found: list[Product] = []
    rows: list[Row] = []
    for number, one in enumerate(given, 1):
        if isinstance(one, str):
            found.append(shop.product(one))
        elif isinstance(one, dict):
            rows.append(Row(number, one))
        else:
            raise BodyError(f"Product {number} is neither a catalogue row (an object) nor the id of one (a string).", "products")
    columns = catalog.guess(catalog.columns_of(rows)) if rows else None
    made = catalog.levels([catalog.product(row, columns, shop.lang, currency) for row in rows]) if columns else []
    return found + made


def _shopper(body: Mapping[str, Any], shop: Shop) -> Section | None:
    given = field(body, "shopper", (str, dict), None)
    if isinstance(given, str):
        return shop.shopper(given)
    if given is None:
        return None
    currency = field(body, "currency", str, None) or CURRENCY[shop.lang]
    return catalog.shopper(Row(1, given), shop.lang, currency)[1]


def _paths(body: Mapping[str, Any], shop: Shop) -> tuple[str, ...]:
    given = field(body, "paths", list, None)
    if given is None:
        return shop.paths
    if not all(isinstance(path, str) and path for path in given):
        raise BodyError("The field 'paths' must be a list of category paths, each a string.", "paths")
    return tuple(given)


def _exact(raw: Any) -> Mapping[str, Any]:
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
