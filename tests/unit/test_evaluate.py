"""Evaluation on the fake backend, and the scores against hand-worked cases."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from edgegen import scores
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine.loop import Engine
from edgegen.evaluate import Case, evaluate
from edgegen.explain import Explainer, ExplainOptions
from tests.fakes.backend import FakeBackend, scripted


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
    cases = [Case(request(f"Tray {i}", i + 3), f"Tray {i} costs ${i + 3}.") for i in range(4)]
    row, answers = evaluate(explainer, "reason", "en", cases, ExplainOptions(n=2, temperature=0))
    assert [a.text for a in answers] == [case.reference for case in cases]
    assert (row.model_share, row.wrong_values, row.ungrounded_after, row.ungrounded_before) == (1.0, 0, 0, 0.0)
    assert (row.coverage, row.usr) == (1.0, 1.0)
    assert row.bleu["model"] == pytest.approx(100)
    assert row.bleu["model"] > row.bleu["constant"] and row.bleu["model"] > row.bleu["shuffled"]
    assert row.rouge_l["model"] == pytest.approx(100)


def test_an_untrue_sentence_is_counted_and_not_shown() -> None:
    """Before the gate every candidate is untrue, after it none: the template is shown."""
    with Engine(lambda: FakeBackend(scripted("<|v1|> is waterproof and costs <|v4|>."))) as engine:
        row, answers = evaluate(Explainer(engine), "reason", "en", [Case(request("Tray"))], ExplainOptions(n=2))
    assert (row.model_share, row.ungrounded_before, row.ungrounded_after) == (0.0, 1.0, 0)
    assert answers[0].source == "template" and "waterproof" not in answers[0].text
    assert row.bleu == {}


def test_a_slot_that_cannot_stand_there_is_drawn_again() -> None:
    """The model wants the price where a rating must stand; the veto makes it take the only other slot."""
    with Engine(lambda: FakeBackend(scripted("<|v1|> is rated <|v4|>."))) as engine:
        answer = Explainer(engine).explain(request("Tray"), ExplainOptions(n=1, temperature=0))
    assert all("rated $" not in "".join(map(str, c or ())) for c in answer.candidates)


def test_repeated_4grams_by_hand() -> None:
    """A b c d e a b c d: six 4-grams, one of them for the second time."""
    assert scores.repeated_4grams(["a b c d e a b c d"]) == pytest.approx(1 / 6)
    assert scores.repeated_4grams(["好用好用好用", "短"]) == pytest.approx((1 / 3) / 2)


def test_usr_by_hand() -> None:
    """Two distinct of three."""
    assert scores.usr(["a", "b", "a"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "values", "wrong"),
    [("It costs $12.50.", ["$12.50"], False), ("It costs $12.50.", ["$12"], True), ("no number", [], False), ("二 ½", [], True)],
)
def test_wrong_values(text: str, values: list[str], wrong: bool) -> None:
    """A digit that no value accounts for is wrong."""
    assert scores.wrong_values(text, values) is wrong
