"""POST /v1/completions: plain generation in the shape of the OpenAI API. Nothing is checked or filled in here.

A prompt is text only: what looks like a control token in it is not parsed for one, and none is written. A text ends
at the model's end token, at a stop string or after max_tokens.
"""

from __future__ import annotations

import asyncio
import codecs
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgegen.engine.backend import Mask
from edgegen.engine.loop import Engine, Generation, Job
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EdgegenError, EngineError
from edgegen.server.errors import BodyError, as_json, read_body
from edgegen.server.explanations import event, sse
from edgegen.server.explanations import field as value_of
from edgegen.slots import END

_TAKEN = ("model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "user")
# Fields of the OpenAI API that are not implemented; the values that ask for nothing pass.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (None, 1), "echo": (None, False), "frequency_penalty": (None, 0), "logit_bias": (None, {}),
    "logprobs": (None,), "presence_penalty": (None, 0), "stream_options": (None,), "suffix": (None, ""),
}  # fmt: skip
_MOST_STOPS = 4
_MOST_TEXTS = 8
_CLIENT_LEFT = 499  # for the log; nobody reads the answer


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for."""

    prompt: str
    n: int
    options: SamplingOptions
    stops: tuple[str, ...]
    stream: bool


@dataclass(slots=True)
class Text:
    """One text in the making: bytes become characters, and what may be the begin of a stop string is held back."""

    stops: tuple[str, ...]
    text: str = ""
    sent: int = 0
    tokens: int = 0
    finish: str | None = None
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def feed(self, piece: bytes) -> str:
        """Take a token's bytes; returns what can be sent."""
        if self.finish is not None:
            return ""
        self.tokens += 1
        self.text += self._decoder.decode(piece)
        found = [at for stop in self.stops if (at := self.text.find(stop)) >= 0]
        if found:
            self.text, self.finish = self.text[: min(found)], "stop"
            return self._send(len(self.text))
        return self._send(len(self.text) - max((self._held(stop) for stop in self.stops), default=0))

    def close(self, finish: str) -> str:
        """The text ends; returns what was held back."""
        if self.finish is None:
            self.text += self._decoder.decode(b"", final=True)
            self.finish = finish
        return self._send(len(self.text))

    def _held(self, stop: str) -> int:
        return next((n for n in range(len(stop) - 1, 0, -1) if self.text.endswith(stop[:n])), 0)

    def _send(self, upto: int) -> str:
        bit, self.sent = self.text[self.sent : max(self.sent, upto)], max(self.sent, upto)
        return bit


class Completions:
    """The route, on an engine; without one it says so."""

    def __init__(self, engine: Engine | None, model: str) -> None:
        self._engine, self._model = engine, model

    async def create(self, request: Request) -> Response:
        """Answer with whole texts, or with their bits as they are written."""
        wanted = _wanted(await read_body(request, (*_TAKEN, *_NEUTRAL)))
        if self._engine is None:
            raise EngineError("No model is loaded, so nothing can be completed. Start the server with a pack.")
        run = await _Run.start(self._engine, wanted, self._allow)
        head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()), "model": self._model}
        if wanted.stream:
            return sse(_events(run, head))
        if not await _while_connected(request, run):
            return Response(status_code=_CLIENT_LEFT)
        choices = [_choice(i, text.text, text.finish) for i, text in enumerate(run.texts)]
        return JSONResponse({**head, "choices": choices, "usage": run.usage()})

    @cached_property
    def _allow(self) -> tuple[Mask, frozenset[int]]:
        """What may be written, and what ends a text: every token but the control tokens, and the end tokens."""
        assert self._engine is not None  # noqa: S101 - create() looked
        vocabulary = self._engine.vocabulary
        ends = frozenset(id_ for id_ in (vocabulary.eos, vocabulary.id(END)) if id_ is not None)
        allow = np.ones(len(vocabulary.pieces), dtype=np.bool_)
        allow[list(vocabulary.controls - ends)] = False
        return allow, ends


