"""Finds the values of a request's facts in a text and puts slots in their place. Pure.

Longest first, never inside another word; where several facts have the same value, the one whose label and product stand
nearest. A copied value is a slot wherever it stands. A text whose slots are rendered reads as before, but for values that it
writes another way than edgegen does: those are listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgegen import schema, slots
from edgegen.domain import Fact, Kind, Policy
from edgegen.patterns import REUSABLE
from edgegen.slots import Prompt, Segment, Slot, label_of
from edgegen.train.prepare import forms
from edgegen.train.prepare.forms import Form

_FAR = 400  # characters: further than any label
_OTHER_ITEM = 1000.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A value in the text: where it stands and the slot that takes its place."""

    start: int
    end: int
    slot: Slot


@dataclass(frozen=True, slots=True)
class Found:
    """A text with slots, the facts of each section that it shows, and those values that were written another way."""

    segments: tuple[Segment, ...]
    told: frozenset[tuple[int, int]]
    rewritten: tuple[tuple[str, str], ...]


def find(text: str, prompt: Prompt, given: Sequence[str] = ()) -> Found:
    """The text with slots for the values of a prompt's facts; sections labelled as `given` are passed over."""
    free = [s for s in prompt.slots if prompt.request.sections[s.section].label not in given and _wanted(s)]
    values = [s for s in free if s.part != "digits"]
    hits = _assigned(text, _longest(_strong(text, values, prompt), ()), prompt)
    hits += _weak(text, [s for s in values if all(h.slot is not s for h in hits)], hits, prompt)
    told = {(h.slot.section, id(h.slot.fact)) for h in hits}
    numbers = [s for s in free if s.part == "digits" and (s.section, id(s.fact)) not in told]
    hits += _assigned(text, _longest(_strong(text, numbers, prompt), hits), prompt)
    hits = list(_once(sorted(hits, key=lambda hit: hit.start)))
    return Found(tuple(_segments(text, hits)), _places(prompt, hits), tuple(_rewritten(text, hits)))


def untold(prompt: Prompt, found: Found, given: Sequence[str] = ()) -> list[Fact]:
    """The facts that a text shows in no slot."""
    return [
        fact
        for index, section in enumerate(prompt.request.sections)
        if section.label not in given
        for at, fact in enumerate(section)
        if (index, at) not in found.told
    ]


def _wanted(slot: Slot) -> bool:
    """Labels stay words, but for flags and aspects, whose labels are all that a text shows."""
    if slot.part == "label":
        return slot.fact.kind in (Kind.FLAG, Kind.ASPECT)
    return slot.fact.kind is not Kind.FLAG


