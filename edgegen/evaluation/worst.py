"""The texts with most against them, each with its reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from edgegen import explain, scores, slots, tasks
from edgegen.evaluation import verdicts
from edgegen.evaluation.cases import Told
from edgegen.evaluation.slot_error import SlotErrors
from edgegen.explain import Explanation
from edgegen.slots import Segment
from edgegen.verdict import Violation

SHOWN = 20
_REPEATS = 0.02  # share of repeated 4-grams that a reader begins to notice
_UNLIKE = 0.2  # share of words and pairs of words in common with the nearest reference
_LISTED = 4  # faults of one text
_UNTRUE, _TEMPLATE, _SLOT, _DRAFT, _REPEATED, _FAR = 100.0, 10.0, 6.0, 4.0, 2.0, 1.0


@dataclass(frozen=True, slots=True)
class Bad:
    """A text, what it should be like, and what is against it; `weight` orders them, the worst first."""

    weight: float
    task: str
    lang: str
    source: str
    text: str
    reference: str | None
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"weight": round(self.weight, 3)}


def of(
    answers: Sequence[Explanation], drafts: Sequence[Explanation], references: Sequence[Sequence[Told]],
    errors: Sequence[SlotErrors],
) -> list[Bad]:  # fmt: skip
    """All texts with a reason against them, the worst first. `references` and slot `errors` may be empty."""
    found = []
    for i, (answer, draft) in enumerate(zip(answers, drafts, strict=True)):
        own = references[i] if references else ()
        reasons = [*_reasons(answer, draft, own), *(_of_slots(errors[i]) if errors else ())]
        if reasons:
            weight = sum(points for points, _ in reasons)
            reference = own[0].text if own else None
            found.append(
                Bad(weight, answer.task, answer.lang, answer.source, answer.text, reference, tuple(text for _, text in reasons))
            )
    return sorted(found, key=lambda bad: -bad.weight)


def _reasons(answer: Explanation, draft: Explanation, references: Sequence[Told]) -> Iterable[tuple[float, str]]:
    task = tasks.get(answer.task)
    if task.choices:
        if references and all(told.text != answer.text for told in references):
            yield _UNTRUE, f"chose {answer.text!r}, not {references[0].text!r}"
        return
    if verdicts.wrong_values(answer):
        yield _UNTRUE, "it shows a digit that no fact accounts for"
    for violation in explain.check(list(answer.segments), answer.prompt, task)[0]:
        yield _UNTRUE, f"shown although {_said(violation)}"
    if answer.source == "template":
        yield _TEMPLATE, "template: " + (answer.note or _refused(answer))
    for candidate in draft.candidates[:1]:
        yield from _unchecked(candidate, draft)
    repeated = scores.repeated_share(answer.text)
    if repeated > _REPEATS:
        yield _REPEATED * (1 + repeated), f"{repeated:.0%} of its 4-grams are there already"
    if references and (alike := max(_alike(answer.text, told.text) for told in references)) < _UNLIKE:
        yield _FAR * (1 - alike), f"little in common with the reference: {alike:.0%} of words and pairs"


def _of_slots(errors: SlotErrors) -> Iterable[tuple[float, str]]:
    for what, values in (("missing", errors.missing), ("redundant", errors.redundant)):
        if values:
            yield _SLOT * len(values), f"{what}: {', '.join(values)}"


def _unchecked(candidate: list[Segment] | None, draft: Explanation) -> Iterable[tuple[float, str]]:
    if candidate is None:
        yield _DRAFT, "unchecked, the text was cut off, or the mask forced it off its course"
        return
    violations = explain.check(candidate, draft.prompt, tasks.get(draft.task))[0]
    if violations:
        text = slots.render(candidate, draft.prompt.request.lang)
        yield _DRAFT * len(violations), f"unchecked, it wrote {text!r}: {_listed(violations)}"


def _refused(answer: Explanation) -> str:
    return f"{len(answer.rejected)} candidates refused: {_listed(v for rejected in answer.rejected for v in rejected.violations)}"


def _listed(violations: Iterable[Violation]) -> str:
    found = list(dict.fromkeys(map(_said, violations)))
    return "; ".join(found[:_LISTED]) + (f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def _said(violation: Violation) -> str:
    return f"{violation.rule}: {violation.why}" + (f" ({violation.text!r})" if violation.text else "")


def _alike(text: str, other: str) -> float:
    """F1 of words and pairs of words: ROUGE-1 and -2 together, without a library."""
    one, two = (_bag(t) for t in (text, other))
    return 2 * len(one & two) / (len(one) + len(two)) if one or two else 1.0


def _bag(text: str) -> set[tuple[str, ...]]:
    words = scores.tokens(text)
    return {(word,) for word in words} | set(pairwise(words))
