"""Evaluation on the fake backend, and the scores against hand-worked cases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from decimal import Decimal

import numpy as np
import pytest

from edgegen import scores
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine.loop import Engine, Generation, Job
from edgegen.engine.worker import Timings
from edgegen.evaluate import Case, Scored, evaluate
from edgegen.evaluation import measures, tables
from edgegen.evaluation.cases import Reference, merged
from edgegen.evaluation.likelihood import losses
from edgegen.evaluation.report import Evaluated
from edgegen.explain import Explainer, ExplainOptions
from tests.fakes.backend import VOCABULARY, FakeBackend, scripted


def request(name: str, price: int = 10) -> Request:
    """A reason for one product."""
    facts = (Fact("name", name, Kind.TEXT), Fact("price", Decimal(price), Kind.MONEY, currency="USD"))
    return Request("reason", "en", (Section("item", facts),))


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    """A model that always writes the same true sentence."""
    with Engine(lambda: FakeBackend(scripted("<|v1|> costs <|v4|>."))) as engine:
        yield Explainer(engine)


def test_a_true_sentence_scores_well(explainer: Explainer) -> None:
    """Everything from the model, nothing wrong, against references and baselines."""
    cases = [Case(request(f"Tray {i}", i + 3), (Reference("<|v1|> costs <|v4|>."),)) for i in range(4)]
    found = evaluate(explainer, "reason", "en", cases, ExplainOptions(n=2, temperature=0))
    row = found.row
    assert [a.text for a in found.answers] == [f"Tray {i} costs ${i + 3}." for i in range(4)]
    assert (row.model_share, row.wrong_values, row.ungrounded_after, row.ungrounded_before) == (1.0, 0, 0, 0.0)
    assert (row.coverage, row.usr) == (1.0, 1.0)
    assert row.bleu["model"] == pytest.approx(100)
    assert row.bleu["model"] > row.bleu["constant"] and row.bleu["model"] > row.bleu["shuffled"]
    assert row.rouge_l["model"] == pytest.approx(100)
    assert {s: row.figures["slot_error"][s].value for s in ("model", "unchecked", "template")} == dict.fromkeys(
        ("model", "unchecked", "template"), 0.0
    )
    # Two values asked for; in three of the four both are missing and two others there.
    assert row.figures["slot_error"]["constant"].value == pytest.approx(3 * 4 / 8)
    assert row.figures["fmr"]["model"].value == 1.0 and row.figures["fcr"]["model"].value == 1.0
    assert row.figures["div"]["model"].value == 1.0  # every two texts share the price
    assert found.bad == []


def test_an_untrue_sentence_is_counted_and_not_shown() -> None:
    """Before the gate every candidate is untrue, after it none: the template is shown, and the report says why."""
    with Engine(lambda: FakeBackend(scripted("<|v1|> is waterproof and costs <|v4|>."))) as engine:
        found = evaluate(Explainer(engine), "reason", "en", [Case(request("Tray"))], ExplainOptions(n=2))
    row = found.row
    assert (row.model_share, row.ungrounded_before, row.ungrounded_after) == (0.0, 1.0, 0)
    assert found.answers[0].source == "template" and "waterproof" not in found.answers[0].text
    assert row.bleu == {} and row.figures["grounded"]["unchecked"].value == 0.0
    (bad,) = found.bad
    assert bad.source == "template" and any("waterproof" in reason for reason in bad.reasons)


def test_what_the_model_alone_writes_is_scored_too() -> None:
    """Where the gate refuses all, the model's own text still shows how near it is to the references."""
    case = Case(request("Tray"), (Reference("<|v1|> is yours for <|v4|> and no more."),))
    with Engine(lambda: FakeBackend(scripted("<|v1|> is waterproof, yours for <|v4|> and no more."))) as engine:
        row = evaluate(Explainer(engine), "reason", "en", [case], ExplainOptions(n=1)).row
    rouge = row.figures["rouge_l"]
    assert rouge["unchecked"].value > 80 > rouge["model"].value == rouge["template"].value
    printed = tables.whole([Evaluated("a", "F32", 1, {}, [Scored(row, [], [], {}, [])])], None)
    assert f"| {rouge['unchecked'].value:.1f} |" in printed


