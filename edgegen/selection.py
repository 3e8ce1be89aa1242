"""Content selection: which facts a text tells, in which order. Pure; knows no engine and no training library.

A prompt shows the model what its text is to tell and nothing else; what to tell is drawn here, for a reader's good and not
by a small model's luck. In training the same is read off the text (`told`), so a prompt and its text always agree.
Source: Moryossef et al., "Step-by-Step: Separating Planning from Realization in Neural Data-to-Text Generation", 2019;
figures with and without: docs/log.md, 2026-11-25.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random

from edgegen import slots, tasks
from edgegen.domain import Fact, Level, Request, Section
from edgegen.slots import Prompt, Segment, Slot
from edgegen.tasks import Task, Tells
from edgegen.verdict import Claim

Plan = tuple[tuple[Fact, ...], ...]
"""The facts to tell of each section of a request, in the order of telling."""

_ATTRIBUTED = 0.6  # share of texts that name the recommenders
_SUBJECTS = frozenset({"name", "source", "point", "query", "topic"})
_FROM_OTHERS = frozenset({"similar_shoppers", "also_bought", "liked", "bought", "viewed", "match", "quote", "likes", "need"})
_POPULARITY = frozenset({"rating", "reviews", "sales", "discount"})
_TERMS = frozenset({"warranty", "shipping", "returns", "tags", "stock", "released", "was_price"})
_WEIGHTS = {"trending": 2.5, "criterion": 2.5, "category": 0.4, "brand": 0.3}  # what a name often says already is no reason
_LATE = _FROM_OTHERS | _POPULARITY | _TERMS | {"trending", "new", "price"}


def prompt(request: Request, plan: Plan) -> Prompt:
    """The prompt that shows a plan. It is checked against the whole request. Raises DataError for too many values."""
    sections = tuple(Section(s.label, facts) for s, facts in zip(request.sections, plan, strict=True))
    bound = slots.bind(replace(request, sections=sections), by_key=tasks.get(request.task).own)
    return replace(bound, request=request, plan=plan)


def told(segments: Sequence[Segment], request: Request, claims: Sequence[Claim], task: Task) -> Plan:
    """The plan that a text follows: the facts it shows, those behind a claim that nothing shown bears out, and what is given.

    They stand as the text tells them, or as the request has them where the task finds its own order.
    """
    found: dict[tuple[int, int], tuple[int, Fact]] = {}
    for segment in segments:
        if isinstance(segment, Slot):
            found.setdefault((segment.section, id(segment.fact)), (segment.section, segment.fact))
    shown = {(i, fact.key) for i, fact in found.values()}
    for claim in claims:
        if not shown & set(claim.evidence):
            index, key = claim.evidence[0]
            fact = request.sections[index].get(key)
            if fact is not None:
                found.setdefault((index, id(fact)), (index, fact))
                shown.add((index, key))
    return tuple(_of_section(section, at, task, found) for at, section in enumerate(request.sections))


def _of_section(section: Section, at: int, task: Task, found: Mapping[tuple[int, int], tuple[int, Fact]]) -> tuple[Fact, ...]:
    if section.label in task.given:
        return section.facts
    if task.in_order:
        return tuple(fact for fact in section if (at, id(fact)) in found)
    return tuple(fact for i, fact in found.values() if i == at)


def moved(segments: Sequence[Segment], prompt: Prompt) -> list[Segment]:
    """Segments with the slots of another prompt for the same facts."""
    there = {(s.section, id(s.fact), s.part, s.text): s for s in prompt.slots}
    return [s if isinstance(s, str) else there[s.section, id(s.fact), s.part, s.text] for s in segments]


def choose(request: Request, task: Task, rng: Random) -> Plan:
    """A plan for a text to come: what the task must show, and as many further facts as its texts tell."""
    attributed = rng.random() < _ATTRIBUTED
    chosen, several = _sections(request, task, rng), len(request.labelled("item")) > 1
    plan = [
        _facts(section, task, attributed, rng) if index in chosen else [] for index, section in enumerate(request.sections)
    ]
    plan = plan if task.in_order else [_ordered(facts, several, rng) for facts in plan]
    any_of = [(i, f) for i, s in enumerate(request.sections) for f in s if f.key in task.any_of]
    if any_of and not any(fact.key in task.any_of for facts in plan for fact in facts):
        index, fact = rng.choice(any_of)
        plan[index] = _ordered([*plan[index], fact], several, rng)
    return tuple(map(tuple, plan))


def _sections(request: Request, task: Task, rng: Random) -> set[int]:
    """The sections to tell of: all, or as many of a label as the task's texts tell."""
    out: set[int] = set()
    for label in dict.fromkeys(section.label for section in request.sections):
        found = [i for i, section in enumerate(request.sections) if section.label == label]
        count = rng.choice(task.tells.get(label, Tells()).sections or (len(found),))
        out.update(rng.sample(found, min(count, len(found))))
    return out


def _facts(section: Section, task: Task, attributed: bool, rng: Random) -> list[Fact]:
    if section.label in task.whole or section.label in task.given:
        return list(section)
    required = {key for need in task.needs if need.label == section.label for key in need.facts}
    always = {*task.mentions, "name", "point", "query", *(["source"] if attributed else [])} & required
    must = [fact for fact in section if fact.key in always]
    free = [fact for fact in section if fact.key not in always and fact.key != "source"]
    picked = list(_drawn(free, rng.choice(task.tells.get(section.label, Tells()).facts), rng))
    if not must and not picked:
        return [fact for fact in section if fact.key == "source"]
    return must + picked


def _drawn(facts: list[Fact], count: int, rng: Random) -> Iterator[Fact]:
    """Facts drawn without replacement, those more often that say more to a shopper.

    Shoppers prefer another's words to a share of similar shoppers, that to a likeness to what they liked, that to popularity,
    and that to a bare attribute (docs/log.md has the figures).
    """
    keyed = sorted(facts, key=lambda fact: rng.random() ** (1 / _weight(fact)), reverse=True)
    yield from keyed[:count]


def _weight(fact: Fact) -> float:
    if fact.key in _FROM_OTHERS:
        return 4.5 if fact.key == "quote" else 3.5
    if fact.key in _POPULARITY:
        return {Level.HIGH: 2.5, Level.LOW: 0.5}.get(fact.level or Level.MID, 1.0)
    return _WEIGHTS.get(fact.key, 0.5 if fact.key in _TERMS else 1.0)


def _ordered(facts: list[Fact], several: bool, rng: Random) -> list[Fact]:
    """Subjects first (always where there are several), what others say and the terms last: as texts mostly go."""

    def place(fact: Fact) -> float:
        if fact.key in _SUBJECTS:
            return -1.0 if several else rng.random()
        return rng.random() + (0.8 if fact.key in _LATE else 0.45)

    return sorted(facts, key=place)
