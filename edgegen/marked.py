"""A text in its marked form, which the grounding rules look at: a slot stands as the kind of fact it shows.

`it is ⟨discount⟩ off`: marks are the known keys, `attr` and `label` for a shop's own attribute and its name, `is has isnt
hasnt` for what a product is or has, or not, `good okay bad` for the aspects of a review and `stars` for their ratings,
`digits` for a number inside words. Knows no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgegen import claims, schema
from edgegen.claims import Found, Table
from edgegen.domain import Kind, Lang, Level
from edgegen.slots import Prompt, Segment, Slot
from edgegen.tasks import Task

MARK = re.compile(r"⟨\w+⟩")
CLAUSE = re.compile(r"[^,，、;；]+")
_LETTERS = re.compile(r"[a-z]+")
_NOTHING = re.compile(r"\b(?:no|not|none|nothing)\b|没有|无|未")
_SENTENCE = re.compile(r"[^.!?。！？；;\n]*(?:[.!?。！？；;]+[\"”’」』)）]*|\n|$)")
_NUMERIC_KINDS = frozenset({
    Kind.MEASURE, Kind.NUMBER, Kind.COUNT, Kind.MONEY, Kind.PERCENT, Kind.DISCOUNT, Kind.RATING, Kind.DATE, Kind.ASPECT
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """A slot in the marked text: where it stands and how it shows."""

    start: int
    end: int
    key: str
    slot: Slot

    @property
    def number(self) -> bool:
        """Whether the slot shows a number."""
        slot = self.slot
        return slot.part == "digits" or (slot.part == "value" and slot.fact.kind in _NUMERIC_KINDS)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence: where it stands, its slots and the sections of the items that it is about."""

    start: int
    end: int
    marks: tuple[Mark, ...]
    items: tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """A text in its marked form, in lower case, with all that the rules look at."""

    prompt: Prompt
    task: Task
    marked: str
    literal: str
    marks: tuple[Mark, ...]

    @property
    def lang(self) -> Lang:
        """The language of the text."""
        return self.prompt.request.lang

    @cached_property
    def table(self) -> Table:
        """The tables of the text's language."""
        return claims.table(self.lang)

    @cached_property
    def facts(self) -> tuple[Found, ...]:
        """Every fact of the request."""
        return tuple((i, fact) for i, section in enumerate(self.prompt.request.sections) for fact in section)

    @property
    def steered(self) -> bool:
        """Whether the text is to do what its request says, ask or deny for instance, and not to describe."""
        return bool(self.task.given)

    @cached_property
    def denies(self) -> bool:
        """Whether the text is to say that there is nothing of the kind: what it denies then holds."""
        acts = [str(fact.value) for _, fact in self.facts if fact.key == "act"]
        return self.steered and any(_NOTHING.search(act) for act in acts)

    def asked(self, at: int) -> bool:
        """Whether the sentence of a position is a question, which claims nothing."""
        sentence = self.sentence_at(at)
        return self.marked[sentence.start : sentence.end].rstrip().endswith(("?", "？"))

    def in_label(self, start: int, end: int) -> bool:
        """Whether words belong to the label of a shop's own fact: `rating of` where it has an `eco rating`."""
        return any(
            start - len(label) < (at := self.marked.find(label, max(start - len(label), 0), end + len(label))) < end and at >= 0
            for label in self.labels
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the shop's own facts and pairs of words out of longer ones, in lower case."""
        own = (fact.label.lower() for _, fact in self.facts if fact.label and fact.key not in schema.known())
        words = [label.split(" ") for label in own]
        pairs = {" ".join(w[i : i + 2]) for w in words for i in range(len(w) - 1)}
        return tuple(pairs | {"".join(w) for w in words if len(w) > 1})

    @cached_property
    def read_words(self) -> str:
        """All words that the model may read."""
        return "\n".join(s.text.lower() for s in self.prompt.slots if s.fact.policy == "read" or s.part == "label")

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """The sentences with the items that each is about: those it shows, else those named last."""
        out: list[Sentence] = []
        labels = [section.label for section in self.prompt.request.sections]
        items: tuple[int, ...] = ()
        for match in _SENTENCE.finditer(self.marked):
            if not match.group().strip():
                continue
            marks = tuple(m for m in self.marks if match.start() <= m.start < match.end())
            shown = tuple(dict.fromkeys(m.slot.section for m in marks if labels[m.slot.section] == "item"))
            items = shown or items
            out.append(Sentence(match.start(), match.end(), marks, items))
        return tuple(out)

    def sentence_at(self, at: int) -> Sentence:
        """The sentence that a position lies in."""
        return next((s for s in self.sentences if at < s.end), self.sentences[-1])


def read(segments: Sequence[Segment], prompt: Prompt, task: Task) -> Text:
    """The marked form of a text."""
    parts: list[str] = []
    marks: list[Mark] = []
    at = 0
    for segment in segments:
        if isinstance(segment, str):
            part = _lower(segment)
        else:
            key = mark_key(segment)
            part = f"⟨{key}⟩"
            marks.append(Mark(at, at + len(part), key, segment))
        parts.append(part)
        at += len(part)
    literal = "\x1f".join(s for s in segments if isinstance(s, str))
    return Text(prompt, task, "".join(parts), literal, tuple(marks))


def _lower(text: str) -> str:
    return text.lower().replace("’", "'").replace("⟨", "(").replace("⟩", ")")


def mark_key(slot: Slot) -> str:
    """The mark that a slot gets."""
    fact = slot.fact
    if slot.part == "digits":
        return "digits"
    if fact.kind is Kind.ASPECT:
        return {Level.HIGH: "good", Level.LOW: "bad"}.get(fact.level or Level.MID, "okay") if slot.part == "label" else "stars"
    known = schema.known()
    if fact.key in known:
        return fact.key
    if fact.kind is Kind.FLAG:
        return ("has" if fact.key.startswith("has_") else "is") + ("" if fact.value else "nt")
    return "label" if slot.part == "label" else "attr"


def named_by(mark: Mark, words: str) -> bool:
    """Whether words before a shop's own fact are its label's, in another form: `rated` for a customer rating."""
    label = (mark.slot.fact.label or "").lower() if mark.key == "attr" else ""
    return any(
        word.startswith(own[: max(3, len(own) - 3)])
        for own in _LETTERS.findall(label) for word in _LETTERS.findall(words) if len(own) > 3
    )  # fmt: skip


def overlapping(regex: re.Pattern[str], text: str) -> Iterator[int]:
    """Every position where `regex` matches, matches that overlap included."""
    match = regex.search(text)
    while match:
        yield match.start()
        match = regex.search(text, match.start() + 1)


def digits_fit(text: Text, mark: Mark) -> bool:
    """Whether a number out of a fact's words stands between the same words in the text."""
    value = mark.slot.fact.value
    words = f"{mark.slot.fact.label or ''}\n{' '.join(value) if isinstance(value, tuple) else value}"
    after = text.marked[mark.end : mark.end + 2].strip(" -")
    before = text.marked[max(mark.start - 2, 0) : mark.start].strip(" -")
    for match in re.finditer(re.escape(mark.slot.text), words):
        behind, ahead = words[: match.start()].lower().strip(" -"), words[match.end() :].lower().strip(" -")
        if (after and ahead.startswith(after)) or (before and behind.endswith(before) and not ahead):
            return True
    return False