def test_where_nothing_is_written() -> None:
    """Of a name alone no model is asked to write: there is no draft to score."""
    bare = Request("reason", "en", (Section("item", (Fact("name", "Tray", Kind.TEXT),)),))
    with Engine(lambda: FakeBackend(scripted("<|v1|>."))) as engine:
        found = evaluate(Explainer(engine), "reason", "en", [Case(bare)], ExplainOptions(n=1))
    assert found.row.figures["template_share"]["model"].value == 1.0 and "unchecked" not in found.row.figures["grounded"]


def test_every_reference_of_a_request_counts(explainer: Explainer) -> None:
    """The nearest of them: one that is alike is enough."""
    texts = "Look at <|v1|>, now for <|v4|>.", "<|v1|> costs <|v4|>."
    cases = merged(Case(request("Tray"), (Reference(text),)) for text in texts)
    assert len(cases) == 1 and len(cases[0].references) == 2
    row = evaluate(explainer, "reason", "en", cases, ExplainOptions(n=1, temperature=0)).row
    assert row.rouge_l["model"] == pytest.approx(100) and row.bleu["model"] == pytest.approx(100)


def test_perplexity_is_the_engines() -> None:
    """A model that gives every token the same chance: the perplexity is the size of its vocabulary."""
    with Engine(lambda: FakeBackend(lambda context: np.zeros(len(VOCABULARY), np.float32))) as engine:
        texts = {"Tray": "<|v1|> costs <|v4|>.", "Tin": "<|v1|>."}
        found = losses(engine, [Case(request(name), (Reference(text),)) for name, text in texts.items()])
    assert [n for _, n in found] == [len(" costs .") + 3, 3]  # the slots, the end
    assert measures.perplexity(found).value == pytest.approx(len(VOCABULARY))


def test_a_slot_that_cannot_stand_there_is_drawn_again() -> None:
    """The model wants the price where a rating must stand; the veto makes it take the only other slot."""
    with Engine(lambda: FakeBackend(scripted("<|v1|> is rated <|v4|>."))) as engine:
        answer = Explainer(engine).explain(request("Tray"), ExplainOptions(n=1, temperature=0))
    assert all("rated $" not in "".join(map(str, c or ())) for c in answer.candidates)


def test_facts_that_come_again_get_other_candidates() -> None:
    """A meaning representation leaves nothing to choose: the same facts, drawn in the same way, would fail again."""
    asked = Request("tell", "en", request("Tray").sections)
    tried: list[tuple[int, float]] = []

    def submit(job: Job) -> Future[Generation]:
        """Note the job; nothing that can be used is written."""
        tried.append((job.options.seed, job.options.temperature))
        done: Future[Generation] = Future()
        done.set_result(Generation([], Timings(0.0, 0.0, None, 0.0, 0)))
        return done

    with Engine(lambda: FakeBackend(scripted(""))) as engine:
        answer = Explainer(engine).explain(asked, ExplainOptions(n=1, seed=5, temperature=0.4), submit)
    assert answer.source == "template" and tried == [(5, 0.4), (6, 0.8), (7, 1.0), (8, 1.0)]


@pytest.mark.parametrize(
    ("text", "values", "wrong"),
    [("It costs $12.50.", ["$12.50"], False), ("It costs $12.50.", ["$12"], True), ("no number", [], False), ("二 ½", [], True)],
)
def test_wrong_values(text: str, values: list[str], wrong: bool) -> None:
    """A digit that no value accounts for is wrong."""
    assert scores.wrong_values(text, values) is wrong
