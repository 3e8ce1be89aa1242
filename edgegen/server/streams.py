"""Answers that take a while: server-sent events, several sources at once, and clients that leave in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from edgegen.errors import EdgegenError
from edgegen.server.errors import ClientLeftError, as_json

T = TypeVar("T")
DONE = "data: [DONE]\n\n"
"""How a stream of the OpenAI API ends."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # made once: there is an event for each token
_AHEAD = 64  # items of several sources that wait for the client


def event(data: Any) -> str:
    """One server-sent event."""
    return f"data: {_encode(data)}\n\n"


class Events(StreamingResponse):
    """Server-sent events. Their source is closed at once when the client leaves, whatever it was about to do."""

    def __init__(self, source: AsyncGenerator[str], headers: Mapping[str, str] | None = None) -> None:
        """The events, as `event` writes them."""
        super().__init__(_told(source), media_type="text/event-stream", headers={"Cache-Control": "no-store", **(headers or {})})
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


async def _told(source: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """The events; an error on the way is the last one, as the status has been sent already."""
    try:
        async for one in source:
            yield one
    except EdgegenError as error:
        yield event(as_json(error))


async def begun(request: Request, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The source once its first item is there: what fails before that gets a status of its own. Raises ClientLeftError."""
    try:
        first = await unless_left(request, _first(source))
    except BaseException:
        await source.aclose()
        raise
    return _after(first, source)


async def _first(source: AsyncGenerator[T]) -> T:
    return await anext(source)


async def _after(first: T, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
    async with aclosing(source):
        yield first
        async for item in source:
            yield item


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The outcome of some work, which is cancelled when the client leaves. Raises ClientLeftError then."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done, gone = asyncio.create_task(work), asyncio.create_task(leave())
    try:
        await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return await done
        raise ClientLeftError
    finally:
        for task in (done, gone):
            task.cancel()
        await asyncio.wait((done, gone))


async def merged(sources: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """The items of several sources as they come, each with its source's number. The first error ends all of them."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    queue = asyncio.Queue[tuple[int, T] | _End](_AHEAD)
    pumps = [asyncio.create_task(_pump(queue, number, source)) for number, source in enumerate(sources)]
    try:
        ended = 0
        while ended < len(sources):
            found = await queue.get()
            if not isinstance(found, _End):
                yield found
            elif found.error is not None:
                raise found.error
            else:
                ended += 1
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None = None


async def _pump(queue: asyncio.Queue[tuple[int, T] | _End], number: int, source: AsyncGenerator[T]) -> None:
    try:
        async with aclosing(source):
            async for item in source:
                await queue.put((number, item))
    except Exception as error:  # noqa: BLE001 - raised again where the items are taken
        await queue.put(_End(error))
    else:
        await queue.put(_End())
