"""The HTTP API in process: on templates alone, and on the engine with the fake backend."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from edgegen import wire
from edgegen.commands import serve
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine.backend import Batch, Logits
from edgegen.engine.loop import Engine
from edgegen.errors import UsageError
from edgegen.explain import Explainer
from edgegen.server import Shop, make_app, sample_shops
from edgegen.server.completions import Text
from edgegen.server.errors import MAX_BODY
from tests.fakes.backend import FakeBackend, scripted

BASE, WAIT_S = "http://127.0.0.1:8765", 10
ROW = {"id": "p9", "name": "Pour Kettle", "category": "kettle", "price": 49.5, "rating": 4.8, "cordless": True}
SHOPS = sample_shops()


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine whose model writes one text whatever it is asked."""
    with Engine(lambda: FakeBackend(scripted("a fine cup of tea"))) as found:
        yield found


def client(app: Any) -> httpx.AsyncClient:
    """A client that calls an application in process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE)


async def post(path: str, body: Any, engine: Engine | None = None, **options: Any) -> httpx.Response:
    """One call of a server on `engine`, or on templates."""
    async with client(make_app(Explainer(engine), engine, {"name": "tiny"}, SHOPS)) as http:
        return await http.post(path, json=body, **options)


async def get(path: str) -> httpx.Response:
    """One call of a server on templates."""
    async with client(make_app(Explainer(None), None, {"name": "tiny"}, SHOPS)) as http:
        return await http.get(path)


def events(answer: httpx.Response) -> list[Any]:
    """The data of an event stream."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    bits = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [bit if bit == "[DONE]" else json.loads(bit) for bit in bits]


async def test_health_tasks_and_products() -> None:
    """What the terminal needs before it asks for a text."""
    health = (await get("/health")).json()
    assert health["status"] == "ok" and health["pack"] == {"name": "tiny"} and health["version"]
    assert "reason" in [task["name"] for task in (await get("/v1/tasks")).json()["tasks"]]
    shop = (await get("/v1/products")).json()
    assert (shop["lang"], shop["langs"]) == ("en", ["en", "zh"])
    first = shop["products"][0]
    price = next(fact for fact in first["facts"] if fact["key"] == "price")
    assert first["id"] == "p001" and price == {"key": "price", "label": "price", "text": "$89"}
    assert (await get("/v1/products?lang=zh")).json()["products"][0]["facts"][0]["label"] == "名称"
    assert (await get("/v1/products?lang=fr")).status_code == 404


async def test_explains_a_row() -> None:
    """A row goes through the catalogue's mapping; the record says where the text comes from."""
    answer = await post("/v1/explanations", {"task": "reason", "lang": "en", "product": ROW})
    record = answer.json()
    assert answer.status_code == 200, record
    assert record["id"] == "p9" and record["source"] == "template" and "Pour Kettle" in record["text"]
    assert {"task", "lang", "claims", "withheld", "rejected", "note", "timings"} <= set(record)


