"""Slot error rate: facts that a text should show and does not, and those it shows too often or should not show. Pure.

    ERR = (missing + redundant) / asked

over all texts, counted by the exact value as it is read, in any case of letters. Source: Wen et al., "Semantically
Conditioned LSTM-based Natural Language Generation for Spoken Dialogue Systems", 2015, section 4.1 (p and q there), and RNNLG,
its code. Flags and ratings of aspects have no value that can be matched; they count as shown where a claim rests on them. A
lone letter (eco rating `a`) is counted by its slots, since an article reads the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgegen import locale
from edgegen.domain import Fact, Kind, Lang
from edgegen.evaluation.cases import Told
from edgegen.slots import Slot

Asked = Sequence[tuple[int, Fact]]
"""Facts that a text was to show, each with the index of its section."""
_BY_CLAIM = frozenset({Kind.FLAG, Kind.ASPECT})
_LETTER = re.compile("[a-z]")


@dataclass(frozen=True, slots=True)
class SlotErrors:
    """The values that are missing and redundant, and how many were asked for."""

    missing: tuple[str, ...]
    redundant: tuple[str, ...]
    asked: int

    @property
    def count(self) -> int:
        """Missing and redundant ones together."""
        return len(self.missing) + len(self.redundant)


def errors(told: Told, asked: Asked, lang: Lang, *, own: bool = True) -> SlotErrors:
    """The slot errors of a text that was to show `asked`; `own` where it was written for the request that asks."""
    keys = Counter((i, fact.key) for i, fact in asked)
    shown = {at for at in told.evidence if own and keys[at] == 1}  # of two facts with one key, a claim does not say which
    by_claim = [(i, fact) for i, fact in asked if fact.kind in _BY_CLAIM]
    missing = [f"{fact.key}: {fact.label or fact.key}" for i, fact in by_claim if (i, fact.key) not in shown]
    redundant: list[str] = []
    wanted: dict[str, list[tuple[int, Fact]]] = {}
    for i, fact in asked:
        if fact.kind not in _BY_CLAIM:
            wanted.setdefault(locale.value_text(fact, lang).casefold(), []).append((i, fact))
    letters = {value for value in wanted if _LETTER.fullmatch(value)}
    counts = occurrences(told.text, [value for value in wanted if value not in letters])
    counts.update(slot.text.casefold() for slot in _values(told) if slot.text.casefold() in letters)
    for value, facts in wanted.items():
        gone = [fact for i, fact in facts[counts[value] :] if (i, fact.key) not in shown]
        missing += [f"{fact.key}: {locale.value_text(fact, lang)}" for fact in gone]
        redundant += [f"{facts[0][1].key}: {locale.value_text(facts[0][1], lang)}"] * max(0, counts[value] - len(facts))
    redundant += [f"{slot.fact.key}: {slot.text}" for slot in _strangers(told, wanted)]
    return SlotErrors(tuple(missing), tuple(redundant), len(asked))


def occurrences(text: str, values: Sequence[str]) -> Counter[str]:
    """How often each value stands in a text, the longest counted first, so that none is found inside another."""
    rest, found = text.casefold(), Counter[str]()
    for value in sorted(values, key=len, reverse=True):
        rest, found[value] = re.subn(_alone(value), "\0", rest)
    return found


def _alone(value: str) -> str:
    """A pattern for a value that is no part of a longer word or number."""
    before = r"(?<![0-9a-z])(?<![0-9][.,])" if re.match("[0-9a-z]", value) else ""
    after = r"(?![0-9a-z])(?![.,][0-9])" if re.search("[0-9a-z]$", value) else ""
    return before + re.escape(value) + after


def _strangers(told: Told, wanted: dict[str, list[tuple[int, Fact]]]) -> list[Slot]:
    """Values that nobody asked for: known of texts that were written with slots."""
    return [slot for slot in _values(told) if slot.fact.kind not in _BY_CLAIM and slot.text.casefold() not in wanted]


def _values(told: Told) -> list[Slot]:
    return [segment for segment in told.segments if isinstance(segment, Slot) and segment.part == "value"]
