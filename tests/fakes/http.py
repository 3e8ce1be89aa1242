"""A server in process: on templates, or on an engine with the fake backend."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from edgegen.engine.loop import Engine
from edgegen.explain import Explainer
from edgegen.server import Settings, make_app, sample_shops
from edgegen.serving.calls import State
from edgegen.serving.local import LocalService
from edgegen.serving.runner import describe
from edgegen.serving.templates import TemplateService
from edgegen.slots import CONTROLS, END
from tests.fakes.backend import FakeBackend, Script, hashed

BASE = "http://127.0.0.1:8765"
SHOPS = sample_shops()
TEMPLATE = (
    "{% for m in messages %}{{ '<|x|>' + m['role'] + '\\n' + m['content'] | trim + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|x|>assistant\\n' }}{% endif %}"
).replace("<|x|>", CONTROLS[0])
"""A chat template of the fake's model, in the manner of ChatML."""


def describe_fake(engine: Engine, **more: Any) -> State:
    """The state of the fake's model, which can chat."""
    known = {"controls": frozenset(CONTROLS), "specials": {"eos": END}, "chat_template": TEMPLATE}
    return describe(engine, {"name": "tiny", "label": "tiny@1"}, **{**known, **more})


@asynccontextmanager
async def server(
    script: Script | None = hashed, settings: Settings | None = None, **state: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose model follows `script`; on templates where it is None. `state` replaces what is known of it."""
    if script is None:
        async with client(make_app(TemplateService(), SHOPS, settings)) as http:
            yield http
        return
    with Engine(lambda: FakeBackend(script, n_ctx=512, n_cells=2048)) as engine:
        made = LocalService(Explainer(engine), engine, state=replace(describe_fake(engine), **state))
        try:
            async with client(make_app(made, SHOPS, settings)) as http:
                yield http
        finally:
            made.close()


def client(app: Any, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client that calls an application in process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, headers=headers)


def events(answer: httpx.Response) -> list[Any]:
    """The data of an event stream."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    bits = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [bit if bit == "[DONE]" else json.loads(bit) for bit in bits]
