"""A language model behind an OpenAI-compatible endpoint: one question, several answers. Owns pace and retries; knows no facts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from edgegen.errors import DataError, EngineError, OptionError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Where the model is and how fast it may be asked."""

    url: str
    """Up to and with `/v1`, as in http://127.0.0.1:8000/v1."""
    model: str = ""
    """Its name; empty takes the first that the endpoint lists."""
    key: str = field(default="", repr=False)
    """Sent as a bearer token where it is not empty."""
    at_once: int = 4
    """Questions that are open together. At least 1."""
    per_minute: float = 0
    """Questions a minute at most; 0 asks as fast as answers come."""
    tries: int = 6
    """Attempts at one question before it is given up. At least 1."""
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError."""
        if not self.url.startswith(("http://", "https://")):
            raise OptionError(f"The endpoint must begin with http:// or https://, got {self.url!r}")
        if self.at_once < 1 or self.tries < 1 or self.per_minute < 0 or self.timeout_s <= 0:
            raise OptionError("at_once and tries must be at least 1, per_minute at least 0 and timeout_s above 0.")


@dataclass(frozen=True, slots=True)
class Answers:
    """The texts to one question, and the tokens that the endpoint counted."""

    texts: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int


class Endpoint:
    """Asks. To be used as an async context; all calls come from one event loop."""

    def __init__(self, options: EndpointOptions, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` stands in for the network in tests."""
        self._options, self._transport = options, transport
        self._open = asyncio.Semaphore(options.at_once)
        self._next = 0.0
        self.model = options.model

    async def __aenter__(self) -> Self:
        """Connect; find the model's name where none is given. Raises EngineError."""
        headers = {"Authorization": f"Bearer {self._options.key}"} if self._options.key else {}
        self._http = httpx.AsyncClient(
            base_url=self._options.url.rstrip("/"), headers=headers, timeout=self._options.timeout_s, transport=self._transport
        )
        if not self.model:
            found = await self._call("GET", "/models", None)
            names = [str(entry.get("id")) for entry in found.get("data") or [] if isinstance(entry, dict)]
            if not names:
                raise EngineError(f"{self._options.url} lists no models. Name one with --model.")
            self.model = names[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._http.aclose()

    async def ask(
        self, messages: Sequence[Mapping[str, str]], n: int, temperature: float, max_tokens: int, seed: int
    ) -> Answers:  # fmt: skip
        """`n` answers, several calls where the endpoint gives fewer at once. Raises EngineError after the last try."""
        texts, prompt, written = list[str](), 0, 0
        async with self._open:
            while len(texts) < n:
                body = {
                    "model": self.model, "messages": list(messages), "n": n - len(texts), "temperature": temperature,
                    "max_tokens": max_tokens, "seed": seed + len(texts),
                }  # fmt: skip
                found = await self._call("POST", "/chat/completions", body)
                got = [text for choice in found.get("choices") or [] if (text := _text(choice))]
                usage = found.get("usage") or {}
                prompt, written = prompt + int(usage.get("prompt_tokens", 0)), written + int(usage.get("completion_tokens", 0))
                if not got:
                    break  # a model that says nothing will say nothing again
                texts += got
        return Answers(tuple(texts[:n]), prompt, written)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        pause, why = _FIRST_PAUSE_S, ""
        for _ in range(self._options.tries):
            await self._wait_turn()
            try:
                answer = await self._http.request(method, path, json=body)
            except httpx.HTTPError as error:
                why = f"{type(error).__name__} {error}".strip()
            else:
                if answer.status_code < 300:
                    return _json(answer, self._options.url)
                why = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code not in _AGAIN:
                    raise EngineError(f"{self._options.url} refuses the call: {why}. Check the address, the model and the key.")
                pause = max(pause, _seconds(answer.headers.get("Retry-After")))
            await asyncio.sleep(min(pause, _LONGEST_PAUSE_S))
            pause *= 2
        raise EngineError(
            f"{self._options.url} does not answer after {self._options.tries} tries: {why}. Start again later; answers are kept."
        )

    async def _wait_turn(self) -> None:
        if not self._options.per_minute:
            return
        now = time.monotonic()
        self._next = max(self._next, now) + 60 / self._options.per_minute
        await asyncio.sleep(self._next - 60 / self._options.per_minute - now)


def _json(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{url} answers with something that is no JSON object. Check that it is an OpenAI-compatible endpoint.")
    return found


def _text(choice: Any) -> str:
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content.strip() if isinstance(content, str) else ""


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
