"""Runs a test set through `explain` and scores it, beside constant, shuffled and template baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import median
from typing import Any

from edgegen import explain, grounding, scores, slots, tasks
from edgegen.domain import Lang, Request
from edgegen.explain import Explainer, ExplainOptions, Explanation
from edgegen.slots import Prompt, Segment, Slot

FORM_RULES = grounding.UNFINISHED | {"form", "repetition"}
"""Rules about how a text is made; every other rule is about whether it is true."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request and, where there is one, a reference text."""

    request: Request
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one task and language; shares are 0 to 1, BLEU and ROUGE 0 to 100, times in seconds.

    `ungrounded_before` is the share with an untrue claim, `rejected_before` with any fault, of what the model writes when no
    sentence is checked on the way (one candidate a case). `coverage` is the share of required facts that the shown texts
    mention. `accuracy` is given for tasks that choose.
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
    answers = [explainer.explain(case.request, options) for case in cases]
    texts = [answer.text for answer in answers]
    unchecked = replace(options, n=1, rewrite=False)
    first = [explainer.explain(case.request, unchecked) for case in cases]
    candidates = [_rules(segments, answer.prompt) for answer in first for segments in answer.candidates]
    row = Row(
        task=task,
        lang=lang,
        texts=len(answers),
        model_share=_mean([answer.source == "model" for answer in answers]),
        wrong_values=sum(_wrong_values(answer) for answer in answers),
        ungrounded_after=sum(bool(_rules(list(answer.segments), answer.prompt) - FORM_RULES) for answer in answers),
        ungrounded_before=_mean([bool(rules - FORM_RULES) for rules in candidates]),
        rejected_before=_mean([bool(rules) for rules in candidates]),
        coverage=_mean(list(map(_coverage, answers))),
        usr=scores.usr(texts),
        repeated_4grams=scores.repeated_4grams(texts),
        median_s=median(answer.timings["total_s"] for answer in answers),
        **_against_references(answers, cases, lang),
    )
    return row, answers


def _wrong_values(answer: Explanation) -> bool:
    request = answer.prompt.request
    values = [*(slot.text for slot in tasks.get(answer.task).prompt(request).slots), *request.choices]
    return scores.wrong_values(answer.text, values)


def _rules(segments: list[Segment] | None, prompt: Prompt) -> set[str]:
    """The rules that a candidate breaks."""
    if segments is None:
        return {"form"}
    return {violation.rule for violation in explain.check(segments, prompt, tasks.get(prompt.request.task))[0]}


def _coverage(answer: Explanation) -> float:
    """Share of the facts that the task requires which the text names."""
    task = tasks.get(answer.task)
    shown = {(s.section, s.fact.key) for s in answer.segments if isinstance(s, Slot)}
    wanted = {
        (i, f.key) for i, section in enumerate(answer.prompt.request.sections) for f in section
        if f.key in task.mentions and (f.key != "category" or section.label == "guide")
    }  # fmt: skip
    return len(wanted & shown) / len(wanted) if wanted else 1.0


def _against_references(answers: Sequence[Explanation], cases: Sequence[Case], lang: Lang) -> dict[str, Any]:
    references, texts = [case.reference for case in cases if case.reference is not None], [answer.text for answer in answers]
    if len(references) < len(texts):
        return {"bleu": {}, "rouge_l": {}}
    handler = tasks.get(answers[0].task)
    if handler.choices:
        return {"bleu": {}, "rouge_l": {}, "accuracy": _mean([t == r for t, r in zip(texts, references, strict=True)])}
    shuffled = list(references)
    Random(0).shuffle(shuffled)
    systems = {
        "model": texts,
        "template": [slots.render(handler.draft(handler.prompt(case.request)), lang) for case in cases],
        "shuffled": shuffled,
        "constant": [references[0]] * len(texts),
    }
    return {
        "bleu": {name: scores.bleu(found, references, lang) for name, found in systems.items()},
        "rouge_l": {name: scores.rouge_l(found, references) for name, found in systems.items()},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
