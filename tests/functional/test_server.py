"""The HTTP API in process: explanations, and what the server tells about itself."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgegen import wire
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.errors import EdgegenError
from edgegen.server import Limits, Settings, Shop, make_app
from edgegen.server.body import code_of
from edgegen.serving.templates import TemplateService
from tests.fakes.backend import scripted
from tests.fakes.http import SHOPS, client, events, server

ROW = {"id": "p9", "name": "Pour Kettle", "category": "kettle", "price": 49.5, "rating": 4.8, "cordless": True}
SMALL = Settings(Limits(body_bytes=2000, json_depth=6, requests=3))


async def post(path: str, body: Any, script: Any = None, settings: Settings | None = None) -> httpx.Response:
    """One call of a server whose model follows a script, or on templates."""
    async with server(script, settings) as http:
        return await http.post(path, json=body)


async def get(path: str, script: Any = None) -> httpx.Response:
    """The same for what is only read."""
    async with server(script) as http:
        return await http.get(path)


async def test_health_tasks_and_products() -> None:
    """What the terminal needs before it asks for a text."""
    health = (await get("/health", scripted("x"))).json()
    assert (health["status"], health["pack"]["name"], health["ready"]) == ("ok", "tiny", True) and health["version"]
    assert "reason" in [task["name"] for task in (await get("/v1/tasks")).json()["tasks"]]
    shop = (await get("/v1/products")).json()
    assert (shop["lang"], shop["langs"]) == ("en", ["en", "zh"])
    first = shop["products"][0]
    price = next(fact for fact in first["facts"] if fact["key"] == "price")
    assert first["id"] == "p001" and price == {"key": "price", "label": "price", "text": "$89"}
    assert (await get("/v1/products?lang=zh")).json()["products"][0]["facts"][0]["label"] == "名称"
    assert (await get("/v1/products?lang=fr")).status_code == 404


async def test_a_catalogue_is_made_into_json_once_and_not_in_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of products would keep it busy for seconds, each time."""
    threads = list[int]()

    def to_json(shop: Shop) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return {"lang": shop.lang}

    monkeypatch.setattr(Shop, "to_json", to_json)
    async with server(None) as http:
        found = await asyncio.gather(*(http.get(f"/v1/products?lang={lang}") for lang in ("en", "zh", "en")))
        found.append(await http.get("/v1/products"))
    assert [one.json()["lang"] for one in found] == ["en", "zh", "en", "en"]
    assert len(threads) == 2 and threading.get_ident() not in threads


async def test_refusals_are_counted_and_figures_say_what_they_are() -> None:
    """Also those of names that are not the server's, which are a 400 like errors of a call."""
    async with server(scripted("x"), Settings(Limits(header_bytes=500))) as http:
        await http.get("/health", headers={"host": "evil.example"})
        await http.post("/v1/completions", json={"prompt": ""})
        assert (await http.get("/health", headers={"x-long": "x" * 500})).status_code == 431
        text = (await http.get("/metrics")).text
    assert 'edgegen_rejections_total{status="400"} 1.0' in text and 'edgegen_rejections_total{status="431"} 1.0' in text
    assert "# HELP edgegen_ready Whether the model answers\n" in text and "# HELP edgegen_cells_in_use Tokens that" in text


async def test_ready_tells_the_truth() -> None:
    """200 only while the model answers; otherwise why not, and when to look again. No path of this machine is told."""
    async with server(scripted("x"), ready=False, why="The engine died and starts again.", restarts=2) as http:
        answer = await http.get("/ready")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["why"] == "The engine died and starts again." and answer.json()["restarts"] == 2
        assert (await http.get("/health")).status_code == 200
        assert "edgegen_ready 0.0\n" in (await http.get("/metrics")).text
        assert "edgegen_rejections_total{" not in (await http.get("/metrics")).text  # to be asked refuses nobody
    async with server(scripted("x"), pack={"name": "tiny", "label": "tiny@1", "path": "/srv/packs/tiny"}) as http:
        for path in ("/ready", "/health", "/v1/models"):
            answer = await http.get(path)
            assert answer.status_code == 200 and "tiny" in answer.text and "/srv" not in answer.text


