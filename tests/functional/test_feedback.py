"""POST /v1/feedback: a server that keeps feedback gives texts ids and keeps what is said of them; any other keeps nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgegen import slots, tasks
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.explain import Explainer
from edgegen.server import make_app
from edgegen.serving.templates import TemplateService
from edgegen.store import Store
from edgegen.wire import request_from_json
from tests.fakes.http import SHOPS, client, events

ASKED = {"task": "reason", "lang": "en", "product": "p001"}


def http(store: Store | None) -> httpx.AsyncClient:
    """A client of a server on templates."""
    return client(make_app(TemplateService(), SHOPS, store=store))


async def test_a_text_gets_an_id_and_feedback_on_it_is_kept(tmp_path: Path) -> None:
    """With the request, the text and its slots, which give the text again; not with the shopper's id."""
    with Store(tmp_path / "f.db") as store:
        async with http(store) as api:
            record = (await api.post("/v1/explanations", json=ASKED | {"task": "personal", "shopper": "u1", "seed": 4})).json()
            for sent in ({"event": "edited", "text": "Mine."}, {"event": "dwell", "seconds": 3}, {"event": "up", "text": None}):
                answer = await api.post("/v1/feedback", json={"id": record["feedback_id"], **sent})
                assert answer.status_code == 200, answer.text
            assert answer.json() == {"id": record["feedback_id"], "event": "up"}
        (entry,) = store.entries()
    assert (entry.shown.id, entry.shown.text, entry.shown.source) == (record["feedback_id"], record["text"], "template")
    assert (entry.shown.seed, [event.kind for event in entry.events]) == (4, ["edited", "dwell", "up"])
    request = request_from_json(entry.shown.request)
    assert request.task == "personal" and entry.shown.slotted and "<|v" in entry.shown.slotted
    prompt = tasks.get("personal").prompt(request)
    assert slots.render(slots.parse(entry.shown.slotted, prompt), "en") == record["text"]
    assert '"u1"' not in str(entry.to_json())


async def test_many_and_streamed_texts_have_ids_too(tmp_path: Path) -> None:
    """Each its own."""
    with Store(tmp_path / "f.db") as store:
        async with http(store) as api:
            many = (await api.post("/v1/explanations", json={"requests": [ASKED, ASKED | {"product": "p002"}]})).json()["results"]
            streamed = events(await api.post("/v1/explanations", json=ASKED | {"stream": True}))[-1]["done"]
        ids = [*(one["feedback_id"] for one in many), streamed["feedback_id"]]
        assert sorted(ids) == sorted(entry.shown.id for entry in store.entries()) and len(set(ids)) == 3


async def test_a_server_that_was_not_asked_to_keeps_nothing() -> None:
    """No id, and the route says how to have it."""
    async with http(None) as api:
        assert "feedback_id" not in (await api.post("/v1/explanations", json=ASKED)).json()
        answer = await api.post("/v1/feedback", json={"id": "x", "event": "up"})
    assert answer.status_code == 404 and "--feedback" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"id": "nobody's", "event": "up"}, 404, "id"), ({"event": "up"}, 400, "id"),
        ({"id": "x", "event": "bought"}, 400, "event"),
        ({"id": "x", "event": "edited"}, 400, "text"), ({"id": "x", "event": "edited", "text": ""}, 400, "text"),
        ({"id": "x", "event": "dwell"}, 400, "seconds"), ({"id": "x", "event": "up", "seconds": 1}, 400, "seconds"),
        ({"id": "x", "event": "up", "shopper": "u1"}, 400, "shopper"), ({"id": 5, "event": "up"}, 400, "id"),
        ({"id": "x", "event": "dwell", "seconds": 1e9}, 400, "seconds"),
    ],
)  # fmt: skip
async def test_what_is_no_feedback_is_refused(tmp_path: Path, body: Any, status: int, param: str) -> None:
    """By the field that is wrong, and nothing is kept of it."""
    with Store(tmp_path / "f.db") as store:
        async with http(store) as api:
            answer = await api.post("/v1/feedback", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
        assert store.counts()["with events"] == 0


async def test_a_store_that_cannot_write_costs_no_text(tmp_path: Path) -> None:
    """The text is shown without an id; feedback that cannot be kept says so."""
    with Store(tmp_path / "f.db") as store:
        async with http(store) as api:
            first = (await api.post("/v1/explanations", json=ASKED)).json()
            store._db.execute("PRAGMA query_only = ON")
            second = await api.post("/v1/explanations", json=ASKED)
            refused = await api.post("/v1/feedback", json={"id": first["feedback_id"], "event": "up"})
    assert second.status_code == 200 and second.json()["text"] and "feedback_id" not in second.json()
    assert refused.status_code == 507 and refused.json()["error"]["code"] == "storage"


async def test_a_locked_store_holds_up_no_other_call(tmp_path: Path) -> None:
    """While another program keeps the file, a call that needs no store is answered."""
    import asyncio

    with Store(tmp_path / "f.db") as store:
        other = sqlite3.connect(tmp_path / "f.db", isolation_level=None)
        async with http(store) as api:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(api.post("/v1/explanations", json=ASKED))
            assert (await api.get("/health")).status_code == 200 and (await api.get("/v1/tasks")).status_code == 200
            assert not waiting.done()
            other.execute("ROLLBACK")
            assert (await waiting).json()["feedback_id"]
        other.close()


def test_withheld_facts_do_not_shift_the_slots() -> None:
    """The kept request is the one that the text was made of."""
    from edgegen.explain import safe

    words = {"name": "Oak desk", "brand": "mugs at www.shop.example", "category": "desk"}
    facts = tuple(Fact(key, text, Kind.TEXT) for key, text in words.items())
    made = Explainer(None).explain(Request("reason", "en", (Section("item", facts),)))
    request, _ = safe(Request("reason", "en", (Section("item", facts),)))
    text = made.slotted()
    assert text is not None
    assert slots.render(slots.parse(text, tasks.get("reason").prompt(request)), "en") == made.text and made.withheld
