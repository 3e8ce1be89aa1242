"""POST /v1/feedback, and the note of each text that is shown. All that touches the store runs in a thread of its own.

A text that cannot be stored is shown all the same, without a `feedback_id`; feedback that cannot be stored is an error, so that
nobody takes for kept what is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgegen import wire
from edgegen.errors import NotFoundError, StorageError
from edgegen.explain import safe
from edgegen.server.body import BodyError, field, number, read_body
from edgegen.server.settings import Limits
from edgegen.serving.calls import Explain, Explained
from edgegen.store import KINDS, Event, Shown, Store

FIELDS = ("id", "event", "text", "seconds")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Feedback:
    """The route, on a store; without one nothing is kept and the route is refused."""

    def __init__(self, store: Store | None, limits: Limits) -> None:
        self._store, self._limits = store, limits
        # One thread: SQLite writes one after the other anyway, and a slow disk keeps no other work from its threads.
        self._thread = ThreadPoolExecutor(1, "edgegen-feedback")

    async def shown(self, call: Explain, answer: Explained) -> str | None:
        """Note a text; gives the id by which feedback on it comes, None where none is kept."""
        if self._store is None:
            return None
        record = answer.record
        request, _ = safe(call.request)
        one = Shown(
            record["task"], record["lang"], wire.request_to_json(request), record["text"], record["source"], answer.slotted,
            answer.pack, call.options.seed,
        )  # fmt: skip
        try:
            return await self._run(self._store.record, one)
        except StorageError as error:
            _log.warning("a text is shown that cannot take feedback: %s", error)
            return None

    async def create(self, request: Request) -> Response:
        """Keep what somebody made of a text."""
        body = await read_body(request, FIELDS, self._limits)
        id_, kind = field(body, "id", str, None), field(body, "event", str, None)
        if id_ is None or kind not in KINDS:
            wrong = "id" if id_ is None else "event"
            raise BodyError(f"Feedback has 'id', a text's feedback_id, and 'event': {', '.join(KINDS)}.", wrong)
        event = Event(kind, field(body, "text", str, None), number(body, "seconds", None, 0, 86400))
        if self._store is None:
            raise NotFoundError("This server keeps no feedback. Start it with --feedback.")
        await self._run(self._store.add, id_, event)
        return JSONResponse({"id": id_, "event": kind})

    async def _run(self, work: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
