"""Content selection: a plan holds what its task must show, is the same for a seed, and says in training what the text says."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from edgegen import explain, grounding, selection, slots, tasks
from edgegen.domain import LANGS, Fact, Kind, Lang, Level, Request, Section
from edgegen.train.corpus import generate
from edgegen.train.pairs import Pair

FREE = [name for name in tasks.names() if not tasks.get(name).choices]
NAME = Fact("name", "Oak Tray", Kind.TEXT)
TRENDING = Fact("trending", True, Kind.FLAG)
FEATURE = Fact("feature", "soft grip", Kind.PHRASE)


def cases(task: str, lang: Lang, count: int) -> list[Pair]:
    return list(generate.pairs(task, lang, "test", count, seed=5))


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("name", FREE)
def test_a_plan_holds_what_the_task_needs(name: str, lang: Lang) -> None:
    """Whatever is drawn are facts of the request, each once, with all that a text of the task must name."""
    task = tasks.get(name)
    for seed, pair in enumerate(cases(name, lang, 20)):
        plan = selection.choose(pair.request, task, Random(seed))
        for facts, section in zip(plan, pair.request.sections, strict=True):
            assert len(facts) == len({id(fact) for fact in facts})
            assert {id(fact) for fact in facts} <= {id(fact) for fact in section}
            needed = {k for need in task.needs if need.label == section.label for k in need.facts} & set(task.mentions)
            assert not facts or needed <= {fact.key for fact in facts}
            assert section.label not in task.every or facts
            assert section.label not in task.whole or len(facts) == len(tuple(section))
        assert len(selection.prompt(pair.request, plan).pieces) <= len(task.prompt(pair.request).pieces)


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("name", FREE)
def test_a_text_passes_on_the_facts_it_tells(name: str, lang: Lang) -> None:
    """The plan read off a text holds all that the text needs: it passes its check on these facts alone."""
    task = tasks.get(name)
    for pair in cases(name, lang, 20):
        whole = task.prompt(pair.request)
        segments = slots.parse(pair.text, whole)
        plan = selection.told(segments, pair.request, grounding.claimed(segments, whole, task), task)
        bound = selection.prompt(pair.request, plan)
        moved = selection.moved(segments, bound)
        assert slots.render(moved, lang) == slots.render(segments, lang)
        assert not explain.check(moved, bound, task)[0]
        untrue = {"claim", "contradiction", "number", "context", "mixed"}
        alone = selection.prompt(bare := _only(pair.request, plan), tuple(s.facts for s in bare.sections))
        assert not {v.rule for v in explain.check(moved, alone, task)[0]} & untrue


def _only(request: Request, plan: selection.Plan) -> Request:
    sections = tuple(Section(s.label, facts) for s, facts in zip(request.sections, plan, strict=True))
    return Request(request.task, request.lang, sections)


def test_a_claim_without_a_slot_is_told_too() -> None:
    """Words that only a flag bears out bring the flag into the prompt; what nothing says stays out, and order is the text's."""
    request = Request("reason", "en", (Section("item", (TRENDING, FEATURE, NAME)),))
    task = tasks.get("reason")
    whole = task.prompt(request)
    name = whole.find(0, NAME)
    assert name is not None
    segments: list[slots.Segment] = [name, " is trending."]
    assert selection.told(segments, request, grounding.claimed(segments, whole, task), task) == ((NAME, TRENDING),)
    plain: list[slots.Segment] = ["Have a look at ", name, "."]
    assert selection.told(plain, request, grounding.claimed(plain, whole, task), task) == ((NAME,),)


def test_the_seed_decides() -> None:
    """The same seed gives the same plan; seeds differ."""
    request = cases("product", "en", 1)[0].request
    task = tasks.get("product")
    plans = [selection.choose(request, task, Random(seed)) for seed in range(30)]
    assert plans == [selection.choose(request, task, Random(seed)) for seed in range(30)]
    assert len(set(map(str, plans))) > 10


def test_a_personal_text_is_about_the_shopper() -> None:
    """However few facts are drawn, one of them links the product to the shopper where there is one."""
    likes = Fact("likes", "oak", Kind.PHRASE)
    request = Request("personal", "en", (Section("item", (NAME, FEATURE)), Section("shopper", (likes,))))
    task = tasks.get("personal")
    assert all(likes in selection.choose(request, task, Random(seed))[1] for seed in range(20))


def test_strong_reasons_are_told_more_often() -> None:
    """A high rating is told more often than a low one."""
    task = tasks.get("reason")

    def share(level: Level) -> float:
        rating = Fact("rating", Decimal("4.0"), Kind.RATING, level=level)
        others = tuple(Fact(key, "oak", Kind.PHRASE) for key in ("material", "color", "style", "origin"))
        request = Request("reason", "en", (Section("item", (NAME, rating, *others)),))
        return sum(rating in selection.choose(request, task, Random(seed))[0] for seed in range(200)) / 200

    assert share(Level.HIGH) > 1.5 * share(Level.LOW)
