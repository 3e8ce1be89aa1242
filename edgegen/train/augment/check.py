"""Whether a changed pair is as true as the one that it was made from: the checks of `prepare`, none failed anew. Pure."""

from __future__ import annotations

from edgegen import grounding, safety, slots, tasks
from edgegen.train.pairs import Pair
from edgegen.train.prepare import matching, texts


def faults(pair: Pair) -> frozenset[tuple[str, str]]:
    """What is wrong with a pair's text, as rule and words: untrue, badly made, unsafe, private."""
    task = tasks.get(pair.request.task)
    prompt = task.prompt(pair.request)
    segments = [pair.text] if task.choices else slots.parse(pair.text, prompt)
    literal = "".join(s for s in segments if isinstance(s, str))
    found = [*grounding.check(segments, prompt, task).violations, *safety.check_text(literal, pair.request.lang)]
    kind = texts.private(literal)
    return frozenset({(wrong.rule, wrong.text) for wrong in found} | ({("private", kind)} if kind else set()))


def seen(pair: Pair) -> tuple[str, str]:
    """What the model sees of a pair: the prompt, and the text."""
    prompt, segments = pair.prompted()
    return repr(prompt.pieces), matching.written(segments)
