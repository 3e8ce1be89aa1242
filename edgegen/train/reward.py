"""How good a text is, from 0 to 1, as far as a program can tell: what best-of-n chooses by. Pure.

A text that says something untrue is worth nothing, whatever else it does well. All others get the mean of what is known of them:
how much of the facts shown they tell, how well they read, how little they repeat, and what people made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from edgegen import scores, tasks
from edgegen.evaluation import cases, verdicts
from edgegen.evaluation.cases import Told
from edgegen.marked import read
from edgegen.slots import Prompt, Segment
from edgegen.store import Event

_LONG = 30
"""Tokens of a sentence that is still easily read (a Chinese character is one)."""
_LIKED = {"accepted": 1.0, "up": 1.0, "edited": 0.25, "rejected": 0.0, "down": 0.0}
"""What an event says of the text that was shown; dwelling says nothing for sure."""


@dataclass(frozen=True, slots=True)
class Reward:
    """The parts, each 0 to 1."""

    grounded: float
    """1 where the checks find nothing untrue or unsafe, else 0."""
    covered: float
    """Share of the facts shown that the text tells."""
    readable: float
    """Share of sentences that are not too long; 0 where the form is wrong (no end, a stray mark, the wrong language)."""
    unrepeated: float
    """Share of four-word runs that are not there twice; 0 where a check finds repetition."""
    accepted: float | None = None
    """What people made of it; None where nobody said anything."""

    @property
    def total(self) -> float:
        """Nothing without grounding, else the mean of what is known."""
        known = [self.covered, self.readable, self.unrepeated, *([] if self.accepted is None else [self.accepted])]
        return self.grounded * fmean(known)


NOTHING = Reward(0.0, 0.0, 0.0, 0.0)
"""Of a candidate that is no text."""


def of(segments: Sequence[Segment] | None, prompt: Prompt, events: Iterable[Event] = ()) -> Reward:
    """The reward of a text on a prompt."""
    if not segments:
        return NOTHING
    broken, said = verdicts.rules(segments, prompt), cases.told(segments, prompt)
    liked = [_LIKED[event.kind] for event in events if event.kind in _LIKED]
    return Reward(
        grounded=float(not broken - verdicts.FORM_RULES),
        covered=_covered(said, prompt),
        readable=0.0 if broken & (verdicts.FORM_RULES - {"repetition"}) else _readable(segments, prompt),
        unrepeated=0.0 if "repetition" in broken else 1.0 - scores.repeated_share(said.text),
        accepted=fmean(liked) if liked else None,
    )


def _covered(said: Told, prompt: Prompt) -> float:
    sections, given = prompt.request.sections, tasks.get(prompt.request.task).given
    shown = {(i, fact.key) for i, facts in enumerate(prompt.plan) if sections[i].label not in given for fact in facts}
    return len(shown & set(said.evidence)) / len(shown) if shown else 1.0


def _readable(segments: Sequence[Segment], prompt: Prompt) -> float:
    text = read(segments, prompt, tasks.get(prompt.request.task))
    lengths = [len(scores.tokens(text.marked[sentence.start : sentence.end])) for sentence in text.sentences]
    return fmean(length <= _LONG for length in lengths) if lengths else 0.0
