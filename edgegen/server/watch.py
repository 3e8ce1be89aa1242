"""Outermost: numbers each request, counts and times it, writes the access log, and turns what nobody expected into a 500.

No prompt and no fact gets into the log unless that is wanted; an unexpected error is told by its kind and place alone.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import uuid
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegen.server.errors import CLIENT_LEFT, refusal
from edgegen.server.metrics import Metrics
from edgegen.server.settings import Settings


class Watch:
    """Sees every request and its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: Settings) -> None:
        """Counts in `metrics`."""
        self._app, self._metrics, self._settings = app, metrics, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note what came of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(send, uuid.uuid4().hex)
        try:
            await self._app(scope, receive, seen.send)
        except Exception as error:  # noqa: BLE001 - the log gets its kind and place, not its message, which may quote a prompt
            _say(f"edgegen: {scope['method']} {scope['path']} failed: {_place(error)} (request {seen.id})")
            if not seen.status:
                message = f"edgegen failed: {type(error).__name__}. The server's log has the place, under request {seen.id}."
                await refusal(message, 500, "internal")(scope, receive, seen.send)
        finally:
            self._note(scope, seen)

    def _note(self, scope: Scope, seen: _Seen) -> None:
        seconds = time.perf_counter() - seen.started
        status = seen.status if seen.whole else CLIENT_LEFT
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.request(route, status, seconds, refused=scope.get("edgegen.refused", False))
        if self._settings.access_log:
            _say(json.dumps(self._line(scope, seen, status, seconds), ensure_ascii=False))

    def _line(self, scope: Scope, seen: _Seen, status: int, seconds: float) -> dict[str, Any]:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "id": seen.id,
            "client": (scope.get("client") or ("",))[0], "key": scope.get("edgegen.key"), "method": scope["method"],
            "path": scope["path"], "status": status, "bytes": seen.bytes, "seconds": round(seconds, 4),
        }  # fmt: skip
        return line | ({"body": scope.get("edgegen.body")} if self._settings.log_prompts else {})


class _Seen:
    """What of an answer has been sent."""

    def __init__(self, send: Send, id_: str) -> None:
        self._send, self.id = send, id_
        self.started, self.status, self.bytes, self.whole = time.perf_counter(), 0, 0, False

    async def send(self, message: Message) -> None:
        """Send on, with the request's number."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: MutableMapping[str, Any] = message
            headers["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
        await self._send(message)
        if message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return f"{type(error).__name__} at " + " < ".join(f"{f.name} ({f.filename}:{f.lineno})" for f in reversed(frames))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
