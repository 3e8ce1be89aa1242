"""Runs a test set through `explain` and scores it, beside constant, shuffled and template baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from edgegen import explain, scores, slots, tasks
from edgegen.domain import Lang, Request
from edgegen.explain import Explainer, ExplainOptions, Explanation
from edgegen.slots import Prompt, Segment, Slot

FORM_RULES = frozenset({"form", "missing", "repetition"})
"""Rules about how a text is made; every other rule is about whether it is true."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request and, where there is one, a reference text."""

    request: Request
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one task and language; shares are 0 to 1, BLEU and ROUGE 0 to 100, times in seconds.

    `ungrounded_before` is the share of the model's candidates with an untrue claim before the gate, `rejected_before`
    with any fault. `coverage` is the share of required facts that the shown texts mention. `accuracy` is given for tasks
    that choose.
    """

    task: str
    lang: str
    texts: int
    model_share: float
    wrong_values: int
    ungrounded_after: int
    ungrounded_before: float
    rejected_before: float
    coverage: float
    usr: float
    repeated_4grams: float
    median_s: float
    bleu: dict[str, float]
    rouge_l: dict[str, float]
    accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def evaluate(
    explainer: Explainer, task: str, lang: Lang, cases: Sequence[Case], options: ExplainOptions
) -> tuple[Row, list[Explanation]]:
    """Explain every case and score the answers. Cases must not be empty."""
    handler = tasks.get(task)
    answers = [explainer.explain(case.request, options) for case in cases]
    prompts = [handler.prompt(case.request) for case in cases]
    texts = [a.text for a in answers]
    raw = [] if handler.choices else [_faults(explainer, c.request, p, options) for c, p in zip(cases, prompts, strict=True)]
    candidates = [fault for faults in raw for fault in faults]
    after = (
        0
        if handler.choices
        else sum(bool(set(_rules(list(a.segments), p)) - FORM_RULES) for a, p in zip(answers, prompts, strict=True))
    )
    row = Row(
        task=task,
        lang=lang,
        texts=len(answers),
        model_share=_mean([a.source == "model" for a in answers]),
        wrong_values=0
        if handler.choices
        else sum(scores.wrong_values(a.text, _values(p)) for a, p in zip(answers, prompts, strict=True)),
        ungrounded_after=after,
        ungrounded_before=_mean([bool(rules - FORM_RULES) for rules in candidates]),
        rejected_before=_mean([bool(rules) for rules in candidates]),
        coverage=_mean([_coverage(a, p) for a, p in zip(answers, prompts, strict=True)]),
        usr=scores.usr(texts),
        repeated_4grams=scores.repeated_4grams(texts),
        median_s=sorted(a.timings["total_s"] for a in answers)[len(answers) // 2],
        **_against_references(texts, cases, prompts, lang),
    )
    return row, answers


def _faults(explainer: Explainer, request: Request, prompt: Prompt, options: ExplainOptions) -> Iterator[set[str]]:
    for segments in explainer.candidates(request, options):
        yield {"form"} if segments is None else set(_rules(segments, prompt))


def _rules(segments: list[Segment], prompt: Prompt) -> list[str]:
    return [v.rule for v in explain.check(segments, prompt, tasks.get(prompt.request.task))[0]]


def _values(prompt: Prompt) -> list[str]:
    return [slot.text for slot in prompt.slots]


def _coverage(answer: Explanation, prompt: Prompt) -> float:
    """Share of the sections' mentioned facts that the text names."""
    task = tasks.get(answer.task)
    shown = {(s.section, s.fact.key) for s in answer.segments if isinstance(s, Slot)}
    wanted = {
        (i, f.key) for i, section in enumerate(prompt.request.sections) for f in section
        if f.key in task.mentions and (f.key != "category" or section.label == "guide")
    }  # fmt: skip
    return len(wanted & shown) / len(wanted) if wanted else 1.0


def _against_references(texts: Sequence[str], cases: Sequence[Case], prompts: Sequence[Prompt], lang: Lang) -> dict[str, Any]:
    references = [case.reference for case in cases if case.reference is not None]
    if len(references) < len(texts):
        return {"bleu": {}, "rouge_l": {}}
    handler = tasks.get(cases[0].request.task)
    if handler.choices:
        return {"bleu": {}, "rouge_l": {}, "accuracy": _mean([t == r for t, r in zip(texts, references, strict=True)])}
    shuffled = list(references)
    Random(0).shuffle(shuffled)
    systems = {
        "model": list(texts),
        "template": [slots.render(handler.draft(p), lang) for p in prompts],
        "shuffled": shuffled,
        "constant": [references[0]] * len(texts),
    }
    return {
        "bleu": {name: scores.bleu(found, references, lang) for name, found in systems.items()},
        "rouge_l": {name: scores.rouge_l(found, references) for name, found in systems.items()},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
