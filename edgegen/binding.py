"""Which fact a slot is told of: a value under another's label, one value for several products, a price in a wrong role. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgegen.marked import CLAUSE, Mark, Sentence, Text
from edgegen.verdict import Violation

_LABELS = {"attr": frozenset({"label"}), "stars": frozenset({"good", "okay", "bad"})}
_INTRODUCED = re.compile(r"(?: ?[:：] ?| (?:is )?listed as (?:an? )?| is | |为|是)")
_STARS_FOR = re.compile(r"(?: from me)? for (?:the |its )?(?=⟨)")
_LOOSE = re.compile(r"[,，、]|\band\b|\bwith\b|[和与]")
_NAMED = re.compile(r"⟨name⟩(?:(?:,? and |, | & |、|和|与|及|跟)⟨name⟩)+")
_RANGE = frozenset({"lowest", "highest"})


def labels(text: Text) -> list[Violation]:
    """Values that stand under the label of another fact: `⟨label A⟩ listed as ⟨attr B⟩`."""
    wrong: list[Violation] = []
    for sentence in text.sentences:
        for at, mark in enumerate(sentence.marks):
            wrong += _under_another(text, sentence, at, mark)
    return wrong


def _under_another(text: Text, sentence: Sentence, at: int, mark: Mark) -> Iterator[Violation]:
    label = _label_of(text, sentence, at, mark)
    if label is not None and (label.slot.section, label.slot.fact) != (mark.slot.section, mark.slot.fact):
        yield Violation("context", f"{label.slot.text} {mark.slot.text}", f"this {mark.key} belongs to another label")


def _label_of(text: Text, sentence: Sentence, at: int, mark: Mark) -> Mark | None:
    """The label that a value stands under, or None where it stands under none for sure."""
    marks = sentence.marks
    if mark.key not in _LABELS:
        before = marks[at - 1] if at else None
        close = before and before.key == "label" and _INTRODUCED.fullmatch(text.marked, before.end, mark.start)
        return before if close and mark.slot.part == "value" and mark.key != "name" else None
    if mark.key == "stars":
        follows = _STARS_FOR.match(text.marked, mark.end)
        if follows:
            return next((m for m in marks if m.start == follows.end() and m.key in _LABELS["stars"]), None)
    before = next((m for m in reversed(marks[:at]) if m.key in _LABELS[mark.key]), None)
    if before is None or (mark.key == "stars" and _LOOSE.search(text.marked, before.end, mark.start)):
        return None
    return before


def several(text: Text) -> list[Violation]:
    """One value told of several products that does not hold for each: `⟨name⟩ and ⟨name⟩ cost ⟨price⟩`."""
    wrong: list[Violation] = []
    for sentence in text.sentences:
        for match in _NAMED.finditer(text.marked, sentence.start, sentence.end):
            named = {m.slot.section for m in sentence.marks if match.start() <= m.start < match.end()}
            wrong += _shared(text, sentence, match.end(), named)
    return wrong


def _shared(text: Text, sentence: Sentence, start: int, named: set[int]) -> Iterator[Violation]:
    told: dict[str, list[Mark]] = {}
    for mark in sentence.marks:
        if mark.start >= start and mark.slot.section in named:
            if mark.key == "name":
                break
            told.setdefault(mark.slot.fact.key, []).append(mark)
    for key, marks in told.items():
        values = {mark.slot.fact.value for mark in marks}
        for section in named - {mark.slot.section for mark in marks}:
            fact = text.prompt.request.sections[section].get(key)
            if fact is None or fact.value not in values:
                yield Violation("mixed", f"⟨{marks[0].key}⟩", f"this {key} does not hold for every item named before it")


def leads(text: Text, *, begun: bool = False) -> list[Violation]:
    """Amounts without the words that say what they are. `begun`: the text goes on, so look only at what stands before."""
    wrong: list[Violation] = []
    for mark in text.marks:
        lead = text.table.leads.get(mark.key)
        if lead is None or (begun and not lead.only_before):
            continue
        start, end = _clause(text, mark)
        if not (
            (lead.before and lead.before.search(text.marked, max(start - 24, 0), mark.start))
            or (lead.after and lead.after.match(text.marked, mark.end))
            or (lead.clause and lead.clause.search(text.marked, start, end))
        ):
            wrong.append(Violation("context", f"⟨{mark.key}⟩", f"nothing before this amount says that it is a {mark.key}"))
    if not begun:
        wrong += _spans(text)
    return wrong


def _spans(text: Text) -> Iterator[Violation]:
    labels = [section.label for section in text.prompt.request.sections]
    for sentence in text.sentences:
        items = any(labels[m.slot.section] == "item" and m.key == "name" for m in sentence.marks)
        for mark in sentence.marks if items else ():
            if mark.key in _RANGE and labels[mark.slot.section] != "item":
                yield Violation("context", f"⟨{mark.key}⟩", "an end of the category's price range, told of a product")


def _clause(text: Text, mark: Mark) -> tuple[int, int]:
    sentence = text.sentence_at(mark.start)
    for match in CLAUSE.finditer(text.marked, sentence.start, sentence.end):
        if match.start() <= mark.start < match.end():
            return match.span()
    return sentence.start, sentence.end
