"""Sentence patterns: text with holes for facts. Both a task's template text and the corpus grammar are written in them.

    {key}        the value of a fact of the section in scope, else of any other section      {price}
    {key2}       another fact with that key: features, likes, criteria come in several        {feature} and {feature2}
    {2.key}      a fact of the second item                                                    {2.name}
    {key.key}    the fact's label                                                             {attr.key}: {attr}
    {attr}       any fact whose key the schema does not know
    {is} {has}   the label of a yes flag ("waterproof", "USB port");  {isnt} {hasnt}: of a no flag
    {good} {okay} {bad}   the label of an aspect the shopper rated high, middling, low;  {good.stars}: the rating
    (a|b|)       alternatives, nested at will; one whose facts are missing is not taken
    @price.low @trending @!rating   conditions at the start: a level, a yes flag or a fact that is there, one that is not

Knows no task and no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from edgegen import schema
from edgegen.domain import Fact, Kind, Level, Section
from edgegen.errors import DataError
from edgegen.slots import Part, Prompt, Segment, Slot

REUSABLE = frozenset({"name", "category", "brand", "query", "topic", "need"})
_TOKEN = re.compile(r"\{([^{}]*)\}|([()|])|([^{}()|]+)")
_HOLE = re.compile(r"(?:(\d)\.)?([a-z_]+?)(\d?)(?:\.(key|stars))?$")
_LEVELS = {"good": Level.HIGH, "okay": Level.MID, "bad": Level.LOW}
_FLAGS = {"is": ("is_", True), "isnt": ("is_", False), "has": ("has_", True), "hasnt": ("has_", False)}


@dataclass(frozen=True, slots=True)
class Hole:
    """A place for a fact: `item` counts items from 1, `nth` facts of the key."""

    key: str
    item: int | None = None
    nth: int = 1
    part: Part = "value"


@dataclass(frozen=True, slots=True)
class Choice:
    """Alternatives, each a sequence of nodes."""

    options: tuple[tuple[Node, ...], ...]


Node = str | Hole | Choice


@dataclass(frozen=True, slots=True)
class Condition:
    """A demand on the facts: absent, present, or present with a level."""

    key: str
    level: Level | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern."""

    source: str
    conditions: tuple[Condition, ...]
    nodes: tuple[Node, ...]


@dataclass
class View:
    """The facts a pattern may use: a bound prompt, the section in scope and what the text has used already."""

    prompt: Prompt
    scope: int | None = None
    used: set[tuple[int, int]] = field(default_factory=set)

    def scoped(self, section: int) -> View:
        """The same view with another section in scope."""
        return View(self.prompt, section, self.used)

    def order(self, item: int | None) -> Iterator[tuple[int, Section]]:
        """Sections to look in: one item, or the scope and then the sections that are not items (all without scope)."""
        sections = list(enumerate(self.prompt.request.sections))
        items = [pair for pair in sections if pair[1].label == "item"]
        if item is not None:
            yield from items[item - 1 : item]
            return
        if self.scope is not None:
            yield sections[self.scope]
        lone = len(items) == 1 or self.scope is None
        yield from (p for p in sections if p[0] != self.scope and (p[1].label != "item" or lone))

    def candidates(self, hole: Hole) -> Iterator[tuple[int, int, Fact]]:
        """Facts that fit the hole, unused ones (and those that may be named again) only."""
        for index, section in self.order(hole.item):
            if self._foreign(index) and hole.key not in REUSABLE:
                continue
            for at, fact in enumerate(section):
                if _fits(fact, hole.key) and (fact.key in REUSABLE or (index, at) not in self.used):
                    yield index, at, fact

    def _foreign(self, index: int) -> bool:
        # A sentence about one reason or one recommender must not borrow another's evidence.
        sections = self.prompt.request.sections
        return self.scope is not None and index != self.scope and sections[self.scope].label != "item"

    def holds(self, condition: Condition) -> bool:
        """Whether a condition is met by the facts, used or not."""
        found = [
            f for index, section in self.order(None) if not self._foreign(index)
            for f in section if f.key == condition.key and f.value is not False
        ]  # fmt: skip
        if condition.absent:
            return not found
        return any(condition.level is None or fact.level is condition.level for fact in found)


def _fits(fact: Fact, key: str) -> bool:
    if key in _FLAGS:
        prefix, value = _FLAGS[key]
        return fact.kind is Kind.FLAG and fact.key not in schema.known() and fact.value is value and (
            fact.key.startswith("has_") == (prefix == "has_")
        )  # fmt: skip
    if key in _LEVELS:
        return fact.kind is Kind.ASPECT and fact.level is _LEVELS[key]
    if key == "attr":
        return fact.key not in schema.known() and fact.kind not in (Kind.FLAG, Kind.ASPECT)
    return fact.key == key and fact.kind is not Kind.FLAG


