"""Connections within limits: a client that sends slowly, does not read, or opens too many cannot hold anything for long.

uvicorn waits for such clients without end. The clocks stand here, at the connection, where it can be cut: an answer that
cannot be sent ends its call, as a client that leaves does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgegen.server.errors import again, error_json
from edgegen.server.settings import Limits

_TOO_LONG = 431
_GRACE_S = 1.0  # the route that reads the body answers first


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with clocks."""

    def __init__(self, *args: Any, limits: Limits, refused: Callable[[int], None], **more: Any) -> None:
        """`limits` say how long each thing may take; `refused` is told the status of what no application sees."""
        super().__init__(*args, **more)
        self._limits, self._refused = limits, refused
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(503, f"{self._limits.connections} connections are open already. Try again in a few seconds.", "busy")
            return
        self._watch_receiving()

    def data_received(self, data: bytes) -> None:
        """Take in what came, and look whether a request is whole."""
        super().data_received(data)
        self._watch_receiving()

    def send_400_response(self, msg: str) -> None:
        """Refuse a head that cannot be read."""
        del msg
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == _TOO_LONG:
            self._refuse(_TOO_LONG, f"The request's head is longer than {self._limits.header_bytes} bytes.", "head")
        else:
            self._refuse(400, "The request cannot be read. Send HTTP/1.1.", "head")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer in the shape of all errors, unless another answer has begun, and close."""
        self._refused(status)
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = json.dumps(error_json(message, status, code)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close", **again(status)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        _stop(self._receiving)
        _stop(self._sending)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read what was sent."""
        super().pause_writing()
        self._sending = self._sending or self.loop.call_later(self._limits.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        _stop(self._sending)
        self._sending = None

    def on_response_complete(self) -> None:
        """The answer has been handed over; the client must fetch it, even where the connection closes."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.pause_writing()
        self._watch_receiving()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose last answer was never read."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.pause_writing()

    def _watch_receiving(self) -> None:
        """A request that has begun must become whole in time; between two requests uvicorn's own clock runs."""
        state = self.conn.their_state
        waits = state is h11.SEND_BODY or (state is h11.IDLE and self.timeout_keep_alive_task is None)
        if not waits:
            _stop(self._receiving)
            self._receiving = None
        elif self._receiving is None:
            self._receiving = self.loop.call_later(self._limits.receive_s + _GRACE_S, self.transport.abort)


def connections(limits: Limits, refused: Callable[[int], None]) -> Any:
    """What uvicorn makes a connection of."""
    return partial(Connection, limits=limits, refused=refused)


def _stop(clock: asyncio.TimerHandle | None) -> None:
    if clock is not None:
        clock.cancel()