@pytest.mark.parametrize(
    "body",
    [
        {"product": "p001"},
        {"lang": "zh", "product": "p001"},
        {"task": "personal", "product": "p001", "shopper": "u1"},
        {"task": "personal", "product": ROW, "shopper": {"likes": ["strong tea"], "budget": 80}},
        {"task": "search", "products": ["p001", "p002"], "query": "grinder"},
        {"task": "category", "product": {"name": "Burr Grinder"}, "paths": ["Kitchen > Coffee", "Toys"]},
    ],
)
async def test_explains_what_is_named(body: dict[str, Any]) -> None:
    """Products and shoppers may be served ones, by id, or rows."""
    answer = await post("/v1/explanations", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"]


async def test_explains_the_exact_form() -> None:
    """A wire request is taken as it is."""
    asked = Request(
        "reason", "en", (Section("item", (Fact("name", "Pour Kettle", Kind.TEXT), Fact("category", "kettle", Kind.PHRASE))),)
    )
    answer = await post("/v1/explanations", {"request": wire.request_to_json(asked)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] is None and "Pour Kettle" in answer.json()["text"]


async def test_streams_an_explanation() -> None:
    """The bits joined are the text of the record that comes last."""
    *bits, last = events(await post("/v1/explanations", {"product": "p001", "stream": True}))
    assert len(bits) > 3 and last["done"]["id"] == "p001"
    assert "".join(bit["delta"] for bit in bits) == last["done"]["text"]


async def test_a_text_that_fails_its_check_becomes_the_template(engine: Engine) -> None:
    """The model of the fake names nothing, so nothing of it is shown."""
    record = (await post("/v1/explanations", {"product": {"name": "Kettle", "price": 5}, "n": 2}, engine)).json()
    assert record["source"] == "template" and "fine cup" not in record["text"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"product": ROW, "task": "nope"}, 400, "Unknown task 'nope'"),
        ({"product": ROW, "lang": "fr"}, 400, "Unknown language"),
        ({"product": ROW, "colour": 1}, 400, "Unknown field 'colour'"),
        ({"product": ROW, "n": "2"}, 400, "'n' must be a whole number"),
        ({"product": ROW, "n": 99}, 400, "n must be in"),
        ({"product": ROW, "stream": 1}, 400, "'stream' must be true or false"),
        ({"product": 5}, 400, "neither a catalogue row"),
        ({"product": "nope"}, 404, "no product 'nope'"),
        ({"product": "p001", "task": "personal", "shopper": "nope"}, 404, "no shopper 'nope'"),
        ({"product": {"price": 5}}, 422, "name"),
        ({}, 400, "either 'product' or 'products'"),
        ({"task": "summary", "product": {"name": "Kettle"}}, 400, "lack facts"),
        ({"products": ["p001", "p002"]}, 400, "make 2 texts"),
        ({"request": [], "n": 1}, 400, "must be an object"),
        ({"request": {"task": "reason", "lang": "en", "sections": [1]}}, 400, "must be an object"),
        ({"request": {"task": "reason", "lang": "en", "sections": [{"label": "item", "facts": [3]}]}}, 400, "facts"),
        ({"request": {"task": "reason", "lang": "en"}}, 422, "sections"),
        ({"request": {}, "product": ROW}, 400, "beside 'request'"),
    ],
)
async def test_refuses_with_one_clear_error(body: dict[str, Any], status: int, words: str) -> None:
    """The status is the error's own, the body says what is wrong."""
    answer = await post("/v1/explanations", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error"), error
    assert words in error["message"] and error["code"]


async def test_refuses_bodies_that_are_no_json_or_too_long() -> None:
    """Broken JSON is 400, more than the limit 413, another route or method 404 and 405, a strange host 400."""
    async with client(make_app(Explainer(None))) as http:
        for content in (b"{", b"[1]", b"\xff", b"[" * 100_000):
            assert (await http.post("/v1/explanations", content=content)).status_code == 400
        assert (await http.post("/v1/explanations", content=b" " * (MAX_BODY + 1))).status_code == 413
        assert (await http.get("/nope")).json()["error"]["code"] == "not_found"
        assert (await http.get("/v1/completions")).status_code == 405
        assert (await http.get("/health", headers={"Host": "shop.example"})).status_code == 400


async def test_completes_in_the_shape_of_the_openai_api(engine: Engine) -> None:
    """Whole texts with their finish reasons and the tokens counted."""
    answer = (await post("/v1/completions", {"prompt": "<|end|>", "max_tokens": 40, "n": 2, "temperature": 0}, engine)).json()
    assert answer["object"] == "text_completion" and answer["model"] == "tiny"
    # The fake reads the prompt's bytes as written already: the prompt was not parsed for control tokens.
    assert answer["usage"]["prompt_tokens"] == len("<|end|>")
    assert [(c["index"], c["text"], c["finish_reason"]) for c in answer["choices"]] == [
        (i, "a fine cup of tea"[len("<|end|>") :], "stop") for i in range(2)
    ]


@pytest.mark.parametrize(
    ("stop", "text", "finish"), [(" of", "fine cup", "stop"), (["tea", "cup o"], "fine ", "stop"), ([], "fine cup", "length")]
)
async def test_stops_at_a_stop_string_streamed_or_not(engine: Engine, stop: Any, text: str, finish: str) -> None:
    """The stop string is never sent, not even its beginning; streamed joined is the whole."""
    body = {"prompt": "a ", "max_tokens": 8 if finish == "length" else 40, "temperature": 0, "stop": stop}
    choice = (await post("/v1/completions", body, engine)).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text, finish)
    *bits, last = events(await post("/v1/completions", {**body, "stream": True}, engine))
    assert last == "[DONE]" and "".join(bit["choices"][0]["text"] for bit in bits) == text
    assert bits[-1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "prompt"),
        ({"prompt": ["a"]}, 400, "prompt"),
        ({"prompt": "a", "echo": True}, 400, "echo"),
        ({"prompt": "a", "tools": []}, 400, "tools"),
        ({"prompt": "a", "stop": [""]}, 400, "stop"),
        ({"prompt": "a", "n": 0}, 400, "n"),
        ({"prompt": "a", "top_p": 2}, 400, None),
        ({"prompt": "a" * 300}, 413, None),
    ],
)
async def test_refuses_completions_it_cannot_make(engine: Engine, body: dict[str, Any], status: int, param: str | None) -> None:
    """An OpenAI error body that names the field."""
    answer = await post("/v1/completions", body, engine)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


