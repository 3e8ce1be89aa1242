"""Grounding: whether a text says only what its facts bear out. Pure; knows no engine and no data source.

The rules look at the text in its marked form (`edgegen.marked`) and take their words from the claim tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from edgegen import binding, claims, form, marked, polarity, wording
from edgegen.claims import ClaimRule, Found
from edgegen.domain import Kind
from edgegen.marked import Mark, Sentence, Text
from edgegen.slots import Prompt, Segment
from edgegen.tasks import Task
from edgegen.verdict import Claim, Verdict, Violation

__all__ = ["Claim", "Verdict", "Violation", "check"]

UNFINISHED = frozenset({"missing", "open"})
"""Rules that a text which goes on may still satisfy."""
_ANCHORS = {"item": "name", "by": "source", "reason": "point"}
_BARE = {"en": 24, "zh": 6}  # so many letters beside a recommender's name hold nothing that it says: "according to ⟨source⟩"
_CURRENCY = re.compile(r"[$€£¥￥₩₹]|\b(?:usd|rmb|cny|eur)\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“‘「『'] ?$")
# Phrases that no word for a number follows: `⟨color⟩ of similar shoppers` says nothing true.
_PLAIN = frozenset({"brand", "color", "flavor", "material", "origin", "returns", "scent", "season", "shipping", "warranty"})
_COUNTED = frozenset({Kind.COUNT, Kind.NUMBER, Kind.RATING, Kind.ASPECT})


def check(segments: Sequence[Segment], prompt: Prompt, task: Task) -> Verdict:
    """Check a text against its facts. The claims are what the text says and which facts bear it out."""
    if task.choices:
        return _chosen(segments, prompt)
    text = marked.read(segments, prompt, task)
    if not text.marked.strip():
        return Verdict((Violation("open", "", "the text is empty"),), ())
    found, violations = _claims(text)
    for rule in _RULES:
        violations += rule(text)
    violations += _required(text, found)
    shown = [Claim(m.slot.text, ((m.slot.section, m.slot.fact.key),)) for m in text.marks]
    return Verdict(tuple(violations), tuple(dict.fromkeys(shown + found)))


def claimed(segments: Sequence[Segment], prompt: Prompt, task: Task) -> list[Claim]:
    """What the words of a text claim, as far as its facts bear it out."""
    return _claims(marked.read(segments, prompt, task))[0]


def misplaced(segments: Sequence[Segment], prompt: Prompt, task: Task) -> bool:
    """Whether the slot that a text in the making ends with cannot stand there, whatever may follow."""
    text = marked.read(segments, prompt, task)
    return bool(
        _before(text)
        or _sections(text)
        or form.said_twice(text)
        or binding.labels(text)
        or binding.leads(text, begun=True)
        or polarity.judged(text)
    )


def _chosen(segments: Sequence[Segment], prompt: Prompt) -> Verdict:
    text = "".join(s if isinstance(s, str) else s.text for s in segments)
    known = text in prompt.request.choices
    return Verdict(() if known else (Violation("form", text, "this is none of the given choices"),), ())


# --- what the words claim


def _claims(text: Text) -> tuple[list[Claim], list[Violation]]:
    found: list[Claim] = []
    wrong: list[Violation] = []
    for at in marked.overlapping(text.table.any_claim, text.marked):
        if text.steered and text.asked(at):
            continue
        for rule in text.table.claims:
            match = rule.regex.match(text.marked, at)
            if match and not text.in_label(*match.span()):
                evidence = _evidence(text, rule, match)
                words = marked.MARK.sub("…", match.group())
                if evidence is None:
                    wrong.append(Violation("claim", words, f"{rule.id} needs one of: {', '.join(rule.needs)}"))
                else:
                    found.append(Claim(words, tuple((i, fact.key) for i, fact in evidence)))
    return found, wrong


def _evidence(text: Text, rule: ClaimRule, match: re.Match[str]) -> list[Found] | None:
    at = match.start()
    sentence = text.sentence_at(at)
    negated = polarity.negated(text, at, sentence.start) and not text.denies
    evidence: list[Found] = []
    for scope in _scopes(text, sentence, at):
        facts = claims.support(rule, match, [f for f in text.facts if f[0] in scope], text.lang, negated)
        if not facts:
            return None
        evidence += facts
    return list({(i, f.key): (i, f) for i, f in evidence}.values())


def _scopes(text: Text, sentence: Sentence, at: int) -> list[frozenset[int]]:
    """The sets of sections that each have to bear a claim out: one, or one for every item where it is made of several."""
    sections = text.prompt.request.sections
    everything = frozenset(range(len(sections)))
    owner = _owner(text, sentence, at)
    if owner is not None:
        everything -= {i for i, s in enumerate(sections) if s.label == sections[owner].label and i != owner}
    every_item = frozenset(i for i, s in enumerate(sections) if s.label == "item")
    rest = everything - every_item
    several = text.table.several.search(text.marked, sentence.start, sentence.end)
    if several and len(every_item) > 1 and not any(m.slot.section in every_item for m in sentence.marks):
        return [rest | {i} for i in every_item]
    if len(every_item) < 2 or not sentence.items:
        return [everything]
    if several and len(sentence.items) > 1:
        return [rest | {i} for i in sentence.items]
    own = [m for m in sentence.marks if m.slot.section in every_item]
    before = [m for m in own if m.start < at]
    nearest = before[-1] if before else own[0] if own else None
    return [rest | {nearest.slot.section if nearest else sentence.items[-1]}]


def _owner(text: Text, sentence: Sentence, at: int) -> int | None:
    """The recommender or the reason that the clause at a position is about, or None where it is about none."""
    sections = text.prompt.request.sections
    before: Mark | None = None
    for start, end, bare in _clauses(text, sentence):
        own = [m for m in sentence.marks if start <= m.start < end and sections[m.slot.section].label in ("by", "reason")]
        if start <= at < end:
            nearest = [m for m in own if m.start < at][-1:] or own[:1] or [m for m in (before,) if m]
            return nearest[0].slot.section if nearest else None
        before = own[0] if bare else None
    return None


def _clauses(text: Text, sentence: Sentence) -> list[tuple[int, int, bool]]:
    """Start and end of each clause, and whether it only names a recommender: `according to ⟨source⟩`."""
    out = []
    for match in marked.CLAUSE.finditer(text.marked, sentence.start, sentence.end):
        start, end = match.span()
        keys = [m.key for m in sentence.marks if start <= m.start < end]
        letters = end - start - len("⟨source⟩")
        bare = keys == ["source"] and letters <= _BARE[text.lang] and not text.table.any_claim.search(text.marked, start, end)
        out.append((start, end, bare))
    return out


# --- where the slots stand


def _contexts(text: Text) -> list[Violation]:
    return _before(text) + [v for mark in text.marks for v in _after(text, mark)]


def _before(text: Text) -> list[Violation]:
    """Slots after words that cannot introduce them: `rated ⟨price⟩`."""
    wrong = [
        Violation("context", "⟨quote⟩", "a shopper's words stand in quotation marks")
        for mark in text.marks
        if mark.key == "quote" and not _QUOTED.search(text.marked[: mark.start])
    ]
    at = {mark.start: mark for mark in text.marks}
    for match in text.table.any_before.finditer(text.marked):
        mark = at[match.end()]
        if marked.named_by(mark, match.group()) or text.in_label(*match.span()):
            continue
        rule = next(c for c in text.table.contexts if c.before and c.before.match(text.marked, match.start()))
        if mark.key not in rule.keys:
            wrong.append(Violation("context", f"{match.group()}⟨{mark.key}⟩", f"{rule.id} cannot be a {mark.key}"))
    return wrong


def _after(text: Text, mark: Mark) -> Iterator[Violation]:
    counts = mark.number and (mark.slot.fact.kind is not Kind.MEASURE or mark.slot.text.isdecimal())  # not `44 watt`, `l5`
    if (counts or mark.key in _PLAIN) and text.table.any_after.match(text.marked, mark.end):
        for rule in text.table.contexts:
            match = rule.after.match(text.marked, mark.end) if rule.after else None
            if match:
                if mark.key not in rule.keys:
                    yield Violation("context", f"⟨{mark.key}⟩{match.group()}", f"{rule.id} cannot be a {mark.key}")
                break
    if mark.key == "digits" and not marked.digits_fit(text, mark):
        yield Violation("context", mark.slot.text, "a number taken out of its words")


def _sections(text: Text) -> list[Violation]:
    """Facts of one product told of another, votes told of another point, evidence of another recommender."""
    wrong: list[Violation] = []
    for label, anchor in _ANCHORS.items():
        if label != "by" and len(text.prompt.request.labelled(label)) > 1:
            wrong += _mixed(text, label, anchor)
    for sentence in text.sentences if len(text.prompt.request.labelled("by")) > 1 else ():
        wrong += _misattributed(text, sentence)
    return wrong


def _misattributed(text: Text, sentence: Sentence) -> Iterator[Violation]:
    spoken: set[int] = set()
    bearer: int | None = None
    for start, end, bare in _clauses(text, sentence):
        own = [m for m in sentence.marks if start <= m.start < end and text.prompt.request.sections[m.slot.section].label == "by"]
        named = {m.slot.section for m in own if m.key == "source"}
        told = {m.slot.section for m in own if m.key != "source"}
        expected = named or ({bearer} if bearer is not None else set())
        if told and expected and not told <= expected:
            yield Violation("mixed", text.marked[start:end].strip(), "another recommender gave this evidence")
        bearer = next(iter(named)) if bare and not named & spoken else None
        spoken |= told


def _mixed(text: Text, label: str, anchor: str) -> Iterator[Violation]:
    sections = text.prompt.request.sections
    named: list[int] = []
    for sentence in text.sentences:
        own = [m for m in sentence.marks if sections[m.slot.section].label == label]
        anchors = [m.slot.section for m in own if m.key == anchor]
        if anchors or label != "item" or not text.marked[: sentence.start].rstrip(" ") or text.marked[sentence.start - 1] == "\n":
            named = anchors  # on a line of its own, words may be about the search or the list
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


# --- numbers


def _numbers(text: Text) -> list[Violation]:
    wrong = [
        Violation("number", char, "a digit that is not in a slot")
        for char in text.literal
        if (not char.isascii() or char.isdigit()) and unicodedata.category(char)[0] == "N"
    ]
    wrong += [Violation("number", m.group(), "money stands in slots only") for m in _CURRENCY.finditer(text.literal)]
    plain = text.table.idioms.sub(lambda m: "_" * len(m.group()), text.marked)
    for at in marked.overlapping(text.table.any_number, plain):
        for rule in text.table.numbers:
            match = rule.regex.match(plain, at)
            if match and not _backed(text, rule, match):
                wrong.append(Violation("number", match.group(), "no fact has this value"))
    return wrong


def _backed(text: Text, rule: claims.NumberRule, match: re.Match[str]) -> bool:
    if match.group() in text.read_words:
        return True
    if "pair" in rule.kinds:
        sentence = text.sentence_at(match.start())
        return len(sentence.items) == 2 or sum(m.start > match.start() for m in sentence.marks) >= 2
    values = [f.value for _, f in text.facts if isinstance(f.value, Decimal) and f.kind in (rule.kinds or _COUNTED)]
    if not rule.kinds:
        labels = Counter(section.label for section in text.prompt.request.sections)
        keys = Counter(fact.key for _, fact in text.facts)
        levels = Counter(f"{f.kind}{f.level}" for _, f in text.facts if f.kind is Kind.ASPECT)
        values += [Decimal(n) for counts in (labels, keys, levels) for n in counts.values()]
    return any(rule.low <= value <= rule.high for value in values)


# --- what must be there


def _required(text: Text, found: Sequence[Claim]) -> list[Violation]:
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


_RULES: tuple[Callable[[Text], list[Violation]], ...] = (
    _contexts, _sections, binding.labels, binding.several, binding.leads, polarity.flags, polarity.denied, polarity.aspects,
    wording.unread, _numbers, form.repetition, form.form,
)  # fmt: skip