async def test_lists_the_model() -> None:
    """One model, by its pack's name; none where there is none."""
    async with server(scripted("x")) as http:
        found = (await http.get("/v1/models")).json()
        assert found["object"] == "list" and [one["id"] for one in found["data"]] == ["tiny"]
        assert (await http.get("/v1/models/tiny")).json() == found["data"][0]
        other = await http.get("/v1/models/other")
        error = other.json()["error"]
        assert (other.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert (await get("/v1/models")).json()["data"] == []


async def test_tokens_there_and_back() -> None:
    """Ids, or ids with their pieces; half a character is told by its bytes. Control tokens are read only where asked."""
    async with server() as http:
        ids = (await http.post("/tokenize", json={"content": "a茶"})).json()["tokens"]
        assert ids == list("a茶".encode())
        assert (await http.post("/detokenize", json={"tokens": ids})).json() == {"content": "a茶"}
        pieces = (await http.post("/tokenize", json={"content": "a茶", "with_pieces": True})).json()["tokens"]
        assert pieces[0] == {"id": 97, "piece": "a"} and pieces[1] == {"id": 0xE8, "piece": [0xE8]}
        plain, parsed = [
            len((await http.post("/tokenize", json={"content": "<|end|>", "parse_special": special})).json()["tokens"])
            for special in (False, True)
        ]
        assert (plain, parsed) == (7, 1)
        for path, body in (("/tokenize", {}), ("/detokenize", {"tokens": ["a"]}), ("/detokenize", {"tokens": [10**6]})):
            answer = await http.post(path, json=body)
            named = answer.json()["error"]["param"]
            assert (answer.status_code, named) == (400, "content" if path == "/tokenize" else "tokens"), path


async def test_metrics_count_what_was_done() -> None:
    """Requests, texts by source, tokens, times and refusals; and the engine's own figures."""
    async with server(scripted("a fine cup")) as http:
        await http.post("/v1/explanations", json={"product": "p001", "n": 1})
        await http.post("/v1/completions", json={"prompt": "a ", "max_tokens": 3, "temperature": 0})
        await http.post("/v1/completions", json={"prompt": "a " * 600})
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    (read,) = re.findall(r'edgegen_tokens_total{kind="prompt"} (\d+)', answer.text)
    assert int(read) > 20  # those of the explanation too, not the two of the completion alone
    for line in (
        'edgegen_http_requests_total{route="/v1/completions",status="200"} 1.0',
        'edgegen_http_requests_total{route="/v1/completions",status="400"} 1.0',
        'edgegen_texts_total{source="template",task="reason"} 1.0',
        'edgegen_texts_total{source="template",task="reason"} 1.0',
        'edgegen_first_token_seconds_count{route="/v1/completions"} 1.0',
        "edgegen_ready 1.0",
        "edgegen_engine_restarts_total 0.0",
        "edgegen_jobs_waiting 0.0",
    ):
        assert line + "\n" in answer.text, answer.text


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
        {"product": {**ROW, "praised": [["quiet"], None, {"a": 1}], "own_ratings": [1]}},
        {"task": "category", "product": {"name": "Burr Grinder"}, "paths": ["Kitchen > Coffee", "Toys"]},
    ],
)
async def test_explains_what_is_named(body: dict[str, Any]) -> None:
    """Products and shoppers may be served ones, by id, or rows."""
    answer = await post("/v1/explanations", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"]


async def test_tells_what_a_row_loses() -> None:
    """With the reason; what is read is in the text, and lists that are no facts do no harm."""
    row = {
        "id": "k",
        "name": "Kettle",
        "category": "kettle",
        "price": "1.299",
        "rating": "97",
        "reviews": [{"stars": 5}],
        "sku": "",
    }
    record = (await post("/v1/explanations", {"product": row})).json()
    assert {(one["product"], one["column"]) for one in record["left_out"]} == {("k", "price"), ("k", "rating"), ("k", "reviews")}
    assert "can mean" in next(one["reason"] for one in record["left_out"] if one["column"] == "price")
    for price in ("1 299", "1\u2009299", "1\u202f299", "1\u00a0299"):
        told = (await post("/v1/explanations", {"product": {"name": "Kettle", "price": price}})).json()
        assert "$1,299" in told["text"] and told["left_out"] == []
    assert (await post("/v1/explanations", {"product": "p001"})).json()["left_out"] == []


async def test_the_training_only_task_is_named_nowhere() -> None:
    """Ten tasks are served; an error that lists them lists these."""
    listed = [task["name"] for task in (await get("/v1/tasks")).json()["tasks"]]
    message = (await post("/v1/explanations", {"product": "p001", "task": "nope"})).json()["error"]["message"]
    assert message == f"Unknown task 'nope'. Known: {', '.join(listed)}." and len(listed) == 10 and "tell" not in listed


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"task": "personal", "product": ROW}, "shopper", "field 'shopper'"),
        ({"task": "search", "products": [{"name": "A"}, {"name": "B"}]}, "query", "field 'query'"),
        ({"task": "list", "products": [ROW]}, "products", "fewer than two products"),
        ({"task": "search", "products": [f"p00{i}" for i in range(1, 6)], "query": "zzz"}, "query", "no product has a word"),
        ({"task": "guide", "products": [{"name": "A"}, {"name": "B"}]}, "products", "column 'category'"),
        ({"product": {"price": 5}}, "product", "column 'name'"),
        ({"product": {"name": ""}}, "product", "give every product a name"),
        ({"product": {"name": "A", "price": [1]}}, "product", "'price'"),
        ({"product": ROW, "currency": "QQQ"}, "currency", "iso 4217"),
        ({"product": "nope"}, "product", "no product 'nope'"),
        ({"products": ["nope"]}, "products", "no product 'nope'"),
        ({"product": 5}, "product", "neither a catalogue row"),
        ({"task": "nope", "product": "p001"}, "task", "unknown task"),
        ({"task": "personal", "product": "p001", "shopper": "nope"}, "shopper", "no shopper 'nope'"),
        ({"task": "personal", "product": ROW, "shopper": {"budget": "lots"}}, "shopper", "not an amount"),
        ({"task": "personal", "product": ROW, "shopper": {"likes": ["yoga"]}}, "shopper", "shares a word"),
        ({"task": "summary", "product": ROW}, "product", "praised"),
        ({"request": {"task": "reason", "lang": "en"}}, "request", "sections"),
        ({"request": {"task": "tell", "lang": "en", "sections": []}}, "task", "unknown task 'tell'"),
    ],
)
async def test_errors_name_the_field_in_the_words_of_http(body: dict[str, Any], param: str, words: str) -> None:
    """And none of the command line's options."""
    error = (await post("/v1/explanations", body)).json()["error"]
    assert error["param"] == param and words in error["message"].casefold() and "--" not in error["message"], error


