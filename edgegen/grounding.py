"""Grounding: whether a text says only what its facts bear out. Pure; knows no engine and no data source.

A text is checked in its marked form, where a slot stands as the kind of fact it shows: `it is ⟨discount⟩ off`. Marks are
the known keys, `attr` and `label` for a shop's own attribute and its name, `is has isnt hasnt` for what a product is or
has, or not, `good okay bad` for the aspects of a review and `stars` for their ratings, `digits` for a number inside words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from edgegen import claims, schema
from edgegen.claims import ClaimRule, Found, Table
from edgegen.domain import Fact, Kind, Lang, Level
from edgegen.patterns import REUSABLE
from edgegen.slots import Prompt, Segment, Slot
from edgegen.tasks import Task
from edgegen.verdict import Claim, Verdict, Violation

__all__ = ["Claim", "Verdict", "Violation", "check"]

_ANCHORS = {"item": "name", "by": "source", "reason": "point"}
_SENTENCE = re.compile(r"[^.!?。！？；;\n]*(?:[.!?。！？；;]+[\"”’」』)）]*|\n|$)")
_ENDED = re.compile(r"[.!?。！？…][\"”’」』)）]*$")
_LIST_LINE = re.compile(r"(?:^|\n) *[-•*·] ?[^\n]*$")
_CONTROL = re.compile(r"<\||\|>|[⟨⟩{}]|[\x00-\x09\x0b-\x1f\x7f]")
_CURRENCY = re.compile(r"[$€£¥￥₩₹]|\b(?:usd|rmb|cny|eur)\b", re.IGNORECASE)
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_LATIN = re.compile(r"[a-z]{2,}")
_MARK = re.compile(r"⟨\w+⟩")
_WORD = re.compile(r"[a-z']+")
_BREAK = re.compile(r"[.;:—。；：]|[,，、](?! ?(?:and |or |nor |和|或|也)?⟨)")
_QUOTED = re.compile(r"[\"“‘「『'] ?$")
_NUMERIC_KINDS = frozenset({
    Kind.MEASURE, Kind.NUMBER, Kind.COUNT, Kind.MONEY, Kind.PERCENT, Kind.DISCOUNT, Kind.RATING, Kind.DATE, Kind.ASPECT
})  # fmt: skip
_PAIRS = ("“”", "「」", "『』", "()", "（）")


@dataclass(frozen=True, slots=True)
class _Mark:
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
class _Sentence:
    start: int
    end: int
    marks: tuple[_Mark, ...]
    items: tuple[int, ...]  # sections of the items that it is about


@dataclass(frozen=True)
class _Text:
    """A text in its marked form, in lower case, with all that the rules look at."""

    prompt: Prompt
    task: Task
    marked: str
    literal: str
    marks: tuple[_Mark, ...]

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

    @cached_property
    def read_words(self) -> str:
        """All words that the model may read."""
        return "\n".join(s.text.lower() for s in self.prompt.slots if s.fact.policy == "read" or s.part == "label")

    @cached_property
    def sentences(self) -> tuple[_Sentence, ...]:
        """The sentences with the items that each is about: those it shows, else those named last."""
        out: list[_Sentence] = []
        labels = [section.label for section in self.prompt.request.sections]
        items: tuple[int, ...] = ()
        for match in _SENTENCE.finditer(self.marked):
            if not match.group().strip():
                continue
            marks = tuple(m for m in self.marks if match.start() <= m.start < match.end())
            shown = tuple(dict.fromkeys(m.slot.section for m in marks if labels[m.slot.section] == "item"))
            items = shown or items
            out.append(_Sentence(match.start(), match.end(), marks, items))
        return tuple(out)

    def sentence_at(self, at: int) -> _Sentence:
        """The sentence that a position lies in."""
        return next((s for s in self.sentences if at < s.end), self.sentences[-1])


def check(segments: Sequence[Segment], prompt: Prompt, task: Task) -> Verdict:
    """Check a text against its facts. The claims are what the text says and which facts bear it out."""
    if task.choices:
        return _chosen(segments, prompt)
    text = _marked(segments, prompt, task)
    if not text.marked.strip():
        return Verdict((Violation("form", "", "the text is empty"),), ())
    found, violations = _claims(text)
    for rule in (_contexts, _sections, _flags, _aspects, _numbers, _repetition, _form):
        violations += rule(text)
    violations += _required(text, found)
    shown = [Claim(m.slot.text, ((m.slot.section, m.slot.fact.key),)) for m in text.marks]
    return Verdict(tuple(violations), tuple(dict.fromkeys(shown + found)))


def _chosen(segments: Sequence[Segment], prompt: Prompt) -> Verdict:
    text = "".join(s if isinstance(s, str) else s.text for s in segments)
    known = text in prompt.request.choices
    return Verdict(() if known else (Violation("form", text, "this is none of the given choices"),), ())


def _marked(segments: Sequence[Segment], prompt: Prompt, task: Task) -> _Text:
    parts: list[str] = []
    marks: list[_Mark] = []
    at = 0
    for segment in segments:
        if isinstance(segment, str):
            part = _lower(segment)
        else:
            key = _mark_key(segment)
            part = f"⟨{key}⟩"
            marks.append(_Mark(at, at + len(part), key, segment))
        parts.append(part)
        at += len(part)
    literal = "\x1f".join(s for s in segments if isinstance(s, str))
    return _Text(prompt, task, "".join(parts), literal, tuple(marks))


def _lower(text: str) -> str:
    return text.lower().replace("’", "'").replace("⟨", "(").replace("⟩", ")")


def _mark_key(slot: Slot) -> str:
    fact = slot.fact
    if slot.part == "digits":
        return "digits"
    if fact.kind is Kind.ASPECT:
        return {Level.HIGH: "good", Level.LOW: "bad"}.get(fact.level or Level.MID, "okay") if slot.part == "label" else "stars"
    if fact.key in schema.keys():
        return fact.key
    if fact.kind is Kind.FLAG:
        return ("has" if fact.key.startswith("has_") else "is") + ("" if fact.value else "nt")
    return "label" if slot.part == "label" else "attr"


def _overlapping(regex: re.Pattern[str], text: str) -> Iterator[int]:
    """Every position where `regex` matches, matches that overlap included."""
    match = regex.search(text)
    while match:
        yield match.start()
        match = regex.search(text, match.start() + 1)


# --- what the words claim


def _claims(text: _Text) -> tuple[list[Claim], list[Violation]]:
    found: list[Claim] = []
    wrong: list[Violation] = []
    for at in _overlapping(text.table.any_claim, text.marked):
        for rule in text.table.claims:
            match = rule.regex.match(text.marked, at)
            if match:
                evidence = _evidence(text, rule, at)
                words = _MARK.sub("…", match.group())
                if evidence is None:
                    wrong.append(Violation("claim", words, f"{rule.id} needs one of: {', '.join(rule.needs)}"))
                else:
                    found.append(Claim(words, tuple((i, fact.key) for i, fact in evidence)))
    return found, wrong


def _evidence(text: _Text, rule: ClaimRule, at: int) -> list[Found] | None:
    sentence = text.sentence_at(at)
    negated = _negated(text, at, sentence.start)
    evidence: list[Found] = []
    for scope in _scopes(text, sentence, at):
        facts = claims.support(rule, [f for f in text.facts if f[0] in scope], negated)
        if not facts:
            return None
        evidence += facts
    return list({(i, f.key): (i, f) for i, f in evidence}.values())


def _scopes(text: _Text, sentence: _Sentence, at: int) -> list[frozenset[int]]:
    """The sets of sections that each have to bear a claim out: one, or one for every item where it is made of several."""
    sections = text.prompt.request.sections
    everything = frozenset(range(len(sections)))
    for label in ("by", "reason"):
        own = _nearest(text, sentence, label, at)
        if own is not None:
            everything -= {i for i, s in enumerate(sections) if s.label == label and i != own}
    every_item = frozenset(i for i, s in enumerate(sections) if s.label == "item")
    if len(every_item) < 2 or not sentence.items:
        return [everything]
    rest = everything - every_item
    if len(sentence.items) > 1 and text.table.several.search(text.marked, sentence.start, sentence.end):
        return [rest | {i} for i in sentence.items]
    nearest = _nearest(text, sentence, "item", at)
    return [rest | {sentence.items[-1] if nearest is None else nearest}]


def _nearest(text: _Text, sentence: _Sentence, label: str, at: int) -> int | None:
    sections = text.prompt.request.sections
    own = [m for m in sentence.marks if sections[m.slot.section].label == label]
    before = [m for m in own if m.start < at]
    return before[-1].slot.section if before else own[0].slot.section if own else None


def _negated(text: _Text, at: int, start: int) -> bool:
    """Whether a negation stands before a position, in the same clause."""
    return bool(text.table.negation.search(text.marked, _clause_start(text, at, start), at))


def _clause_start(text: _Text, at: int, start: int) -> int:
    for regex in (_BREAK, text.table.turn):
        for match in regex.finditer(text.marked, start, at):
            start = max(start, match.end())
    return start


# --- where the slots stand


def _contexts(text: _Text) -> list[Violation]:
    wrong = [v for mark in text.marks for v in _after(text, mark)]
    at = {mark.start: mark for mark in text.marks}
    for match in text.table.any_before.finditer(text.marked):
        mark = at[match.end()]
        rule = next(c for c in text.table.contexts if c.before and c.before.fullmatch(text.marked, match.start(), match.end()))
        if mark.key not in rule.keys:
            wrong.append(Violation("context", f"{match.group()}⟨{mark.key}⟩", f"{rule.id} cannot be a {mark.key}"))
    return wrong


def _after(text: _Text, mark: _Mark) -> Iterator[Violation]:
    if mark.number and text.table.any_after.match(text.marked, mark.end):
        for rule in text.table.contexts:
            match = rule.after.match(text.marked, mark.end) if rule.after else None
            if match:
                if mark.key not in rule.keys:
                    yield Violation("context", f"⟨{mark.key}⟩{match.group()}", f"{rule.id} cannot be a {mark.key}")
                break
    if mark.key == "quote" and not _QUOTED.search(text.marked[: mark.start]):
        yield Violation("context", "⟨quote⟩", "a shopper's words stand in quotation marks")
    if mark.key == "digits" and not _digits_fit(text, mark):
        yield Violation("context", mark.slot.text, "a number taken out of its words")


def _digits_fit(text: _Text, mark: _Mark) -> bool:
    source = f"{mark.slot.fact.label or ''}\n{' '.join(mark.slot.fact.value)}" if isinstance(mark.slot.fact.value, tuple) else (
        f"{mark.slot.fact.label or ''}\n{mark.slot.fact.value}"
    )  # fmt: skip
    after = text.marked[mark.end : mark.end + 2].strip(" -")
    before = text.marked[max(mark.start - 2, 0) : mark.start].strip(" -")
    for match in re.finditer(re.escape(mark.slot.text), source):
        behind, ahead = source[: match.start()].lower().strip(" -"), source[match.end() :].lower().strip(" -")
        if (after and ahead.startswith(after)) or (before and behind.endswith(before) and not ahead):
            return True
    return False


def _sections(text: _Text) -> list[Violation]:
    """Facts of one product told of another, votes told of another point, evidence of another recommender."""
    wrong: list[Violation] = []
    for label, anchor in _ANCHORS.items():
        if len(text.prompt.request.labelled(label)) > 1:
            wrong += _mixed(text, label, anchor)
    return wrong


def _mixed(text: _Text, label: str, anchor: str) -> Iterator[Violation]:
    sections = text.prompt.request.sections
    named: list[int] = []
    for sentence in text.sentences:
        own = [m for m in sentence.marks if sections[m.slot.section].label == label]
        anchors = [m.slot.section for m in own if m.key == anchor]
        if anchors or label != "item":
            named = anchors
        for key in dict.fromkeys(m.key for m in own if m.key != anchor):
            order = [m.slot.section for m in own if m.key == key]
            if named and not _in_order(order, named):
                yield Violation("mixed", f"⟨{key}⟩", f"this {key} belongs to another {label} than the one it is told of")


def _in_order(part: Sequence[int], whole: Sequence[int]) -> bool:
    at = 0
    for section in part:
        while at < len(whole) and whole[at] != section:
            at += 1
        if at == len(whole):
            return False
    return True


# --- yes and no


def _flags(text: _Text) -> list[Violation]:
    wrong: list[Violation] = []
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


def _flag_at(text: _Text, fact: Fact, start: int, end: int) -> Iterator[Violation]:
    sentence = text.sentence_at(start)
    if fact.value:
        if _negated(text, start, sentence.start) or text.table.negated_after.match(text.marked, end):
            yield Violation("contradiction", fact.label or fact.key, "it is so, and the text says it is not")
        return
    turns = [m for m in text.table.turn.finditer(text.marked, sentence.start, sentence.end)]
    left = max((m.end() for m in turns if m.end() <= start), default=sentence.start)
    right = min((m.start() for m in turns if m.start() >= end), default=sentence.end)
    if not text.table.negation.search(text.marked, left, right) and not text.table.negated_after.match(text.marked, end):
        yield Violation("contradiction", fact.label or fact.key, "it is not so, and the text says it is")


def _aspects(text: _Text) -> list[Violation]:
    wrong: list[Violation] = []
    for sentence in text.sentences:
        cuts = [m.start() for m in text.table.turn.finditer(text.marked, sentence.start, sentence.end)]
        for left, right in zip([sentence.start, *cuts], [*cuts, sentence.end], strict=True):
            keys = {m.key for m in sentence.marks if left <= m.start < right}
            if keys & {"good", "bad"}:
                wrong += _judged(text, keys, text.marked[left:right])
    return wrong


def _judged(text: _Text, keys: set[str], clause: str) -> Iterator[Violation]:
    rest = text.table.blame.sub(" ", clause)
    blamed, praised = rest != clause, bool(text.table.praise.search(rest))
    if blamed and not praised and "bad" not in keys:
        yield Violation("contradiction", clause.strip(), "blames an aspect that the shopper rated high")
    if praised and not blamed and "good" not in keys:
        yield Violation("contradiction", clause.strip(), "praises an aspect that the shopper rated low")


# --- numbers, repetition, form


def _numbers(text: _Text) -> list[Violation]:
    wrong = [
        Violation("number", char, "a digit that is not in a slot")
        for char in text.literal
        if (not char.isascii() or char.isdigit()) and unicodedata.category(char)[0] == "N"
    ]
    wrong += [Violation("number", m.group(), "money stands in slots only") for m in _CURRENCY.finditer(text.literal)]
    plain = text.table.idioms.sub(lambda m: "_" * len(m.group()), text.marked)
    for at in _overlapping(text.table.any_number, plain):
        for rule in text.table.numbers:
            match = rule.regex.match(plain, at)
            if match and not _backed(text, rule, match.group()):
                wrong.append(Violation("number", match.group(), "no fact has this value"))
    return wrong


def _backed(text: _Text, rule: claims.NumberRule, word: str) -> bool:
    if word in text.read_words:
        return True
    values = [f.value for _, f in text.facts if isinstance(f.value, Decimal) and (not rule.kinds or f.kind in rule.kinds)]
    if not rule.kinds:
        labels = Counter(section.label for section in text.prompt.request.sections)
        keys = Counter(fact.key for _, fact in text.facts)
        levels = Counter(f"{f.kind}{f.level}" for _, f in text.facts if f.kind is Kind.ASPECT)
        values += [Decimal(n) for counts in (labels, keys, levels) for n in counts.values()]
    return any(rule.low <= value <= rule.high for value in values)


def _repetition(text: _Text) -> list[Violation]:
    wrong: list[Violation] = []
    seen = Counter((s.section, s.fact.key, s.index) for s in (m.slot for m in text.marks) if s.fact.key not in REUSABLE)
    slots = {slot.index: slot for slot in text.prompt.slots}
    wrong += [Violation("repetition", slots[key[2]].text, "said twice") for key, n in seen.items() if n > 1]
    lines = [line.strip() for line in text.marked.split("\n") if line.strip()]
    wrong += [Violation("repetition", line, "the same line again") for line, n in Counter(lines).items() if n > 2]
    for line in lines:
        wrong += _repeated(line, text.lang)
    return wrong


def _repeated(line: str, lang: Lang) -> list[Violation]:
    size = 4 if lang == "en" else 6
    grams: set[tuple[str, ...]] = set()
    for run in _MARK.split(line):
        tokens = _WORD.findall(run) if lang == "en" else _HAN.findall(run)
        for at in range(len(tokens) - size + 1):
            gram = tuple(tokens[at : at + size])
            if gram in grams:
                return [Violation("repetition", (" " if lang == "en" else "").join(gram), "the same words again")]
            grams.add(gram)
    sentences = Counter(s for m in _SENTENCE.finditer(line) if len(s := m.group().strip()) > 1)
    return [Violation("repetition", s, "the same sentence again") for s, n in sentences.items() if n > 1]


def _form(text: _Text) -> list[Violation]:
    wrong: list[Violation] = []
    marked = text.marked.rstrip()
    if not _ENDED.search(marked) and not _LIST_LINE.search(marked):
        wrong.append(Violation("form", marked[-20:], "the text does not end with a full stop"))
    if len(text.sentences) > text.task.max_sentences:
        wrong.append(Violation("form", "", f"more than {text.task.max_sentences} sentences"))
    if any(marked.count(a) != marked.count(b) for a, b in _PAIRS) or marked.count('"') % 2:
        wrong.append(Violation("form", "", "a quotation mark or bracket is not balanced"))
    literal = text.literal.replace("\x1f", "")
    wrong += [Violation("form", m.group(), "a control mark in the text") for m in _CONTROL.finditer(literal)]
    return wrong + _language(text, literal)


def _language(text: _Text, literal: str) -> list[Violation]:
    han = _HAN.search(literal)
    if text.lang == "en":
        return [Violation("language", han.group(), "Chinese in an English text")] if han else []
    if not han:
        return [Violation("language", literal, "no Chinese in a Chinese text")]
    plain = _MARK.sub(" ", text.marked)
    return [
        Violation("language", m.group(), "English in a Chinese text")
        for m in _LATIN.finditer(plain)
        if m.group() not in text.read_words
    ]


# --- what must be there


def _required(text: _Text, found: Sequence[Claim]) -> list[Violation]:
    task, sections = text.task, text.prompt.request.sections
    shown = {(m.slot.section, m.slot.fact) for m in text.marks}
    told = {(i, fact) for claim in found for i, key in claim.evidence if (fact := sections[i].get(key)) and fact.value is True}
    wrong: list[str] = []
    for need in task.needs:
        for index, section in enumerate(sections):
            if section.label == need.label:
                keys = {fact.key for at, fact in shown if at == index}
                wrong += [f"the {key} of {section.label}" for key in task.mentions if key in need.facts and key not in keys]
                if need.label in task.every and not any(at == index for at, _ in shown | told):
                    wrong.append(f"a fact of every {need.label}")
                if need.label in task.whole:
                    wrong += [f"the {fact.label or fact.key}" for fact in section if (index, fact) not in shown]
    any_of = {fact.key for _, fact in text.facts} & set(task.any_of)
    if any_of and not any_of & {fact.key for _, fact in shown}:
        wrong.append(f"one of {', '.join(sorted(any_of))}")
    further = {(i, f) for i, f in shown | told if f.key not in task.mentions}
    there = [f for _, f in text.facts if f.key not in task.mentions]
    if len(further) < min(task.shows, len(there)):
        wrong.append(f"{task.shows} fact(s) beside {', '.join(task.mentions)}")
    return [Violation("missing", what, "the text must show it") for what in wrong]
