"""The routes that tell about the server and its model: health, readiness, metrics, models, tokens, the description of the API."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from edgegen import __version__
from edgegen.errors import EngineError
from edgegen.server import asking, chat, chat_template, pages
from edgegen.server.body import BodyError, ModelNotFoundError, about, field, read_body
from edgegen.server.errors import again
from edgegen.server.generation import of_one_model
from edgegen.server.metrics import Metrics
from edgegen.server.settings import Limits
from edgegen.serving.calls import Service, State

TOKENIZE = ("content", "add_special", "parse_special", "with_pieces")
DETOKENIZE = ("tokens",)
TEMPLATE = ("messages", "model", "add_generation_prompt", "continue_final_message")
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_SELF_MADE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}


@cache
def openapi() -> Mapping[str, Any]:
    """The description of the API, as the file has it."""
    text = resources.files("edgegen").joinpath("data/openapi.json").read_text("utf-8")
    described: dict[str, Any] = json.loads(text)
    described["info"]["version"] = __version__
    return described


class About:
    """These routes, on a service."""

    def __init__(self, service: Service, limits: Limits, metrics: Metrics) -> None:
        self._service, self._limits, self._metrics, self._since = service, limits, metrics, int(time.time())

    async def health(self, request: Request) -> Response:
        """Whether the server is alive."""
        del request
        state = self._service.state
        return JSONResponse({"status": "ok", "version": __version__, "pack": _pack(state), "ready": state.ready})

    async def ready(self, request: Request) -> Response:
        """Whether a text would come from the model now."""
        del request
        state = self._service.state
        told = {"ready": state.ready, "why": state.why or None, "pack": _pack(state), "restarts": state.restarts}
        status = 200 if state.ready else 503
        return JSONResponse(told, status, again(status, state.retry_s))

    async def metrics(self, request: Request) -> Response:
        """Counts and times for Prometheus."""
        del request
        try:
            figures = await self._service.figures()
        except EngineError:
            figures = {}
        return Response(self._metrics.text(figures, self._service.state), media_type=_PROMETHEUS)

    async def models(self, request: Request) -> Response:
        """The model that is served, in a list."""
        del request
        return JSONResponse({"object": "list", "data": self._models()})

    async def model(self, request: Request) -> Response:
        """The model of a name."""
        wanted = request.path_params["id"]
        for one in self._models():
            if wanted == one["id"]:
                return JSONResponse(one)
        raise ModelNotFoundError(f"There is no model {wanted[:80]!r}. GET /v1/models lists what is served.", "model")

    def _models(self) -> list[dict[str, Any]]:
        state = self._service.state
        if state.pack is None:
            return []
        room = {"n_ctx": state.n_ctx, "n_cells": state.n_cells, "n_vocab": state.n_vocab, "n_texts": state.most_texts}
        known = {**room, "chat": bool(state.chat_template)}
        one = {"id": state.pack["name"], "object": "model", "created": self._since, "owned_by": "edgegen"}
        return [{**one, "pack": _pack(state), **known}]

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a text."""
        body = await read_body(request, TOKENIZE, self._limits)
        text = field(body, "content", str, None)
        if text is None or len(text) > self._limits.prompt_chars:
            raise BodyError(f"The field 'content' must be a text of at most {self._limits.prompt_chars} characters.", "content")
        special, first, pieces = (field(body, name, bool, False) for name in ("parse_special", "add_special", "with_pieces"))
        asking.need_model(self._service.state)

        async def tokens(state: State) -> list[tuple[int, str]]:
            found = await self._service.tokenize(text, special=special) if text else []
            if first and state.starts_with_bos and "bos" in state.specials:
                found = [*await self._service.tokenize(state.specials["bos"], special=True), *found]
            return found

        found = await of_one_model(self._service, tokens)
        return JSONResponse({"tokens": [{"id": id_, "piece": _piece(text)} if pieces else id_ for id_, text in found]})

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens."""
        ids = field(await read_body(request, DETOKENIZE, self._limits), "tokens", list, None)
        if ids is None or not all(isinstance(id_, int) and not isinstance(id_, bool) and 0 <= id_ < 2**31 for id_ in ids):
            raise BodyError("The field 'tokens' must be a list of token ids.", "tokens")
        asking.need_model(self._service.state)
        with about("tokens"):
            return JSONResponse({"content": await self._service.detokenize(ids) if ids else ""})

    async def apply_template(self, request: Request) -> Response:
        """The prompt that a chat becomes."""
        body = await read_body(request, TEMPLATE, self._limits)
        found = chat.messages(body, self._limits)
        asking.need_model(self._service.state)
        parts = chat_template.prompt(found, self._service.state, go_on=chat.goes_on(body))
        return JSONResponse({"prompt": "".join(part.text for part in parts)})

    async def described(self, request: Request) -> Response:
        """The description of the API."""
        del request
        return JSONResponse(openapi())

    async def docs(self, request: Request) -> Response:
        """The same as a page to read."""
        del request
        return HTMLResponse(pages.page(openapi()), headers=_SELF_MADE)


def _pack(state: State) -> dict[str, Any] | None:
    """What everybody may know of the pack, which is not where it lies on this machine."""
    return None if state.pack is None else {name: value for name, value in state.pack.items() if name != "path"}


def _piece(text: str) -> str | list[int]:
    """A token's text; its bytes where they are no whole characters."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return list(raw)
