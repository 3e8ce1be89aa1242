"""Distillation: what is asked, what is kept, and that nothing is asked twice or given up at the first trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgegen.cli import main
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.errors import DataError, EngineError, OptionError, UsageError
from edgegen.train import distill, endpoint, pairs
from edgegen.train.distill import DistillOptions
from edgegen.train.endpoint import EndpointOptions
from edgegen.wire import request_to_json

URL = EndpointOptions("http://model.test/v1", tries=3)
TEXTS = ("{name} costs {price} and suits a small room.", "At {price}, {name} is easy to place.", "{name} lasts 25 years.")


def request(name: str, price: int) -> Request:
    """A product's facts."""
    facts = (Fact("name", name, Kind.TEXT), Fact("price", Decimal(price), Kind.MONEY, currency="USD"))
    return Request("reason", "en", (Section("item", facts),))


WORK = [(f"p{i}", request(name, 100 + i)) for i, name in enumerate(("Oak Desk", "Pine Shelf", "Ash Lamp", "Elm Stool"))]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take no time."""
    monkeypatch.setattr(endpoint, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(endpoint, "_LONGEST_PAUSE_S", 0.001)


class Model:
    """An endpoint: answers with the facts it is shown, after the troubles that it is told to have."""

    def __init__(self, *troubles: int, most: int = 8) -> None:
        self.troubles, self.most, self.calls = list(troubles), most, list[dict[str, Any]]()

    def __call__(self, call: httpx.Request) -> httpx.Response:
        """One answer."""
        if call.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "teacher"}]})
        body = json.loads(call.content)
        self.calls.append(body)
        if self.troubles and (status := self.troubles.pop(0)):
            return httpx.Response(status, text="not now", headers={"Retry-After": "0"})
        facts = dict(line[2:].split(": ", 1) for line in body["messages"][1]["content"].splitlines() if line.startswith("- "))
        values = {"name": facts["name"], "price": facts["price"]}
        found = [TEXTS[(body["seed"] + i) % len(TEXTS)].format(**values) for i in range(min(body["n"], self.most))]
        choices = [{"message": {"content": text}} for text in found]
        return httpx.Response(200, json={"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 5}})

    @property
    def transport(self) -> httpx.MockTransport:
        """In place of a network."""
        return httpx.MockTransport(self)


def run(model: Model, out: Path, n: int = 3, said: Callable[[str], None] = lambda _: None) -> Any:
    """Distil the work with a model."""
    return distill.distill(WORK, out, URL, DistillOptions(n=n), say=said, transport=model.transport)


def test_true_texts_become_pairs(tmp_path: Path) -> None:
    """Values become slots, a claim that no fact bears out is not kept, and the facts alone are shown."""
    model = Model()
    run(model, tmp_path)
    found = [p for name in ("train", "valid", "test") for p in pairs.read(tmp_path / "pairs" / f"{name}.jsonl")]
    texts = {pair.text for pair in found}
    assert "<|v1|> costs <|v2|> and suits a small room." in texts or any("costs" in text for text in texts)
    assert not any("25" in text for text in texts) and not any("Desk" in text for text in texts)
    assert len(model.calls) == len(WORK) and {call["model"] for call in model.calls} == {"teacher"}
    asked = model.calls[0]["messages"]
    assert "Oak Desk" in asked[1]["content"] and "$100" in asked[1]["content"] and "only the facts" in asked[0]["content"]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """After a refusal the rest is asked for, also where a kill has cut a line short."""
    model = Model(0, 0, 401)
    with pytest.raises(EngineError, match=r"refuses the call: 401.*key"):
        run(model, tmp_path)
    asked = tmp_path / distill.ASKED
    done = len(asked.read_text("utf-8").splitlines())
    assert 0 < done < len(WORK)
    with asked.open("a", encoding="utf-8") as file:
        file.write('{"id": "p3", "task": "rea')
    assert distill.estimate(WORK, tmp_path, DistillOptions(n=3)).questions == len(WORK) - done
    again = Model()
    run(again, tmp_path)
    assert len(again.calls) == len(WORK) - done
    rows = [json.loads(line) for line in asked.read_text("utf-8").splitlines()]
    assert sorted(row["id"] for row in rows) == [id_ for id_, _ in WORK]
    third = Model()
    run(third, tmp_path)
    assert not third.calls


def test_more_answers_are_asked_for_anew(tmp_path: Path) -> None:
    """Where there are fewer than are asked for now; the estimate is what the calls may take at most."""
    run(Model(), tmp_path, n=2)
    assert distill.estimate(WORK, tmp_path, DistillOptions(n=2)).questions == 0
    guess, model = distill.estimate(WORK, tmp_path, DistillOptions(n=3)), Model()
    run(model, tmp_path, n=3)
    assert len(model.calls) == guess.questions == len(WORK)
    assert sum(call["n"] * call["max_tokens"] for call in model.calls) == guess.completion_tokens


def test_a_product_whose_facts_changed_is_asked_for_anew(tmp_path: Path) -> None:
    """And its former texts teach no more: an id alone does not say what was asked."""
    run(Model(), tmp_path)
    id_, request = WORK[0]
    first, *rest = request.sections
    facts = tuple(replace(f, value=f"New {f.value}") if f.key == "name" else f for f in first)
    changed = [(id_, replace(request, sections=(replace(first, facts=facts), *rest)))]
    assert distill.estimate([*changed, *WORK[1:]], tmp_path, DistillOptions(n=3)).questions == 1
    assert len(list(distill._rows(tmp_path / distill.ASKED, {distill._key(id_, request_to_json(request))}))) == 3
    assert not list(distill._rows(tmp_path / distill.ASKED, {distill._key(id_, request_to_json(changed[0][1]))}))


def test_troubles_that_pass_are_waited_out(tmp_path: Path) -> None:
    """Full queues and failures are tried again; an endpoint that gives one answer at a time is asked as often."""
    model = Model(429, 503, most=1)
    run(model, tmp_path)
    assert len(model.calls) == 2 + len(WORK) * 3
    with pytest.raises(EngineError, match="after 3 tries: 503"):
        run(Model(*[503] * 99), tmp_path / "other")


def test_an_endpoint_that_is_none(tmp_path: Path) -> None:
    """One clear error each."""
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    with pytest.raises(DataError, match="OpenAI-compatible"):
        distill.distill(WORK, tmp_path, URL, DistillOptions(), say=lambda _: None, transport=page)
    none = httpx.MockTransport(lambda _: httpx.Response(200, json={"data": []}))
    with pytest.raises(EngineError, match="lists no models"):
        distill.distill(WORK, tmp_path, URL, DistillOptions(), say=lambda _: None, transport=none)
    with pytest.raises(OptionError, match="http"):
        EndpointOptions("localhost:8000")
    with pytest.raises(OptionError, match="n must be"):
        DistillOptions(n=0)
    choosing = [("p", Request("category", "en", WORK[0][1].sections, ("a", "b")))]
    with pytest.raises(UsageError, match="chooses"):
        distill.distill(choosing, tmp_path, URL, DistillOptions(), say=lambda _: None)


def test_the_command_estimates_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run asks nothing; facts go to another machine only where that is said."""
    shop = tmp_path / "shop.csv"
    shop.write_text("id,name,price\n1,Oak Desk,100\n2,Pine Shelf,120\n", "utf-8")
    place = ["--endpoint", "https://model.test/v1", "--out", str(tmp_path / "o")]
    common = ["train", "distill", str(shop), "--task", "reason", *place]
    assert main([*common, "--dry-run", "--price-in", "1", "--price-out", "2"]) == 0
    assert "2 questions of 4 answers" in (told := capsys.readouterr().err) and "by the prices given" in told
    assert main(common) == 2
    assert "--yes" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
