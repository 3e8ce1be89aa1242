"""Test cases, texts that know what they tell, and the baselines that every score stands beside. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from edgegen import grounding, selection, slots, tasks
from edgegen.domain import Lang, Request
from edgegen.errors import DataError
from edgegen.slots import Prompt, Segment

BASELINES = ("template", "shuffled", "constant")
"""The task's template text, another case's reference (seeded), and the first reference for every case."""
BORROWED = ("shuffled", "constant")
"""Those whose texts were written for other requests."""
_MARK = re.compile(r"<\|v\d+\|>")
_SUBJECTS = frozenset({"name", "source", "point", "query", "topic"})  # what a text is about is no feature of it


@dataclass(frozen=True, slots=True)
class Reference:
    """A text to compare with, slots as `<|vN|>`; `original` is it as a person wrote it. For a task that chooses, the choice."""

    text: str
    original: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A request and what people or a corpus wrote for it."""

    request: Request
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A text as it is read, and what it tells.

    `evidence` holds section and key of each fact that the text shows or claims of its own request; `of` is that request.
    """

    text: str
    segments: tuple[Segment, ...]
    evidence: tuple[tuple[int, str], ...]
    of: Request

    @property
    def features(self) -> tuple[str, ...]:
        """The keys of the facts it tells, in order, but for what it is about: a text's features in the sense of PETER."""
        return tuple(dict.fromkeys(key for _, key in self.evidence if key not in _SUBJECTS))


def check(request: Request, text: str) -> None:
    """Raise DataError or UsageError for a request that its task cannot take, or a text with a slot that the request lacks."""
    task = tasks.get(request.task)
    prompt = task.prompt(request)
    literal = "".join(part for part in slots.parse(text, prompt) if isinstance(part, str))
    if not task.choices and (unknown := _MARK.search(literal)):
        raise DataError(f"its text has {unknown.group()}, which stands for no value of its facts. Prepare the data again.")


def merged(cases: Iterable[Case]) -> list[Case]:
    """One case for each request, in order, with every reference that the request has."""
    found: dict[Request, list[Reference]] = {}
    for case in cases:
        found.setdefault(case.request, []).extend(case.references)
    return [Case(request, tuple(dict.fromkeys(texts))) for request, texts in found.items()]


def told(segments: Sequence[Segment], prompt: Prompt) -> Told:
    """A text on a prompt, with what it tells."""
    task = tasks.get(prompt.request.task)
    claims = () if task.choices else grounding.check(list(segments), prompt, task).claims
    evidence = dict.fromkeys(pair for claim in claims for pair in claim.evidence)
    return Told(slots.render(segments, prompt.request.lang), tuple(segments), tuple(evidence), prompt.request)


def references(case: Case) -> list[Told]:
    """The references of a case. Raises DataError where the request does not fit its task."""
    task = tasks.get(case.request.task)
    prompt = task.prompt(case.request)
    if task.choices:
        return [Told(own.text, (own.text,), (), case.request) for own in case.references]
    found = [told(slots.parse(own.text, prompt), prompt) for own in case.references]
    return [replace(t, text=own.original or t.text) for t, own in zip(found, case.references, strict=True)]


def prompted(request: Request, text: str, rng: Random | None = None) -> tuple[Prompt, list[Segment]]:
    """The prompt that shows what a text with slots tells, and the text on it: what a model learns from, and is measured on.

    `rng` draws another order of the facts of each section than that of telling.
    """
    task = tasks.get(request.task)
    prompt = task.prompt(request)
    segments = slots.parse(text, prompt)
    if task.choices:
        return prompt, segments
    plan = selection.told(segments, request, grounding.claimed(segments, prompt, task), task)
    plan = plan if rng is None else tuple(tuple(rng.sample(facts, len(facts))) for facts in plan)
    shown = selection.prompt(request, plan)
    return shown, selection.moved(segments, shown)


def baselines(cases: Sequence[Case], found: Sequence[Sequence[Told]]) -> dict[str, list[Told]]:
    """The texts of each of BASELINES; `found` are the references of each case; the template alone where there are none."""
    handler = tasks.get(cases[0].request.task)
    prompts = [handler.prompt(case.request) for case in cases]
    template = {"template": [told(handler.draft(prompt), prompt) for prompt in prompts]}
    if not found:
        return template
    first = [texts[0] for texts in found]
    shuffled = list(first)
    Random(0).shuffle(shuffled)
    return template | {"shuffled": shuffled, "constant": [first[0]] * len(first)}


def category(request: Request, lang: Lang) -> str:
    """The category of what a request is about, to group by; the language's word for none where it has none."""
    for section in request.sections:
        fact = section.get("category")
        if fact is not None:
            return str(fact.value)
    return {"en": "(none)", "zh": "（无）"}[lang]