async def test_passes_neutral_values_and_needs_a_model(engine: Engine) -> None:
    """What asks for nothing is no error; without a model there is nothing to complete."""
    body = {"model": "any", "prompt": "a", "echo": False, "logprobs": None, "presence_penalty": 0}
    assert (await post("/v1/completions", body, engine)).status_code == 200
    answer = await post("/v1/completions", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")


class Gate(FakeBackend):
    """A fake that stops before a step until it is let through."""

    def __init__(self) -> None:
        """Closed at first."""
        super().__init__(scripted("word " * 40))
        self.entered, self.open = threading.Event(), threading.Event()

    def decode(self, batch: Batch) -> Logits:
        """Wait, then decode."""
        self.entered.set()
        assert self.open.wait(WAIT_S)
        return super().decode(batch)


@pytest.mark.parametrize("stream", [False, True])
async def test_drops_the_job_of_a_client_that_leaves(stream: bool) -> None:
    """The client leaves while the prompt is read; then hardly anything is decoded and every cell is free."""
    backend, left, sent = Gate(), asyncio.Event(), list[Any]()
    body = json.dumps({"prompt": "a", "max_tokens": 200, "temperature": 0, "stream": stream}).encode()
    inbox = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if inbox:
            return inbox.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/v1/completions",
        "raw_path": b"/v1/completions", "query_string": b"", "headers": [(b"host", b"127.0.0.1")], "scheme": "http",
    }  # fmt: skip
    with Engine(lambda: backend) as engine:
        call = asyncio.create_task(make_app(Explainer(None), engine)(scope, receive, send))
        assert await asyncio.to_thread(backend.entered.wait, WAIT_S)
        left.set()
        await asyncio.wait_for(call, WAIT_S)
        backend.open.set()
        engine.ask(lambda _: None)
    assert sum(backend.decoded) < 10


def test_text_holds_back_cut_characters_and_begun_stops() -> None:
    """A character in several tokens comes whole; what only began like a stop string comes later."""
    text = Text(("stop",))
    assert [text.feed(bytes([b])) for b in "茶".encode()] == ["", "", "茶"]
    assert [text.feed(c.encode()) for c in "sto"] == ["", "", ""]
    assert text.feed(b"re") == "store" and text.feed(b" s") == " "
    assert text.close("length") == "s" and text.text == "茶store s"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "shop.example", "::"])  # noqa: S104 - it must be refused
def test_binds_loopback_only(host: str) -> None:
    """Another host is refused before anything is loaded."""
    with pytest.raises(UsageError, match="this machine only"):
        serve.bound(host, 0)


def test_says_that_a_port_is_taken() -> None:
    """One line that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} of 127.0.0.1 is in use"):
            serve.bound("127.0.0.1", port)
    with pytest.raises(UsageError, match="--port must be"):
        serve.bound("127.0.0.1", 70_000)


def test_shop_without_shoppers_says_so() -> None:
    """An error names what there is."""
    with pytest.raises(Exception, match="Known: none"):
        Shop("en", ()).shopper("u1")


def test_serves_until_it_is_interrupted() -> None:
    """The command says where it is once it answers, and Ctrl-C ends it with success."""
    command = [sys.executable, "-m", "edgegen", "serve", "--template-only", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            address = line.split()[3]
            assert line.startswith("edgegen serves on http://127.0.0.1:"), line
            assert httpx.get(f"{address}/health", trust_env=False).json()["pack"] is None
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 0
            assert process.stderr.read() == "edgegen has stopped.\n"
        finally:
            process.kill()
