"""Slots: the prompt that shows the model facts without values, and the renderer that puts the values back.

Owns the control tokens, the binding of slots to facts and the streaming renderer. Knows no tokenizer and no engine: a
prompt is a tuple of pieces, each a control token or plain text; plain text is never parsed for control tokens.

    <|task|>reason<|lang|>en<|s|>item<|f|>name<|is|><|v1|><|f|>price<|is|><|v4|><|low|>
    <|f|>material<|is|><|v12|>walnut wood<|f|>is<|v87|>waterproof<|is|><|no|><|text|>

Which token a fact gets is in `edgegen.addresses`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from edgegen import addresses, locale, schema
from edgegen.domain import Fact, Kind, Lang, Level, Policy, Request, Section
from edgegen.errors import DataError

MAX_SLOTS = addresses.COUNT
CONTROLS = (
    "<|pad|>", "<|end|>", "<|task|>", "<|lang|>", "<|s|>", "<|f|>", "<|is|>", "<|text|>",
    "<|high|>", "<|mid|>", "<|low|>", "<|yes|>", "<|no|>",
)  # fmt: skip
SLOT_TOKENS = tuple(f"<|v{i}|>" for i in range(1, MAX_SLOTS + 1))
SPECIALS = CONTROLS + SLOT_TOKENS
END = "<|end|>"

Part = Literal["value", "label", "digits"]
_DIGITS = re.compile(r"\d+(?:[.,:/x×~-]\d+)*%?")
_MARK = re.compile(r"<\|v(\d{1,3})\|>")
_PARTIAL = re.compile(r"<(?:\|(?:v(?:\d{1,3}\|?)?)?)?\Z")
_SENTENCE_START = re.compile(r"(?:^|[.!?]\s+|\n\s*)[\"“]?\Z")
_ARTICLE = re.compile(r"\b([Aa])n? \Z")
_ARTICLE_TAIL = re.compile(r"(?:\b[Aa]n? ?|[.!?\n]\s*)\Z")


@dataclass(frozen=True, slots=True)
class Control:
    """A control or slot token, as opposed to text that merely looks like one."""

    token: str


Piece = str | Control


@dataclass(frozen=True, slots=True)
class Slot:
    """What one slot token stands for in one request: the text it becomes and the fact it comes from.

    `section` is the index of the fact's section in the request. `part` says whether the text is the fact's value, its
    label, or digits inside the words of a read value.
    """

    index: int
    text: str
    fact: Fact
    section: int
    part: Part

    @property
    def control(self) -> Control:
        """The token the model writes for it."""
        return Control(SLOT_TOKENS[self.index - 1])


Segment = str | Slot


@dataclass(frozen=True, slots=True)
class Prompt:
    """The pieces the model reads and the slots it may write."""

    pieces: tuple[Piece, ...]
    slots: tuple[Slot, ...]
    request: Request
    plan: tuple[tuple[Fact, ...], ...] = ()
    """The facts that the pieces show, by section of the request."""

    def find(self, section: int, fact: Fact, part: Part = "value") -> Slot | None:
        """The slot for a part of a fact, or None where the prompt offers none."""
        return next((s for s in self.slots if s.section == section and s.fact is fact and s.part == part), None)


@dataclass
class _Binder:
    lang: Lang
    by_key: bool
    pieces: list[Piece] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    label: str = ""
    sections: Counter[str] = field(default_factory=Counter)

    def slot(self, text: str, fact: Fact, section: int, part: Part) -> None:
        """Offer a slot and show its token."""
        home = addresses.home(self.label, self.sections[self.label], fact, part, by_key=self.by_key)
        index = next((i for i in (*home, *addresses.POOLS[addresses.OVERFLOW]) if i not in self.taken), None)
        if index is None:
            raise DataError("The request has more values than there are slots for. Give fewer facts or fewer products.")
        self.taken.add(index)
        self.slots.append(Slot(index, text, fact, section, part))
        self.pieces.append(self.slots[-1].control)

    def begin(self, section: Section) -> None:
        """Open a section; an empty one is counted, not shown."""
        self.label = section.label
        self.sections[section.label] += 1
        if section.facts:
            self.control("<|s|>")
            self.text(section.label)

    def words(self, text: str, fact: Fact, section: int) -> None:
        """Show words, with every number in them as a slot."""
        at = 0
        for match in _DIGITS.finditer(text):
            self.text(text[at : match.start()])
            self.slot(match.group(), fact, section, "digits")
            at = match.end()
        self.text(text[at:])

    def text(self, text: str) -> None:
        """Show plain text; nothing where it is empty."""
        if text:
            self.pieces.append(text)

    def control(self, *tokens: str) -> None:
        """Show control tokens."""
        self.pieces.extend(map(Control, tokens))


def bind(request: Request, *, by_key: bool = False) -> Prompt:
    """Lay a request out as a prompt. Source of the layout: this module's docstring.

    `by_key` gives a shop's own keys slots of their own and not the next ones: see `addresses.home`. Raises DataError when the
    request has more values than there are slots.
    """
    binder = _Binder(request.lang, by_key)
    binder.control("<|task|>")
    binder.text(request.task)
    binder.control("<|lang|>")
    binder.text(request.lang)
    for index, section in enumerate(request.sections):
        binder.begin(section)
        for fact in section:
            _bind_fact(binder, fact, index)
    binder.control("<|text|>")
    return Prompt(tuple(binder.pieces), tuple(binder.slots), request, tuple(section.facts for section in request.sections))


def _bind_fact(binder: _Binder, fact: Fact, section: int) -> None:
    binder.control("<|f|>")
    if label := label_of(fact):
        if fact.kind is Kind.FLAG:
            binder.text("has" if fact.key.startswith("has_") else "is")
        binder.slot(label, fact, section, "label")
        binder.words(label, fact, section)
    else:
        binder.text(fact.key)
    binder.control("<|is|>")
    if fact.kind is Kind.FLAG:
        binder.control("<|yes|>" if fact.value else "<|no|>")
        return
    text = locale.value_text(fact, binder.lang)
    binder.slot(text, fact, section, "value")
    if fact.policy is Policy.READ and fact.kind is not Kind.ASPECT:
        binder.words(text, fact, section)
    if fact.level is not None:
        binder.control({Level.HIGH: "<|high|>", Level.MID: "<|mid|>", Level.LOW: "<|low|>"}[fact.level])


def label_of(fact: Fact) -> str | None:
    """The label that gets a slot of its own, or None where the key itself stands in the prompt."""
    if fact.key in schema.known() and fact.kind is not Kind.ASPECT:
        return None
    return fact.label or fact.key.removeprefix("has_").removeprefix("is_").replace("_", " ")


class Renderer:
    """Turns segments of a text into what a reader sees, as they come.

    A slot becomes its value. In English the article before a slot agrees with the value (`a`/`an`) and a value at the
    start of a sentence is capitalised. `feed` returns what is final; what may still change (an article, a partial
    slot written out as text) is held back until the next piece or `close`.
    """

    def __init__(self, slots: Iterable[Slot], lang: Lang) -> None:
        self._slots = {slot.index: slot for slot in slots}
        self._lang = lang
        self._held = ""
        self._done = ""
        self.segments: list[Segment] = []

    def feed(self, piece: Segment) -> str:
        """Take literal text or a slot; return the text that is now final."""
        if isinstance(piece, Slot):
            return self._slot(piece)
        out, text = "", self._held_mark() + piece
        at = 0
        for match in _MARK.finditer(text):
            slot = self._slots.get(int(match.group(1)))
            if slot is not None:
                out += self._literal(text[at : match.start()]) + self._slot(slot)
                at = match.end()
        return out + self._literal(text[at:])

    def close(self) -> str:
        """Return what was held back."""
        out, self._held = self._held, ""
        self._done += out
        return out

    def _held_mark(self) -> str:
        match = _PARTIAL.search(self._held)
        if not match:
            return ""
        mark, self._held = match.group(), self._held[: match.start()]
        if self.segments and isinstance(self.segments[-1], str):
            self.segments[-1] = self.segments[-1][: -len(mark)]
        return mark

    def _literal(self, text: str) -> str:
        if not text:
            return ""
        if self.segments and isinstance(self.segments[-1], str):
            self.segments[-1] += text
        else:
            self.segments.append(text)
        text = self._held + text
        keep = max(_hold_from(text, _PARTIAL), 0)
        if self._lang == "en":
            keep = max(keep, _hold_from(text, _ARTICLE_TAIL))
        self._held = text[len(text) - keep :]
        out = text[: len(text) - keep]
        self._done += out
        return out

    def _slot(self, slot: Slot) -> str:
        self.segments.append(slot)
        value, before = slot.text, self._held
        if self._lang == "en":
            value = _capitalised(self._done + before, slot)
            before = _agreeing(self._done, before, value)
        self._held = ""
        self._done += before + value
        return before + value


def _agreeing(done: str, held: str, value: str) -> str:
    """Held text, its article at the end made to agree with the value that follows."""
    match = _ARTICLE.search(held)
    if not match or (match.start() == 0 and done[-1:].isalnum()):  # the tail of a word, as in `data `
        return held
    article = locale.article(value)
    return held[: match.start()] + (article if match[1] == "a" else article.title()) + " "


def _hold_from(text: str, pattern: re.Pattern[str]) -> int:
    match = pattern.search(text)
    return len(text) - match.start() if match else 0


def _capitalised(before: str, slot: Slot) -> str:
    starts = _SENTENCE_START.search(before) and (slot.part == "label" or slot.fact.policy is Policy.READ)
    return slot.text[:1].upper() + slot.text[1:] if starts else slot.text


def render(segments: Iterable[Segment], lang: Lang) -> str:
    """The text of finished segments."""
    renderer = Renderer((), lang)
    return "".join(map(renderer.feed, segments)) + renderer.close()


def parse(text: str, prompt: Prompt) -> list[Segment]:
    """Split text that writes slots as `<|vN|>` into segments. A mark that was not offered stays literal text."""
    renderer = Renderer(prompt.slots, prompt.request.lang)
    renderer.feed(text)
    renderer.close()
    return [segment for segment in renderer.segments if segment]


def to_pieces(segments: Iterable[Segment]) -> list[Piece]:
    """Segments as the pieces a tokenizer encodes."""
    return [segment.control if isinstance(segment, Slot) else segment for segment in segments]


def encode(pieces: Iterable[Piece], text_ids: Callable[[str], list[int]], control_ids: dict[str, int]) -> list[int]:
    """Token ids of pieces. `text_ids` tokenises with special-token parsing off; `control_ids` maps token -> id."""
    ids: list[int] = []
    for piece in pieces:
        ids.extend([control_ids[piece.token]] if isinstance(piece, Control) else text_ids(piece))
    return ids