def parse(source: str) -> Pattern:
    """Parse one pattern. Raises DataError with the place where it is malformed."""
    conditions, text = [], source.strip()
    while text.startswith("@"):
        word, _, text = text.partition(" ")
        conditions.append(_condition(word[1:], source))
        text = text.lstrip()
    tokens = list(_TOKEN.finditer(text))
    nodes, end = _sequence(tokens, 0, source, depth=0)
    if end != len(tokens) or not nodes:
        raise DataError(f"Pattern {source!r}: a bracket is not balanced. Write alternatives as (a|b).")
    return Pattern(source, tuple(conditions), nodes)


def _condition(word: str, source: str) -> Condition:
    absent, word = word.startswith("!"), word.removeprefix("!")
    key, _, level = word.partition(".")
    if key not in schema.known():
        raise DataError(f"Pattern {source!r}: unknown key {key!r} in a condition. Known keys are in data/keys.toml.")
    return Condition(key, Level(level) if level else None, absent)


def _hole(text: str, source: str) -> Hole:
    match = _HOLE.match(text)
    if not match:
        raise DataError(f"Pattern {source!r}: {{{text}}} is not a hole. Write {{key}}, {{2.key}} or {{key.key}}.")
    item, key, nth, part = match.groups()
    if key not in schema.known() and key not in _FLAGS and key not in _LEVELS and key != "attr":
        raise DataError(f"Pattern {source!r}: unknown key {key!r}. Known keys are in data/keys.toml.")
    label = key in _FLAGS or part == "key" or (key in _LEVELS and part != "stars")
    return Hole(key, int(item) if item else None, int(nth or 1), "label" if label else "value")


def _sequence(tokens: Sequence[re.Match[str]], at: int, source: str, depth: int) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    while at < len(tokens):
        hole, mark, text = tokens[at].groups()
        if mark == "(":
            choice, at = _choice(tokens, at + 1, source, depth + 1)
            nodes.append(choice)
            continue
        if mark:
            break
        nodes.append(text if hole is None else _hole(hole, source))
        at += 1
    return tuple(nodes), at


def _choice(tokens: Sequence[re.Match[str]], at: int, source: str, depth: int) -> tuple[Choice, int]:
    options: list[tuple[Node, ...]] = []
    while True:
        nodes, at = _sequence(tokens, at, source, depth)
        options.append(nodes)
        if at == len(tokens):
            raise DataError(f"Pattern {source!r}: a bracket is not closed. Write alternatives as (a|b).")
        closing, at = tokens[at].group() == ")", at + 1
        if closing:
            return Choice(tuple(options)), at


def fill(pattern: Pattern, view: View, rng: Random | None = None) -> list[Segment] | None:
    """The pattern with facts in its holes, or None where one is missing. Marks the facts it uses in the view.

    Without `rng` the first alternative that can be filled is taken, so templates are deterministic.
    """
    if not all(map(view.holds, pattern.conditions)):
        return None
    taken: dict[tuple[str, int | None, int], tuple[int, int, Fact]] = {}
    out = _fill(pattern.nodes, view, rng, taken)
    if out is not None:
        view.used.update((section, at) for section, at, _ in taken.values())
    return out


_Taken = dict[tuple[str, int | None, int], tuple[int, int, Fact]]


def _fill(nodes: Sequence[Node], view: View, rng: Random | None, taken: _Taken) -> list[Segment] | None:
    out: list[Segment] = []
    for node in nodes:
        part: list[Segment] | None
        if isinstance(node, str):
            part = [node]
        elif isinstance(node, Hole):
            slot = _take(node, view, taken)
            part = None if slot is None else [slot]
        else:
            part = _fill_choice(node, view, rng, taken)
        if part is None:
            return None
        out.extend(part)
    return out


def _fill_choice(choice: Choice, view: View, rng: Random | None, taken: _Taken) -> list[Segment] | None:
    options = list(choice.options)
    if rng is not None:
        rng.shuffle(options)
    for option in options:
        trial = dict(taken)
        filled = _fill(option, view, rng, trial)
        if filled is not None:
            taken.update(trial)
            return filled
    return None


def _take(hole: Hole, view: View, taken: _Taken) -> Slot | None:
    name = (hole.key, hole.item, hole.nth)
    if name not in taken:
        others = {(s, a) for s, a, _ in taken.values()} if hole.key not in REUSABLE else set()
        found = next((c for c in view.candidates(hole) if c[:2] not in others), None)
        if found is None:
            return None
        taken[name] = found
    section, _, fact = taken[name]
    return view.prompt.find(section, fact, hole.part)