async def test_every_code_is_documented() -> None:
    """Programs match on them."""
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
    table = text[text.index("| code | what it says |") :]
    listed = set(re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table[: table.index("\n\n")].splitlines())))
    ours = {code_of(kind("x")) for kind in kinds(EdgegenError) if kind.__module__ in ("edgegen.errors", "edgegen.server.body")}
    written = {
        "unsupported_parameter", "string_above_max_length", "context_length_exceeded", "invalid_schema", "host", "origin",
        "invalid_api_key", "internal", "method_not_allowed", "chat", "invalid_grammar",
    }  # fmt: skip
    # Not over HTTP, or by another code.
    never = {"edgegen", "convert", "missing_extra", "signature", "prompt_too_long", "room", "grammar"}
    assert (ours | written) - never <= listed


def kinds(root: type[EdgegenError]) -> set[type[EdgegenError]]:
    """A class and all below it."""
    return {root}.union(*map(kinds, root.__subclasses__()))


async def test_an_id_in_a_language_that_is_not_served_says_so() -> None:
    """Not that the product is missing; a row can be told in any language."""
    english: dict[Lang, Shop] = {"en": SHOPS["en"]}
    async with client(make_app(TemplateService(), english)) as http:
        for body in ({"product": "p001"}, {"task": "personal", "product": {"name": "壶"}, "shopper": "u1"}):
            answer = await http.post("/v1/explanations", json={"lang": "zh", **body})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"], "No catalogue is served in language 'zh'" in error["message"]) == (
                404,
                "lang",
                True,
            )
        assert (await http.post("/v1/explanations", json={"lang": "zh", "product": {"name": "壶"}})).status_code == 200