class _Run:
    """A submitted job and its texts as far as they are written. Lives in the event loop."""

    def __init__(self, engine: Engine, wanted: Wanted, prompt: list[int], allow: tuple[Mask, frozenset[int]]) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[tuple[int, int] | None]()
        self._pieces, self._prompt = engine.vocabulary.pieces, len(prompt)
        self.texts = [Text(wanted.stops) for _ in range(wanted.n)]
        self.future: Future[Generation] = engine.submit(
            Job(prompt, wanted.n, wanted.options, allow[0], allow[1], on_token=lambda i, token: self._put((i, token.id)))
        )
        self.future.add_done_callback(lambda _: self._put(None))

    @classmethod
    async def start(cls, engine: Engine, wanted: Wanted, allow: tuple[Mask, frozenset[int]]) -> _Run:
        """Submit what is wanted. Raises what `Engine.submit` raises."""
        return cls(engine, wanted, await run_in_threadpool(engine.encode, [wanted.prompt]), allow)

    def _put(self, item: tuple[int, int] | None) -> None:
        # Called by the engine's thread; a loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def bits(self) -> AsyncIterator[tuple[int, str]]:
        """Text by text what is new. Raises EngineError. Drops the job when the caller stops listening."""
        try:
            while (item := await self._queue.get()) is not None:
                i, token = item
                if bit := self.texts[i].feed(self._pieces[token]):
                    yield i, bit
                if all(text.finish for text in self.texts):
                    return
            for i, completion in enumerate(self.future.result()):
                yield i, self.texts[i].close("stop" if completion.finish == "stop" else "length")
        finally:
            self.future.cancel()

    def usage(self) -> dict[str, int]:
        """The tokens read and written."""
        written = sum(text.tokens for text in self.texts)
        return {"prompt_tokens": self._prompt, "completion_tokens": written, "total_tokens": self._prompt + written}


async def _events(run: _Run, head: Mapping[str, Any]) -> AsyncIterator[str]:
    try:
        async for i, bit in run.bits():
            if bit:
                yield event({**head, "choices": [_choice(i, bit, None)]})
        for i, text in enumerate(run.texts):
            yield event({**head, "choices": [_choice(i, "", text.finish)]})
    except EdgegenError as error:
        yield event(as_json(error))
    finally:
        run.future.cancel()
    yield "data: [DONE]\n\n"


async def _while_connected(request: Request, run: _Run) -> bool:
    """Wait for the texts; False where the client left first, and the job was dropped."""

    async def collect() -> None:
        async for _ in run.bits():
            pass

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done, gone = asyncio.create_task(collect()), asyncio.create_task(leave())
    try:
        await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            await done
        return done.done()
    finally:
        run.future.cancel()
        for task in (done, gone):
            task.cancel()


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}


def _wanted(body: Mapping[str, Any]) -> Wanted:
    for name, neutral in _NEUTRAL.items():
        if name in body and body[name] not in neutral:
            raise BodyError(f"The field {name!r} is not supported. Leave it out.", name)
    prompt = value_of(body, "prompt", str, "")
    if not prompt:
        raise BodyError("The field 'prompt' is missing. Give the text to continue as a string.", "prompt")
    n = value_of(body, "n", int, 1)
    if not 1 <= n <= _MOST_TEXTS:
        raise BodyError(f"n must be in [1, {_MOST_TEXTS}], got {n}", "n")
    options = SamplingOptions(
        temperature=value_of(body, "temperature", (int, float), 1.0),
        top_p=value_of(body, "top_p", (int, float), 1.0),
        max_new_tokens=value_of(body, "max_tokens", int, 16),
        seed=value_of(body, "seed", int, 0),
    )
    return Wanted(prompt, n, options, _stops(body), value_of(body, "stream", bool, False))


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = value_of(body, "stop", (str, list), [])
    stops = [given] if isinstance(given, str) else given
    if len(stops) > _MOST_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise BodyError(f"The field 'stop' must be a string or a list of at most {_MOST_STOPS} strings, none empty.", "stop")
    return tuple(stops)
