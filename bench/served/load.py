"""Sends requests to an HTTP server from many clients at once and notes when each answer came. Standard library alone.

    python load.py < JOB.json > RECORDS.json

A job: {"port", "path", "clients", "bodies", "headers"?}. Each client keeps one connection and takes the next body when its
answer is complete. While requests run, bytes are only stamped with a time; they are read as JSON afterwards, so that the load
costs the servers as little as possible.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

_END = b"\r\n0\r\n\r\n"


@dataclass(slots=True)
class Record:
    """One request: seconds from the start of the run, tokens as the server counts them, the text, the tokens' ids
    where they are told, and what went wrong.
    """

    at: int
    began: float
    first: float | None = None
    ended: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0
    text: str = ""
    ids: list[int] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True)
class _Answer:
    """The bytes of an answer as they came."""

    done: asyncio.Future[None]
    parts: list[tuple[float, bytes]] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """A connection that is kept; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: _Answer | None = None
        self._tail = b""
        self._left: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns that no more will come."""
        del exc
        self.transport = None
        if self.answer is not None and not self.answer.done.done():
            self.answer.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Stamp what came and see whether it is the end."""
        answer = self.answer
        if answer is None or answer.done.done():
            return
        answer.parts.append((time.perf_counter(), data))
        if len(answer.parts) == 1:
            self._left = _length(data)
        elif self._left is not None:
            self._left -= len(data)
        self._tail = (self._tail + data)[-len(_END) :]
        if (self._left is None and self._tail == _END) or (self._left is not None and self._left <= 0):
            answer.done.set_result(None)

    async def send(self, request: bytes) -> list[tuple[float, bytes]]:
        """Send a request; returns the stamped bytes of the answer."""
        self._tail, self._left = b"", None
        self.answer = answer = _Answer(asyncio.get_running_loop().create_future())
        if self.transport is None:
            return []
        self.transport.write(request)
        await answer.done
        return answer.parts


def _length(head: bytes) -> int | None:
    """Bytes of the body that are still to come, None where the body is chunked."""
    headers, _, body = head.partition(b"\r\n\r\n")
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value) - len(body)
    return None


def encode(path: str, port: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """A POST request."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def run(job: Mapping[str, Any]) -> list[Record]:
    """All records of a job, in the order of its bodies."""
    port = int(job["port"])
    headers = job.get("headers", {})
    work = enumerate([encode(job["path"], port, body, headers) for body in job["bodies"]])
    began = time.perf_counter()
    rows: list[tuple[int, float, list[tuple[float, bytes]]]] = []

    async def client() -> None:
        loop = asyncio.get_running_loop()
        connection: _Client | None = None
        for at, request in work:
            if connection is None or connection.transport is None:
                connection = (await loop.create_connection(_Client, "127.0.0.1", port))[1]
            start = time.perf_counter()
            parts = await connection.send(request)
            if not parts:  # the server had closed the kept connection, as llama-server does after a stream: not its answer's time
                connection = (await loop.create_connection(_Client, "127.0.0.1", port))[1]
                start = time.perf_counter()
                parts = await connection.send(request)
            rows.append((at, start, parts))
        if connection is not None and connection.transport is not None:
            connection.transport.close()

    await asyncio.gather(*(client() for _ in range(int(job["clients"]))))
    return sorted((read(at, start - began, parts, began) for at, start, parts in rows), key=lambda record: record.at)


def read(at: int, start: float, parts: list[tuple[float, bytes]], began: float) -> Record:
    """The record of an answer from its stamped bytes."""
    record = Record(at, start, ended=parts[-1][0] - began if parts else start)
    whole = b"".join(data for _, data in parts)
    head, _, body = whole.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        record.error = f"{head[:40].decode('latin-1')!r} {body[:300].decode('utf-8', 'replace')}" if whole else "no answer"
        return record
    if b"text/event-stream" not in head.lower():
        _whole(record, json.loads(body if b"chunked" not in head.lower() else b"".join(_chunks(body))))
        return record
    _streamed(record, parts, began)
    return record


def _whole(record: Record, answer: Mapping[str, Any]) -> None:
    _usage(record, answer)
    record.text = "".join(_text(choice) for choice in answer.get("choices") or ())
    record.ids = [id_ for choice in answer.get("choices") or [answer] for id_ in _ids(choice)]
    record.first = record.ended


def _streamed(record: Record, parts: list[tuple[float, bytes]], began: float) -> None:
    """Events may be cut anywhere; one counts as come when its last byte did."""
    held, counted, ended = b"", 0, False
    for stamp, data in parts:
        held += data
        *events, held = held.split(b"\n\n")
        for event in events:
            at = event.find(b"data: ")
            if at < 0:
                continue
            payload = event[at + 6 :].strip()
            if payload == b"[DONE]":
                ended = True
                continue
            answer = json.loads(payload)
            _usage(record, answer)
            if "error" in answer:
                record.error = str(answer["error"])[:300]
            text = "".join(_text(choice) for choice in answer.get("choices") or ())
            counted += bool(text)
            if text and record.first is None:
                record.first = stamp - began
            record.text += text
            record.ids += [id_ for choice in answer.get("choices") or () for id_ in _ids(choice)]
    record.tokens = record.tokens or counted
    if not ended and not record.error:
        record.error = "the stream broke off"


def _usage(record: Record, answer: Mapping[str, Any]) -> None:
    usage = answer.get("usage") or {}
    record.tokens = usage.get("completion_tokens", record.tokens)
    record.prompt_tokens = usage.get("prompt_tokens", record.prompt_tokens)


def _text(choice: Mapping[str, Any]) -> str:
    return str(choice.get("text") or (choice.get("delta") or choice.get("message") or {}).get("content") or "")


def _ids(choice: Mapping[str, Any]) -> list[int]:
    """Tokens as edgegen tells them, or llama-server."""
    return choice.get("token_ids") or choice.get("tokens") or []


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        n = int(size or b"0", 16)
        if not n:
            return
        yield rest[:n]
        body = rest[n + 2 :]


def main() -> None:
    """Run the job on stdin."""
    records = asyncio.run(run(json.load(sys.stdin)))
    json.dump([asdict(record) for record in records], sys.stdout)


if __name__ == "__main__":
    main()
