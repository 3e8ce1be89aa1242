"""Running the calls of one request: errors before the first token, counts, and the head that every answer shares."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from edgegen import __version__
from edgegen.errors import OptionError, PromptTooLongError, RoomError
from edgegen.server.asking import Fields, too_long, too_much
from edgegen.server.metrics import Metrics
from edgegen.server.streams import begun, merged
from edgegen.serving.calls import Complete, Ended, Service, State, Token, Written

T = TypeVar("T")
Items = AsyncGenerator[tuple[int, Written | Ended]]


@dataclass(slots=True)
class Choice:
    """One text as far as it is written."""

    index: int
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None

    def add(self, written: Written) -> None:
        """Go on with what is new."""
        self.text += written.text
        self.tokens += written.tokens


@dataclass(slots=True)
class Answer:
    """What all parts of an answer share, and its counts."""

    head: dict[str, Any]
    prompt: int = 0
    reused: int = 0
    written: int = 0
    timings: dict[str, float] = field(default_factory=dict)

    def ended(self, end: Ended) -> None:
        """One of its calls has ended."""
        self.prompt, self.reused = self.prompt + end.prompt_tokens, self.reused + end.reused_tokens
        self.written += end.completion_tokens
        self.timings = {name: max(seconds, self.timings.get(name, 0)) for name, seconds in end.timings.items()}

    def usage(self) -> dict[str, Any]:
        """The tokens read and written, and the engine's seconds."""
        counts = {"prompt_tokens": self.prompt, "completion_tokens": self.written, "total_tokens": self.prompt + self.written}
        timings = {name: round(seconds, 6) for name, seconds in self.timings.items()}
        return {"usage": {**counts, "prompt_tokens_details": {"cached_tokens": self.reused}}, "timings": timings}


def head(kind: str, prefix: str, state: State) -> dict[str, Any]:
    """The fields with which every answer, and every event of a stream, begins."""
    pack = state.pack or {}
    told = f"{__version__} {state.writer}"
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": str(pack.get("name", "edgegen")),
        "system_fingerprint": "b" + hashlib.sha256(told.encode()).hexdigest()[:12],
    }


async def of_one_model(service: Service, work: Callable[[State], Awaitable[T]]) -> T:
    """What some work gives that asks the service before it is done; anew where another model took over meanwhile."""
    while True:
        state = service.state
        found = await work(state)
        if (now := service.state).pid == state.pid and now.writer == state.writer:
            return found


async def generate(request: Request, service: Service, metrics: Metrics, calls: Sequence[Complete], fields: Fields) -> Items:
    """The items of all calls, once the first is there. Raises what the calls raise, in the words of the body's fields."""
    started = time.perf_counter()
    route, whole, state = request.url.path, calls[0].whole, service.state
    counted = _counted(merged([service.complete(call) for call in calls]), metrics, route, whole)
    items = await begun(request, _named(counted, calls[0], fields, state))
    if not whole:
        metrics.first_token(route, time.perf_counter() - started)
    return items


async def _named(items: Items, call: Complete, fields: Fields, state: State) -> Items:
    """The items; what does not fit is told by the fields that ask for it."""
    try:
        async with aclosing(items):
            async for item in items:
                yield item
    except PromptTooLongError as error:
        raise too_long(error, fields.prompt) from None
    except RoomError:
        raise too_much(call, fields.length, state) from None
    except OptionError as error:
        raise fields.named(error) from None


async def _counted(items: Items, metrics: Metrics, route: str, whole: bool) -> Items:
    async with aclosing(items):
        async for number, item in items:
            if isinstance(item, Ended):
                metrics.completed(item.prompt_tokens, item.reused_tokens, item.completion_tokens)
                # What comes in one piece comes late; the engine knows when it began.
                if whole and (first := item.timings.get("first_token_s")):
                    metrics.first_token(route, first)
            yield number, item


def finish_reason(finish: str) -> str:
    """Why a text ended, in the words of the OpenAI API, which knows no deadline."""
    return "length" if finish == "deadline" else finish
