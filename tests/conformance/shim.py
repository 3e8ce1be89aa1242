"""Stands where llama-server's tests expect llama-server: starts `edgegen serve`, and passes on what they ask in our words.

The OpenAI routes and the tokenizer go through nearly as they are; /completion, /props, /slots and the metrics are told in
llama-server's shapes from our answers. No text, count, limit or refusal is made up here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.conformance import flags as flags_
from tests.conformance import native, start, templates
from tests.conformance.native import Clock, Gathered, UnsupportedError

_STOP_S = 4  # llama-server's tests kill after 5
_PASSED = ("authorization", "origin", "access-control-request-method", "access-control-request-headers")


class RefusedError(Exception):
    """Our server refused; its answer goes on in llama-server's words."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


class Shim:
    """The routes of llama-server, on ours."""

    def __init__(self, client: httpx.AsyncClient, flags: Namespace, model: Path) -> None:
        self._client, self._flags, self._model, self._since = client, flags, model, str(time.time())
        self._ids, self._ends, self._start = start.vocabulary(model)

    def routes(self) -> list[Route]:
        """All of them; what is not here goes through as it is."""
        chats = ("/chat/completions", "/v1/chat/completions")
        natives = ("/completion", "/completions")
        return [
            *(Route(path, self.completion, methods=["POST"]) for path in natives),
            Route("/v1/completions", self.plain, methods=["POST"]),
            *(Route(path, self.chat, methods=["POST"]) for path in chats),
            Route("/chat/completions/input_tokens", self.input_tokens, methods=["POST"]),
            *(Route(path, self.models) for path in ("/models", "/v1/models")),
            Route("/apply-template", self.template, methods=["POST"]),
            Route("/props", self.props),
            Route("/slots", self.slots),
            Route("/metrics", self.metrics),
            Route("/{path:path}", self.through, methods=["GET", "POST", "OPTIONS", "DELETE"]),
        ]

    def _headers(self, request: Request) -> dict[str, str]:
        passed = {name: request.headers[name] for name in _PASSED if name in request.headers}
        if "x-api-key" in request.headers:  # the other header in which llama-server takes a key
            passed["authorization"] = f"Bearer {request.headers['x-api-key']}"
        return passed

    async def through(self, request: Request) -> Response:
        """Pass on as it is."""
        content, path = await request.body(), request.url.path
        headers = self._headers(request) | ({"content-type": "application/json"} if content else {})
        answer = await self._client.request(request.method, path, content=content, headers=headers)
        told = {name: value for name, value in answer.headers.items() if name.startswith(("access-control", "content-type"))}
        return _cased(Response(answer.content, answer.status_code), told)

    async def _ask(self, request: Request, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Our answer to a small question. Raises RefusedError."""
        headers = self._headers(request)
        answer = await self._client.request("GET" if body is None else "POST", path, json=body, headers=headers)
        if answer.status_code != 200:
            raise RefusedError(answer.status_code, answer.json())
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    async def _stream(self, request: Request, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The events of our stream. Raises RefusedError."""
        async with self._client.stream("POST", path, json=body, headers=self._headers(request)) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise RefusedError(answer.status_code, answer.json())
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        raise RefusedError(500, event)
                    yield event

    async def completion(self, request: Request) -> Response:
        """llama-server's own route: one prompt or several, whole or streamed."""
        body = json.loads(await request.body())
        prompts = await self._prompts(request, body.get("prompt", ""))
        body["logit_bias"] = await self._biases(request, body.get("logit_bias") or [])
        if body.get("stream"):
            events = self._native_events(request, body, prompts[0])
            first = await anext(events)
            return _sse(_resumed(first, events))
        answers = [await _unless_left(request, self._native(request, body, prompt)) for prompt in prompts]
        several = isinstance(body.get("prompt"), list) and len(prompts) > 1
        return JSONResponse(answers if several else answers[0])

    async def _native_events(self, request: Request, body: Mapping[str, Any], prompt: Any) -> AsyncIterator[dict[str, Any]]:
        gathered = Gathered()
        asked = native.completion(body, prompt, self._flags) | {"logit_bias": body["logit_bias"]}
        async for event in self._stream(request, "/v1/completions", asked):
            for part in gathered.add(event, self._ids):
                yield part
        told = native.settings(body, self._flags, self._ends)
        shown = await self._shown(request, prompt)
        yield gathered.whole(body, told, shown, streamed=bool(body.get("stream")))

    async def _native(self, request: Request, body: Mapping[str, Any], prompt: Any) -> Any:
        gathered = Gathered()
        asked = native.completion(body, prompt, self._flags) | {"logit_bias": body["logit_bias"]}
        async for event in self._stream(request, "/v1/completions", asked):
            gathered.add(event, self._ids)
        told = native.settings(body, self._flags, self._ends)
        return gathered.whole(body, told, await self._shown(request, prompt), streamed=False)

    async def _shown(self, request: Request, prompt: Any) -> str:
        """The prompt as its tokens read."""
        ids = prompt
        if isinstance(prompt, str):
            ids = (await self._ask(request, "/tokenize", {"content": prompt, "add_special": True}))["tokens"]
        return str((await self._ask(request, "/detokenize", {"tokens": ids}))["content"])

    async def _prompts(self, request: Request, given: Any) -> list[Any]:
        """The prompts of a body: texts, objects with a text, token ids, and lists of these or of both in one."""
        if (
            isinstance(given, list)
            and all(isinstance(one, int | str) for one in given)
            and any(isinstance(one, int) for one in given)
        ):
            parts = [
                [one] if isinstance(one, int) else (await self._ask(request, "/tokenize", {"content": one}))["tokens"]
                for one in given
            ]
            return [[token for part in parts for token in part]]
        several = given if isinstance(given, list) else [given]
        return [_text(one) if isinstance(one, dict) else one for one in several]

    async def _biases(self, request: Request, given: Any) -> dict[str, float]:
        """Biases by token, from pairs or an object, of tokens or texts."""
        found: dict[str, float] = {}
        for what, value in given.items() if isinstance(given, dict) else given:
            ids = [what]
            if isinstance(what, str) and not what.isdigit():
                ids = (await self._ask(request, "/tokenize", {"content": what}))["tokens"]
            found |= {str(id_): max(-100.0, float(value)) for id_ in ids}
        return found

    async def plain(self, request: Request) -> Response:
        """/v1/completions as the OpenAI API has it, with the flags' sampling where a request says nothing."""
        body = {**native.defaults(self._flags), **json.loads(await request.body())}
        return await self._openai(request, "/v1/completions", body, body)

    async def chat(self, request: Request) -> Response:
        """Chats."""
        given = json.loads(await request.body())
        return await self._openai(request, "/v1/chat/completions", native.chat(given, self._flags), given)

    async def _openai(self, request: Request, path: str, body: Mapping[str, Any], given: Mapping[str, Any]) -> Response:
        named = {"model": self._flags.alias.split(",")[0]} if self._flags.alias else {}
        if body.get("stream"):
            events = self._openai_events(request, path, body, named)
            first = await anext(events)
            return _sse(_resumed(first, events))
        answer = await _unless_left(request, self._ask(request, path, body)) | named
        if self._flags.verbose or given.get("verbose"):
            answer["__verbose"] = {"prompt": await self._shown(request, await self._rendered(request, given))}
        return JSONResponse(answer)

    async def _openai_events(
        self, request: Request, path: str, body: Mapping[str, Any], named: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        clock = Clock()
        async for event in self._stream(request, path, body):
            if event["choices"]:
                clock.came()
            elif event.get("usage"):
                event["timings"] = clock.timings(event["usage"])
            yield {**event, **named}

    async def _rendered(self, request: Request, given: Mapping[str, Any]) -> str:
        """The prompt that a chat becomes, without the token that the model wants before it."""
        names = ("messages", "add_generation_prompt", "continue_final_message")
        asked = {name: value for name, value in native.continued(given).items() if name in names}
        return str((await self._ask(request, "/apply-template", asked))["prompt"]).removeprefix(self._start)

    async def template(self, request: Request) -> Response:
        """The prompt that a chat becomes."""
        return JSONResponse({"prompt": await self._rendered(request, json.loads(await request.body()))})

    async def input_tokens(self, request: Request) -> Response:
        """How many tokens a chat has."""
        prompt = await self._rendered(request, json.loads(await request.body()))
        tokens = await self._ask(request, "/tokenize", {"content": prompt, "add_special": True})
        return JSONResponse({"input_tokens": len(tokens["tokens"])})

    async def models(self, request: Request) -> Response:
        """The model under the names that the flags give it."""
        found = await self._ask(request, "/v1/models")
        names, tags = sorted(filter(None, self._flags.alias.split(","))), sorted(filter(None, self._flags.tags.split(",")))
        for one in found["data"]:
            one |= {"id": names[0] if names else one["id"], "aliases": names, "tags": tags}
        return JSONResponse(found)

    async def props(self, request: Request) -> Response:
        """The flags, and the context as our server has it."""
        (model,) = (await self._ask(request, "/v1/models"))["data"]
        params = native.settings({}, self._flags, ())
        told = {"model_path": str(self._model), "total_slots": self._flags.parallel, "chat_template": "", "build_info": "edgegen"}
        return JSONResponse({**told, "default_generation_settings": {"n_ctx": model["n_ctx"], "params": params}})

    async def slots(self, request: Request) -> Response:
        """As many as the flag says; those that are at work by our count."""
        if not self._flags.slots:
            return _error(501, "not_supported_error", "start with --slots")
        (model,) = (await self._ask(request, "/v1/models"))["data"]
        busy = int(native.figure(native.ours(await self._ask(request, "/metrics")), "jobs_running"))
        return JSONResponse([{"id": i, "n_ctx": model["n_ctx"], "is_processing": i < busy} for i in range(self._flags.parallel)])

    async def metrics(self, request: Request) -> Response:
        """Our counts under llama-server's names."""
        if not self._flags.metrics:
            return _error(501, "not_supported_error", "start with --metrics")
        found = native.ours(await self._ask(request, "/metrics"))
        kinds = {kind: found.get(f'edgegen_tokens_total{{kind="{kind}"}}', 0.0) for kind in ("prompt", "reused", "completion")}
        values = {
            "prompt_tokens_total": kinds["prompt"] - kinds["reused"], "prompt_tokens_cached_total": kinds["reused"],
            "tokens_predicted_total": kinds["completion"], "n_decode_total": native.figure(found, "steps_total"),
            "requests_processing": native.figure(found, "jobs_running"),
            "requests_deferred": native.figure(found, "jobs_waiting"),
            "spec_decode_num_draft_tokens_total": native.figure(found, "tokens_drafted_total"),
            "spec_decode_num_accepted_tokens_total": native.figure(found, "tokens_accepted_total"),
        }  # fmt: skip
        return _cased(Response(native.metrics(values), media_type="text/plain"), {"process-start-time-unix": self._since})

    async def refused(self, request: Request, error: Exception) -> Response:
        """Our refusal in llama-server's words: another type for a key and for a prompt that is too long."""
        assert isinstance(error, RefusedError)
        told = dict(error.body.get("error") or {})
        if error.status == 401:
            told["type"] = "authentication_error"
        if told.get("code") == "context_length_exceeded":
            told["type"] = "exceed_context_size_error"
            told |= await self._sizes(request)
        return JSONResponse({"error": told}, error.status)

    async def _sizes(self, request: Request) -> dict[str, int]:
        body = json.loads(await request.body())
        (model,) = (await self._ask(request, "/v1/models"))["data"]
        text = body.get("prompt")
        if text is None:
            text = await self._rendered(request, body)
        ids = text if isinstance(text, list) else (await self._ask(request, "/tokenize", {"content": text}))["tokens"]
        return {"n_prompt_tokens": len(ids), "n_ctx": model["n_ctx"]}


def _text(given: Mapping[str, Any]) -> str:
    if given.get("multimodal_data"):
        raise UnsupportedError("multimodal_data: edgegen reads text alone")
    return str(given["prompt_string"])


async def _resumed(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield first
    async for event in rest:
        yield event


def _sse(events: AsyncIterator[Any]) -> Response:
    async def told() -> AsyncIterator[str]:
        async for event in events:
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(told(), media_type="text/event-stream")


async def _unless_left(request: Request, work: Awaitable[Any]) -> Any:
    """The outcome of some work, which is dropped when the client leaves."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done, gone = asyncio.ensure_future(work), asyncio.create_task(leave())
    try:
        await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise RefusedError(499, {})
        return await done
    finally:
        gone.cancel()
        done.cancel()


def _cased(response: Response, headers: Mapping[str, str]) -> Response:
    """With headers as llama-server writes them; its tests look them up by case."""
    response.raw_headers += [(name.title().encode(), value.encode()) for name, value in headers.items()]
    return response


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"code": status, "message": message, "type": kind}}, status)


async def _unsupported(request: Request, error: Exception) -> Response:
    del request
    return _error(400, "not_supported_error", str(error))


def _listener(host: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    return found


def main() -> None:
    """Serve until stopped; edgegen's process ends with this one."""
    flags = flags_.parsed(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again, which must not skip what ends edgegen
    with tempfile.TemporaryDirectory() as folder:
        model = Path(os.environ[flags_.MODEL])
        template = templates.wanted(flags, templates.brings(model))
        if template is not None:
            templates.with_template(model, template, Path(folder) / "model.gguf")
            model = Path(folder) / "model.gguf"
        port, process = start.edgegen(flags, model, Path(folder))
        try:
            start.wait(port, process)
            client = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=600, limits=httpx.Limits(max_connections=None)
            )
            shim = Shim(client, flags, model)
            handlers: Any = {RefusedError: shim.refused, UnsupportedError: _unsupported}
            app = Starlette(routes=shim.routes(), exception_handlers=handlers)
            listeners = [_listener(host, flags.port) for host in flags.host]
            uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning")).run(sockets=listeners)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            process.kill()
