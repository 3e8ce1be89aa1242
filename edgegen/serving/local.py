"""The service on an engine of this very process: for tests and for who wants no second process. Its crash is ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from edgegen.engine.loop import Engine
from edgegen.explain import Explainer
from edgegen.serving.calls import Complete, Ended, Explain, Explained, State, Written
from edgegen.serving.runner import Leave, Runner, Tell, describe


class LocalService:
    """Implements `calls.Service`. Close it before the engine."""

    def __init__(
        self, explainer: Explainer, engine: Engine, pack: Mapping[str, Any] | None = None, *, state: State | None = None
    ) -> None:
        """`pack` is what State says of the pack; `state` stands for all of it where more is known."""
        self._state = state or describe(engine, pack, explains=explainer.has_model)
        self._runner = Runner(explainer, engine, (self._state.pack or {}).get("label"))

    @property
    def state(self) -> State:
        """What answers."""
        return self._state

    async def explain(self, call: Explain) -> Explained:
        """A checked text."""
        answer: Explained = await _one(lambda tell: self._runner.explain(call, tell))
        return answer

    def complete(self, call: Complete) -> AsyncGenerator[Written | Ended, None]:
        """The texts as they are written."""
        return _stream(lambda tell: self._runner.complete(call, tell))

    async def tokenize(self, text: str, *, special: bool = False) -> list[tuple[int, str]]:
        """Tokens of a text."""
        answer: list[tuple[int, str]] = await _one(lambda tell: self._runner.tokenize(text, special, tell))
        return answer

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        answer: str = await _one(lambda tell: self._runner.detokenize(ids, tell))
        return answer

    async def figures(self) -> Mapping[str, float]:
        """Counters and gauges."""
        return self._runner.figures()

    def close(self) -> None:
        """End the threads. The engine stays open."""
        self._runner.close()


async def _stream(begin: Callable[[Tell], Leave]) -> AsyncGenerator[Any, None]:
    """What a call tells, until Ended. Raises the error that it tells. Leaves the call when the caller does."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()

    def tell(item: Any) -> None:
        with suppress(RuntimeError):  # a loop that is closed has nobody left who waits
            loop.call_soon_threadsafe(queue.put_nowait, item)

    leave = begin(tell)
    try:
        item = None
        while not isinstance(item, Ended):
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        leave()


async def _one(begin: Callable[[Tell], Leave]) -> Any:
    """The one answer that a call tells."""
    stream = _stream(begin)
    try:
        return await anext(stream)
    finally:
        await stream.aclose()
