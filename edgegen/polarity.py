"""Yes and no: whether what the facts affirm is not denied, what they deny not affirmed, and what was liked not blamed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgegen.domain import Fact, Kind
from edgegen.marked import MARK, Text
from edgegen.verdict import Violation

_BREAK = re.compile(r"[.;:—。；：]|[,，、](?! ?(?:and |or |nor |和|或|也)?⟨)")
_ASPECTS = frozenset({"good", "okay", "bad"})
_FLAGS = frozenset({"is", "has", "isnt", "hasnt"})
# What may stand after "not": what is to be weighed, named or asked for, and is not told of the product.
_ASIDE = frozenset({"name", "query", "topic", "need", "criterion", "budget", "lowest", "highest", "was_price", "source"})
_DENIABLE = _ASPECTS | _FLAGS | _ASIDE
_FITS = {"good": ("praise", "neutral"), "okay": ("neutral", "blame"), "bad": ("neutral", "blame")}
_OBJECT = re.compile(r":? ?(?:with|about|of|for|on|from)? ?(?:the |its )?")
_JOINED = re.compile(r",? (?:and|or|nor|plus)(?: also)?(?: with| about| for)? (?:the |its )?")
_FAR = 8  # so many Chinese characters after a negation it reaches no further


def negated(text: Text, at: int, start: int) -> bool:
    """Whether a negation stands before a position in its own clause, with no new statement between them."""
    found = list(text.table.negation.finditer(text.marked, clause_start(text, at, start), at))
    if not found:
        return False
    gap = text.marked[found[-1].end() : at]
    return not text.table.affirm.search(gap) and (text.lang == "en" or len(MARK.sub("", gap)) <= _FAR)


def clause_start(text: Text, at: int, start: int) -> int:
    """Where the clause of a position begins."""
    for regex in (_BREAK, text.table.turn):
        for match in regex.finditer(text.marked, start, at):
            start = max(start, match.end())
    return start


def flags(text: Text) -> list[Violation]:
    """Yes flags that the text denies and no flags that it affirms, as slots or in words."""
    wrong: list[Violation] = []
    if text.denies:
        return wrong
    for mark in text.marks:
        if mark.slot.part == "label" and mark.slot.fact.kind is Kind.FLAG:
            wrong += _flag_at(text, mark.slot.fact, mark.start, mark.end)
    for index, fact in text.facts:
        label = (fact.label or "").lower()
        if fact.kind is Kind.FLAG and label:
            edge = r"\b" if label.isascii() else ""
            for match in re.finditer(edge + re.escape(label) + edge, text.marked):
                sentence = text.sentence_at(match.start())
                if not sentence.items or text.prompt.request.sections[index].label != "item" or index in sentence.items:
                    wrong += _flag_at(text, fact, match.start(), match.end())
    return wrong


def _flag_at(text: Text, fact: Fact, start: int, end: int) -> Iterator[Violation]:
    sentence = text.sentence_at(start)
    after = bool(text.table.negated_after.match(text.marked, end))
    if fact.value:
        left = clause_start(text, start, sentence.start)
        if after or text.table.negation.search(text.marked, left, start):
            yield Violation("contradiction", fact.label or fact.key, "it is so, and the text says it is not")
    elif not after and not negated(text, start, sentence.start):
        yield Violation("contradiction", fact.label or fact.key, "it is not so, and the text says it is")


def denied(text: Text) -> list[Violation]:
    """Values right after a negation: `has no ⟨feature⟩` where the fact says it has."""
    return [
        Violation("contradiction", mark.slot.text, "the text denies a fact that holds")
        for mark in text.marks
        if not text.denies
        and mark.key not in _DENIABLE
        and text.table.denial.search(text.marked, max(mark.start - 40, 0), mark.start)
    ]


def aspects(text: Text) -> list[Violation]:
    """Aspects of a review that are praised or blamed against the shopper's own stars."""
    wrong: list[Violation] = []
    for sentence in text.sentences:
        if not any(m.key in _ASPECTS for m in sentence.marks):
            continue
        cuts = [m.start() for m in text.table.turn.finditer(text.marked, sentence.start, sentence.end)]
        for left, right in zip([sentence.start, *cuts], [*cuts, sentence.end], strict=True):
            clause = text.marked[left:right]
            wrong += [
                Violation("contradiction", clause.strip(), f"the words do not fit an aspect that is {key}")
                for key in _misjudged([name for *_, name in _judgements(text, clause)])
            ]
    return wrong


def judged(text: Text) -> bool:
    """Whether the text ends with an aspect that the words right before it judge against the shopper's stars."""
    last = text.marks[-1] if text.marks else None
    if last is None or last.key not in _ASPECTS or last.slot.part != "label":
        return False
    clause = text.marked[text.sentence_at(last.start).start : last.start]
    turns = [match.start() for match in text.table.turn.finditer(clause)]
    clause = clause[turns[-1] if turns else 0 :]
    before, end = "", len(clause)
    for start, stop, name in reversed(_judgements(text, clause)):
        gap = clause[stop:end]
        if not (_OBJECT if name not in _ASPECTS else _JOINED).fullmatch(gap):
            return False
        before, end = name, start
        if name not in _ASPECTS:
            break
    return before not in _ASPECTS and bool(before) and not _fit([last.key], before)


def _judgements(text: Text, clause: str) -> list[tuple[int, int, str]]:
    """The aspects of a clause and the words that judge them, in order, each from where to where."""
    found = [(*m.span(), m.group()[1:-1]) for m in MARK.finditer(clause) if m.group()[1:-1] in _ASPECTS]
    rest = MARK.sub(lambda m: f"⟨{'x' * (len(m.group()) - 2)}⟩", clause)
    for name, regex in (("neutral", text.table.neutral), ("blame", text.table.blame), ("praise", text.table.praise)):
        found += [(*m.span(), name) for m in regex.finditer(rest)]
        rest = regex.sub(lambda m: "".join(" " if c not in "⟨⟩" else c for c in m.group()), rest)
    return sorted(found)


def _misjudged(order: list[str]) -> Iterator[str]:
    """Aspects that neither the judgement before them nor the one after them fits. Neighbours may share a judgement."""
    at = 0
    while at < len(order):
        end = at
        while end < len(order) and order[end] in _ASPECTS:
            end += 1
        if end > at:
            group = order[at:end]
            sides = [side for side in (order[at - 1] if at else "", order[end] if end < len(order) else "") if side]
            left, right = (sides[0], sides[-1]) if sides else ("", "")
            if sides and not any(_fit(group[:i], left) and _fit(group[i:], right) for i in range(len(group) + 1)):
                yield next((key for key in group if not _fit([key], left)), group[-1])
        at = max(end, at + 1)


def _fit(group: list[str], side: str) -> bool:
    return all(side in _FITS[key] for key in group)
