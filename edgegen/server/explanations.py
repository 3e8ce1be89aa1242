"""POST /v1/explanations: a body becomes a request, the request a checked text, whole or as server-sent events.

A product is a plain row as a catalogue file has it, or the id of one in the served catalogue. `request` gives the exact
facts instead; `requests` asks for many texts at once, each of which succeeds or fails for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgegen.errors import EdgegenError
from edgegen.explain import ExplainOptions
from edgegen.server.asking import priority
from edgegen.server.body import BodyError, field, number, only, read_body
from edgegen.server.errors import as_json
from edgegen.server.feedback import Feedback
from edgegen.server.metrics import Metrics
from edgegen.server.rows import ROW_FIELDS, Rows
from edgegen.server.settings import Limits
from edgegen.server.streams import Events, begun, event, merged, unless_left
from edgegen.serving.calls import Explain, Service

ONE = (*ROW_FIELDS, "request", "n", "seed", "temperature", "deadline_s")
"""Fields of a text that is asked for."""
FIELDS = (*ONE, "stream", "priority", "requests")
"""Fields of a body."""
_LONGEST_S = 60.0


class Explanations:
    """The route, on a service and the served catalogues."""

    def __init__(self, service: Service, rows: Rows, limits: Limits, metrics: Metrics, feedback: Feedback) -> None:
        self._service, self._rows, self._limits, self._metrics, self._feedback = service, rows, limits, metrics, feedback

    async def create(self, request: Request) -> Response:
        """Answer with records, or with texts bit by bit, each followed by its record."""
        body = await read_body(request, FIELDS, self._limits)
        stream, many = field(body, "stream", bool, False), field(body, "requests", list, None)
        wanted = priority(body, "shopper" if many is None else "batch")
        if many is None:
            one = self._one(body, wanted)
            if stream:
                return Events(_told(await begun(request, one)))
            return JSONResponse((await unless_left(request, _last(one)))["done"])
        several = self._many(self._checked(body, many), wanted)
        if stream:
            return Events(_told(several))
        return JSONResponse({"results": await unless_left(request, _results(several))})

    def _checked(self, body: Mapping[str, Any], many: list[Any]) -> list[Any]:
        only([name for name, value in body.items() if value is not None], ("requests", "stream", "priority"))
        if not 1 <= len(many) <= self._limits.requests:
            raise BodyError(f"The field 'requests' must hold 1 to {self._limits.requests} requests, got {len(many)}.", "requests")
        return many

    async def _one(self, body: Mapping[str, Any], wanted: Any) -> AsyncGenerator[dict[str, Any]]:
        """What a client is told of a text: its bits, then its record."""
        # Reading rows keeps a thread busy; the event loop must not wait for it.
        asked = await run_in_threadpool(self._rows.asked, body)
        call = Explain(asked.request, _options(body), wanted)
        answer = await self._service.explain(call)
        self._metrics.explained(answer)
        for piece in answer.pieces:
            yield {"delta": piece}
        noted = await self._feedback.shown(call, answer)
        told = {"id": asked.id, **answer.record, "left_out": asked.left_out, "pack": answer.pack}
        yield {"done": {**told, **({"feedback_id": noted} if noted else {})}}

    async def _many(self, bodies: list[Any], wanted: Any) -> AsyncGenerator[dict[str, Any]]:
        """The same of several texts with their numbers, a few at a time; one that cannot be made is told as its error."""
        turn = asyncio.Semaphore(self._limits.together)
        async with aclosing(merged([self._tried(body, wanted, turn) for body in bodies])) as items:
            async for number_, item in items:
                yield {"index": number_, **item}

    async def _tried(self, body: Any, wanted: Any, turn: asyncio.Semaphore) -> AsyncGenerator[dict[str, Any]]:
        try:
            async with turn:
                if not isinstance(body, dict):
                    raise BodyError("Each of 'requests' must be an object.", "requests")
                only(body, ONE)
                async for item in self._one(body, wanted):
                    yield item
        except EdgegenError as error:
            yield as_json(error)


async def _told(source: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[str]:
    async with aclosing(source):
        async for item in source:
            yield event(item)


async def _last(source: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    return [item async for item in source][-1]


async def _results(source: AsyncGenerator[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [item async for item in source if "delta" not in item]
    return [{"index": item["index"], **item.get("done", item)} for item in sorted(found, key=lambda item: item["index"])]


def _options(body: Mapping[str, Any]) -> ExplainOptions:
    return ExplainOptions(
        n=number(body, "n", ExplainOptions.n, 1, 16, whole=True),
        seed=number(body, "seed", ExplainOptions.seed, 0, 2**63 - 1, whole=True),
        temperature=number(body, "temperature", None, 0, 5),
        deadline_s=number(body, "deadline_s", ExplainOptions.deadline_s, 0.001, _LONGEST_S),
    )