async def test_explains_the_exact_form() -> None:
    """A wire request is taken as it is."""
    asked = Request(
        "reason", "en", (Section("item", (Fact("name", "Pour Kettle", Kind.TEXT), Fact("category", "kettle", Kind.PHRASE))),)
    )
    answer = await post("/v1/explanations", {"request": wire.request_to_json(asked)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] is None and "Pour Kettle" in answer.json()["text"]


async def test_null_is_as_good_as_nothing() -> None:
    """In every field, also where one stands for another."""
    nothing = dict.fromkeys(("request", "products", "shopper", "query", "paths", "n", "seed", "temperature"))
    one = (await post("/v1/explanations", {**nothing, "product": "p001", "requests": None, "stream": None})).json()
    many = await post("/v1/explanations", {**nothing, "product": None, "requests": [{**nothing, "product": "p001"}]})
    assert many.json()["results"][0]["text"] == one["text"]


async def test_streams_an_explanation() -> None:
    """The bits joined are the text of the record that comes last."""
    *bits, last = events(await post("/v1/explanations", {"product": "p001", "stream": True}))
    assert len(bits) > 3 and last["done"]["id"] == "p001"
    assert "".join(bit["delta"] for bit in bits) == last["done"]["text"]


async def test_a_text_that_fails_its_check_becomes_the_template() -> None:
    """The model of the fake names nothing, so nothing of it is shown."""
    row = {"product": {"name": "Kettle", "price": 5}, "n": 2}
    record = (await post("/v1/explanations", row, scripted("a fine cup of tea"))).json()
    assert record["source"] == "template" and "fine cup" not in record["text"] and record["pack"] == "tiny@1"


async def test_a_template_after_a_deadline_says_so() -> None:
    """The note tells it; one that all candidates failed has none, but counts them."""
    late = (await post("/v1/explanations", {"product": ROW, "deadline_s": 0.001}, scripted("a fine cup of tea" * 20))).json()
    assert late["source"] == "template" and "deadline passed" in late["note"]
    failed = (await post("/v1/explanations", {"product": ROW, "n": 1}, scripted("a fine cup of tea"))).json()
    assert failed["source"] == "template" and failed["note"] is None and failed["rejected"]


async def test_many_texts_each_for_itself() -> None:
    """In the order asked for; one that cannot be made has its error, the others their texts."""
    asked = [{"product": "p001"}, {"product": "nope"}, {"lang": "zh", "product": "p002"}]
    found = (await post("/v1/explanations", {"requests": asked})).json()["results"]
    assert [one["index"] for one in found] == [0, 1, 2]
    assert found[0]["id"] == "p001" and found[2]["lang"] == "zh" and found[0]["claims"]
    assert found[1]["error"]["code"] == "not_found" and "text" not in found[1]


async def test_many_texts_streamed() -> None:
    """Each event names its text; the bits of each joined are the text of its record."""
    asked = [{"product": "p001"}, {"product": "p002"}, {"task": "nope", "product": "p001"}]
    found = events(await post("/v1/explanations", {"requests": asked, "stream": True}))
    for i in (0, 1):
        own = [one for one in found if one["index"] == i]
        assert "".join(one["delta"] for one in own[:-1]) == own[-1]["done"]["text"]
    assert [one["error"]["code"] for one in found if one["index"] == 2] == ["usage"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"requests": []}, "requests"),
        ({"requests": [{"product": "p001"}] * 4}, "requests"),
        ({"requests": [{"product": "p001"}], "task": "reason"}, "task"),
        ({"product": "p001", "priority": "first"}, "priority"),
        ({"product": "p001", "deadline_s": 0}, "deadline_s"),
        ({"product": "p001", "seed": 2**63}, "seed"),
    ],
)
async def test_refuses_what_is_out_of_range(body: dict[str, Any], param: str) -> None:
    """By the field's name."""
    answer = await post("/v1/explanations", body, settings=SMALL)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


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
        ({"task": "search", "query": "tea", "products": []}, 400, "'products' is empty"),
        ({"task": "summary", "product": {"name": "Kettle"}}, 400, "praised"),
        ({"product": ROW, "task": "tell"}, 400, "Unknown task 'tell'"),
        ({"request": {"task": "tell", "lang": "en", "sections": []}}, 400, "Unknown task 'tell'"),
        ({"product": {"name": "Kettle", "price": [1]}}, 422, "'price' is not a number"),
        ({"product": {"name": "Kettle", "rating": {"a": 1}}}, 422, "'rating' is an object without a rate"),
        ({"product": {"name": "Kettle", "released": 2026}}, 422, "'released' is not a date"),
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
    """Broken JSON is 400, more than the limit 413, another route or method 404 and 405."""
    async with server(None, SMALL) as http:
        deep, half, number = b'{"a":' * 7 + b"1" + b"}" * 7, b'{"task": "\\ud800"}', b'{"n": NaN}'
        for content in (b"{", b"[1]", b"\xff", b"[" * 1500, deep, half, number, b'{"n": 1' + b"0" * 1900 + b"}"):
            answer = await http.post("/v1/explanations", content=content)
            assert answer.status_code == 400, content
        assert (await http.post("/v1/explanations", content=b" " * 2001)).status_code == 413
        assert (await http.get("/nope")).json()["error"]["code"] == "not_found"
        assert (await http.get("/v1/completions")).status_code == 405


def test_shop_without_shoppers_says_so() -> None:
    """An error names what there is."""
    with pytest.raises(Exception, match="Known: none"):
        Shop("en", ()).shopper("u1")
