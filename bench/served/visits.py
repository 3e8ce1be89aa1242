"""Requests of all kinds, made as people do: to the end, slowly, or left in the middle. Judges each answer."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Manner = Literal["patient", "leaves", "slow"]
_MANNERS: tuple[Manner, ...] = ("patient",) * 7 + ("leaves",) * 2 + ("slow",)
_TOO_LONG_S = 60.0
_AGAIN = (429, 503)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request and how its client behaves; `ends` is what its stream ends with, once."""

    route: str
    body: Mapping[str, Any] | None
    manner: Manner = "patient"
    ends: str = ""


@dataclass(slots=True)
class Answer:
    """An answer as it came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def drawn(rng: random.Random) -> Visit:
    """A visit of any kind; explanations are the most."""
    manner = rng.choice(_MANNERS)
    product = {"name": f"Kettle {rng.randint(1, 999)}", "price": rng.randint(5, 500), "rating": 4.5, "brand": "Oduya"}
    explain = {"product": product, "task": rng.choice(("reason", "product")), "seed": rng.randint(0, 10**6)}
    written = {"model": "bundled", "prompt": "The kettle", "max_tokens": rng.randint(1, 64), "seed": rng.randint(0, 10**6)}
    return rng.choices(
        (
            Visit("/v1/explanations", explain, manner),
            Visit("/v1/explanations (stream)", {**explain, "stream": True}, manner, 'data: {"done"'),
            Visit("/v1/completions", {**written, "n": rng.randint(1, 3)}, manner),
            Visit("/v1/completions (stream)", {**written, "stream": True}, manner, "data: [DONE]"),
            Visit("/tokenize", {"content": "The kettle is quiet. " * rng.randint(1, 20)}),
            Visit("/v1/models", None),
            Visit("/metrics", None),
        ),
        (6, 4, 3, 4, 1, 1, 1),
    )[0]


async def made(port: int, visit: Visit, rng: random.Random) -> str:
    """Make a visit; how it ended. What must not be begins with FAULT."""
    path = visit.route.partition(" ")[0]
    writer = None
    try:
        async with asyncio.timeout(_TOO_LONG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 14)
            writer.write(_request(path, port, visit.body))
            if visit.manner == "leaves":
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1 << 20), rng.choice((0.001, 0.01, 0.05, 0.2)))
                return "left"
            return judged(visit, await _answer(reader, 0.02 if visit.manner == "slow" else 0.0))
    except TimeoutError:
        return f"FAULT: no end after {_TOO_LONG_S:g} s"
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        return f"FAULT: {type(error).__name__}: {str(error)[:80]}"
    finally:
        if writer is not None:
            writer.close()


def _request(path: str, port: int, body: Mapping[str, Any] | None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"] if data else []
    return "\r\n".join([*lines, "", ""]).encode() + data


async def _answer(reader: asyncio.StreamReader, pause_s: float) -> Answer:
    """The whole answer; the connection is closed after it."""
    answer = Answer()
    answer.status = int((await reader.readuntil(b"\r\n")).split()[1])
    while (line := (await reader.readuntil(b"\r\n")).strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        answer.headers[name.lower()] = value.strip()
    parts = []
    while part := await reader.read(256 if pause_s else 1 << 16):
        parts.append(part)
        await asyncio.sleep(pause_s)
    answer.body = b"".join(parts)
    return answer


def judged(visit: Visit, answer: Answer) -> str:
    """How an answer ended a visit. What must not be begins with FAULT."""
    if answer.status in _AGAIN:
        return str(answer.status) if "retry-after" in answer.headers else f"FAULT: {answer.status} without Retry-After"
    if answer.status != 200:
        return f"FAULT: status {answer.status}: {answer.body[:120]!r}"
    if answer.headers.get("transfer-encoding") == "chunked" and not answer.body.endswith(b"0\r\n\r\n"):
        return "FAULT: cut off"
    if not visit.ends:
        return "answered"
    return _ended(visit, answer.body)


def _ended(visit: Visit, body: bytes) -> str:
    """A stream ends once, with its last event or with an error in its place."""
    events = body.count(visit.ends.encode())
    errors = body.count(b'data: {"error"')
    if events + errors != 1:
        return f"FAULT: {events} ends, {errors} errors in a stream: {body[-200:]!r}"
    return "answered" if events else "error in the stream"
