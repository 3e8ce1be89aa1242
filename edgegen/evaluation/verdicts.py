"""What the checks say of texts, and of candidates before any check. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edgegen import explain, grounding, scores, tasks
from edgegen.explain import Explanation
from edgegen.slots import Prompt, Segment, Slot

FORM_RULES = grounding.UNFINISHED | {"form", "repetition"}
"""Rules about how a text is made; every other rule is about whether it is true."""


def rules(segments: Sequence[Segment] | None, prompt: Prompt) -> set[str]:
    """The rules that a candidate breaks."""
    if segments is None:
        return {"form"}
    return {violation.rule for violation in explain.check(list(segments), prompt, tasks.get(prompt.request.task))[0]}


def of_draft(draft: Explanation) -> set[str] | None:
    """The rules that the likeliest candidate breaks, None where nothing was written."""
    return rules(draft.candidates[0], draft.prompt) if draft.candidates else None


def untrue(answer: Explanation) -> bool:
    """Whether the checks find something untrue in a text that was shown."""
    return bool(rules(answer.segments, answer.prompt) - FORM_RULES)


def wrong_values(answer: Explanation) -> bool:
    """Whether a text shows a digit that none of its facts accounts for."""
    request = answer.prompt.request
    values = [*(slot.text for slot in tasks.get(answer.task).prompt(request).slots), *request.choices]
    return scores.wrong_values(answer.text, values)


def coverage(answer: Explanation) -> float:
    """Share of the facts that the task requires which the text names."""
    task = tasks.get(answer.task)
    shown = {(s.section, s.fact.key) for s in answer.segments if isinstance(s, Slot)}
    wanted = {
        (i, f.key) for i, section in enumerate(answer.prompt.request.sections) for f in section
        if f.key in task.mentions and (f.key != "category" or section.label == "guide")
    }  # fmt: skip
    return len(wanted & shown) / len(wanted) if wanted else 1.0