def _once(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Each read value as a slot but once, where it comes first: said again, its words may stay words."""
    seen: set[tuple[int, int]] = set()
    for hit in hits:
        fact = hit.slot.fact
        again = (hit.slot.section, id(fact)) in seen and fact.policy is Policy.READ and fact.key not in REUSABLE
        if not again or any(char.isdecimal() for char in hit.slot.text):
            yield hit
        seen.add((hit.slot.section, id(fact)))


def _places(prompt: Prompt, hits: Iterable[Hit]) -> frozenset[tuple[int, int]]:
    shown = {(hit.slot.section, id(hit.slot.fact)) for hit in hits}
    sections = enumerate(prompt.request.sections)
    return frozenset((index, at) for index, s in sections for at, fact in enumerate(s) if (index, id(fact)) in shown)


def _strong(text: str, wanted: Iterable[Slot], prompt: Prompt) -> Iterator[Hit]:
    for slot in wanted:
        for form in forms.of(slot, prompt.request.lang):
            if not form.weak:
                yield from (Hit(start, _end(text, start, end, slot), slot) for start, end in _spans(form, text))


def _spans(form: Form, text: str) -> Iterator[tuple[int, int]]:
    return (match.span("v") for match in form.regex.finditer(text))


def _end(text: str, start: int, end: int, slot: Slot) -> int:
    """Where a value ends: before the plural's s that a form took along."""
    stem = start + len(slot.text)
    same = text[start:stem].casefold() == slot.text.casefold()
    return stem if same and text[stem:end] in ("s", "es") else end


def _longest(hits: Iterable[Hit], taken: Sequence[Hit]) -> list[Hit]:
    """The hits on the longest spans that do not overlap; on one span there may be several."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda h: (h.start - h.end, h.start)):
        same = any((k.start, k.end) == (hit.start, hit.end) for k in kept)
        if same or all(hit.end <= k.start or k.end <= hit.start for k in (*kept, *taken)):
            kept.append(hit)
    return kept


def _weak(text: str, wanted: Iterable[Slot], taken: Sequence[Hit], prompt: Prompt) -> list[Hit]:
    found: list[Hit] = []
    for slot in wanted:
        for form in forms.of(slot, prompt.request.lang):
            spans = _spans(form, text) if form.weak else ()
            free = [s for s in spans if all(s[1] <= k.start or k.end <= s[0] for k in (*taken, *found))]
            if free:
                best = min(free, key=lambda span: _distance(text, span, slot, taken, prompt))
                found.append(Hit(*best, slot))
                break
    return found


def _assigned(text: str, hits: Sequence[Hit], prompt: Prompt) -> list[Hit]:
    """One slot for each span: facts that nothing shows yet first, then those nearest to their label and their product."""
    by_span: dict[tuple[int, int], list[Slot]] = {}
    for hit in hits:
        by_span.setdefault((hit.start, hit.end), []).append(hit.slot)
    clear = [Hit(*span, found[0]) for span, found in by_span.items() if len({id(s) for s in found}) == 1]
    open_ = {span: list({id(s): s for s in found}.values()) for span, found in by_span.items() if len({id(s) for s in found}) > 1}
    out, used = list(clear), {id(hit.slot) for hit in clear}
    ranked = sorted(
        ((_distance(text, span, slot, clear, prompt), span[0], at, span, slot)
         for span, found in open_.items() for at, slot in enumerate(found)),
        key=lambda entry: entry[:3],
    )  # fmt: skip
    for fresh in (True, False):
        for *_, span, slot in ranked:
            if span in open_ and (not fresh or id(slot) not in used):
                out.append(Hit(*span, slot))
                used.add(id(slot))
                del open_[span]
    return out


def _distance(text: str, span: tuple[int, int], slot: Slot, names: Sequence[Hit], prompt: Prompt) -> float:
    """How far a span is from the words that name the slot's fact; much further where another product is spoken of."""
    far = float(_FAR)
    for word in _label_words(slot.fact, prompt):
        for match in re.finditer(rf"(?<![a-z]){re.escape(word)}", text, re.IGNORECASE):
            gap = match.start() - span[1] if match.start() >= span[1] else span[0] - match.end() + 2
            far = min(far, float(abs(gap)))
    return far + _OTHER_ITEM * (_spoken_of(span, names, slot) != slot.section)


def _spoken_of(span: tuple[int, int], hits: Sequence[Hit], slot: Slot) -> int:
    """The section of the product named last before a span, of the first named one where there is none before."""
    named = sorted((h for h in hits if h.slot.fact.key in ("name", "source", "point")), key=lambda hit: hit.start)
    before = [h for h in named if h.start < span[0]]
    return before[-1].slot.section if before else named[0].slot.section if named else slot.section


def _label_words(fact: Fact, prompt: Prompt) -> list[str]:
    known = schema.known().get(fact.key)
    text = known.label(prompt.request.lang) if known else label_of(fact) or ""
    return [text] if prompt.request.lang == "zh" else [word for word in re.findall(r"\w+", text.lower()) if len(word) > 2]


def _segments(text: str, hits: Sequence[Hit]) -> Iterator[Segment]:
    at = 0
    for hit in hits:
        if hit.start > at:
            yield text[at : hit.start]
        yield hit.slot
        at = hit.end
    if at < len(text):
        yield text[at:]


def _rewritten(text: str, hits: Sequence[Hit]) -> Iterator[tuple[str, str]]:
    for hit in hits:
        said = text[hit.start : hit.end]
        if said != hit.slot.text and said.casefold() != hit.slot.text.casefold():
            yield said, hit.slot.text


def copied(segments: Sequence[Segment], prompt: Prompt) -> list[str]:
    """Values that must be copied and stand as words in a text."""
    literal = "\n".join(s for s in segments if isinstance(s, str))
    return [
        slot.text
        for slot in prompt.slots
        if slot.part == "value" and slot.fact.policy is Policy.COPY
        and any(not f.weak and f.regex.search(literal) for f in forms.of(slot, prompt.request.lang))
    ]  # fmt: skip


def written(segments: Iterable[Segment]) -> str:
    """Segments as a pair's text has them: slots as `<|vN|>`."""
    return "".join(s if isinstance(s, str) else s.control.token for s in slots_only(segments))


def slots_only(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Segments without what a text must not hold: marks that look like slots."""
    for segment in segments:
        yield segment if not isinstance(segment, str) else segment.replace("<|", "<").replace("|>", ">")


def rendered(segments: Iterable[Segment], prompt: Prompt) -> str:
    """The text that a reader sees."""
    return slots.render(segments, prompt.request.lang)
