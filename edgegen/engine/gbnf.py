"""Reads a grammar in GBNF into rules. Pure: knows no tokens and no model.

The notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md. Repeats stay counts and are not written out,
so that what is read is never larger than the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import NoReturn

from edgegen.errors import GrammarError

MOST = 50_000
"""Characters a grammar may have."""
MOST_TIMES = 100_000
"""The highest count of a repeat."""
_DEEPEST = 100  # brackets in brackets: the reader is recursive
_TOP = 0x10FFFF
_QUOTED = 20  # characters of a grammar that an error repeats

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_LITERAL = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_SET = re.compile(r"\[(\^?)((?:\\.|[^\]\\])*)\]", re.DOTALL)
_CHAR = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
_TOKEN = re.compile(r"(!?)<(?:\[(\d{1,9})\]|([^>\[][^>]*))>")
_TIMES = re.compile(r"\{[ \t]*(\d+)[ \t]*(?:(,)[ \t]*(\d*)[ \t]*)?\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", **{char: char for char in '\\"[]-'}}
_SIGNS: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}


@dataclass(frozen=True)
class Chars:
    """One character of these ranges."""

    lows: tuple[int, ...]
    """Where each begins, ascending; code points."""
    highs: tuple[int, ...]
    """Where each ends."""

    def has(self, code: int) -> bool:
        """Whether a code point is one of them."""
        return self.meet(code, code)

    def meet(self, low: int, high: int) -> bool:
        """Whether one of them is from `low` to `high`."""
        at = bisect_right(self.lows, high) - 1
        return at >= 0 and self.highs[at] >= low


@dataclass(frozen=True)
class Token:
    """One token, by its number; `but` means any other one."""

    id: int
    but: bool


@dataclass(frozen=True)
class Named:
    """One token, by its text."""

    text: str
    but: bool


@dataclass(frozen=True)
class Times:
    """What a rule describes, `least` to `most` times; None is without end."""

    rule: int
    least: int = 1
    most: int | None = 1


Element = Chars | Token | Named | Times
Alternatives = list[tuple[Element, ...]]


def read(text: str) -> tuple[list[Alternatives], int]:
    """The rules of a grammar, and which of them is its `root`. Raises GrammarError."""
    for wrong, what in (
        (not text.strip(), "it is empty"),
        (len(text) > MOST, f"it has {len(text)} characters, more than {MOST}"),
        ("\0" in text, "it has a zero character"),
        (any("\ud800" <= char <= "\udfff" for char in text), "it has halves of characters (surrogates)"),
    ):
        if wrong:
            raise _unreadable(what)
    return _Reader(text).all()


@dataclass
class _Reader:
    """Goes through a grammar's text."""

    text: str
    at: int = 0
    depth: int = 0
    rules: list[Alternatives | None] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    singles: dict[int, Chars] = field(default_factory=dict)

    def all(self) -> tuple[list[Alternatives], int]:
        """Every rule."""
        self._skip(_SPACES)
        while self.at < len(self.text):
            self._rule()
        if "root" not in self.names:
            raise _unreadable("it does not contain a 'root' rule")
        if undefined := [name for name, rule in self.names.items() if self.rules[rule] is None]:
            raise _unreadable(f"the rule '{undefined[0][:_QUOTED]}' is not defined")
        found = [rule for rule in self.rules if rule is not None]
        _refuse_left_recursion(found)
        return found, self.names["root"]

    def _rule(self) -> None:
        name = self._need(_NAME, "the name of a rule")[0]
        self._skip(_SPACE)
        self._need(re.compile("::="), "'::='")
        self._skip(_SPACES)
        self.rules[self._named(name)] = self._alternatives(_SPACE)
        if self.at < len(self.text) and self.text[self.at] not in "\r\n":
            self._fail("the end of the line")
        self._skip(_SPACES)

    def _named(self, name: str) -> int:
        if name not in self.names:
            self.names[name] = len(self.rules)
            self.rules.append(None)
        return self.names[name]

    def _alternatives(self, space: re.Pattern[str]) -> Alternatives:
        """Sequences between bars; `space` is what may stand between their parts, with line ends where in brackets."""
        found = [self._sequence(space)]
        while self.text.startswith("|", self.at):
            self.at += 1
            self._skip(_SPACES)
            found.append(self._sequence(space))
        return found

    def _sequence(self, space: re.Pattern[str]) -> tuple[Element, ...]:
        found: list[Element] = []
        while (item := self._item()) is not None:
            self._skip(space)
            while (times := self._times()) is not None:
                self._skip(space)
                item = [Times(self._anonymous([tuple(item)]), *times)]
            found += item
        return tuple(found)

    def _anonymous(self, rule: Alternatives) -> int:
        self.rules.append(rule)
        return len(self.rules) - 1

    def _item(self) -> list[Element] | None:
        """What a repeat after it would repeat; None where the sequence ends."""
        char = self.text[self.at : self.at + 1]
        if char == '"':
            return [self._single(code) for code in self._codes(self._need(_LITERAL, "the end of a text in quotes")[1])]
        if char == "[":
            return [self._set(self._need(_SET, "']'"))]
        if char in ("<", "!") and char:
            but, id_, text = self._need(_TOKEN, "a token, such as <[7]>").groups()
            return [Named(f"<{text}>", bool(but)) if text else Token(int(id_), bool(but))]
        if char == ".":
            self.at += 1
            return [Chars((0,), (_TOP,))]
        if char == "(":
            return [Times(self._group())]
        if name := _NAME.match(self.text, self.at):
            self.at = name.end()
            return [Times(self._named(name[0]))]
        if char in _SIGNS or char == "{":
            self._fail("something to repeat")
        return None

    def _group(self) -> int:
        self.at += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _unreadable(f"it has more than {_DEEPEST} brackets in brackets")
        self._skip(_SPACES)
        found = self._alternatives(_SPACES)
        self._need(re.compile(r"\)"), "')'")
        self.depth -= 1
        return self._anonymous(found)

    def _times(self) -> tuple[int, int | None] | None:
        char = self.text[self.at : self.at + 1]
        if char in _SIGNS:
            self.at += 1
            return _SIGNS[char]
        if char != "{":
            return None
        least, comma, most = self._need(_TIMES, "a count such as {2} or {1,3}").groups()
        low, high = int(least[:9]), int(most[:9]) if most else None if comma else int(least[:9])
        if low > MOST_TIMES or (high is not None and not low <= high <= MOST_TIMES):
            raise _unreadable(f"a count of repeats must ascend and be in [0, {MOST_TIMES}]")
        return low, high

    def _single(self, code: int) -> Chars:
        if code not in self.singles:
            self.singles[code] = Chars((code,), (code,))
        return self.singles[code]

    def _codes(self, text: str) -> list[int]:
        return [code for _, code in self._chars(text)]

    def _chars(self, text: str) -> Iterable[tuple[bool, int]]:
        """The code points that a text stands for, each with whether it was escaped."""
        for one in _CHAR.finditer(text):
            *numbers, escaped, plain = one.groups()
            number = next(filter(None, numbers), None)
            if number is not None:
                yield True, int(number, 16)
            elif plain is not None:
                yield False, ord(plain)
            elif escaped in _ESCAPES:
                yield True, ord(_ESCAPES[escaped])
            else:
                raise _unreadable(f"the escape '\\{escaped}' is unknown")

    def _set(self, found: re.Match[str]) -> Chars:
        but, chars = bool(found[1]), list(self._chars(found[2]))
        ranges, at = list[tuple[int, int]](), 0
        while at < len(chars):
            low = high = chars[at][1]
            if at + 2 < len(chars) and chars[at + 1] == (False, ord("-")):
                high, at = chars[at + 2][1], at + 2
            ranges.append((low, high))
            at += 1
        return _merged(ranges, but=but)

    def _skip(self, space: re.Pattern[str]) -> None:
        found = space.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _need(self, what: re.Pattern[str], named: str) -> re.Match[str]:
        found = what.match(self.text, self.at)
        if found is None:
            self._fail(named)
        self.at = found.end()
        return found

    def _fail(self, named: str) -> NoReturn:
        line, there = self.text.count("\n", 0, self.at) + 1, self.text[self.at : self.at + _QUOTED]
        raise _unreadable(f"line {line}: expecting {named} at {there!r}" if there else f"it ends where {named} should come")


def _merged(ranges: Iterable[tuple[int, int]], *, but: bool) -> Chars:
    """These characters, or all `but` them."""
    lows, highs = list[int](), list[int]()
    for low, high in sorted(one for one in ranges if one[0] <= one[1]):
        if lows and low <= highs[-1] + 1:
            highs[-1] = max(highs[-1], high)
        else:
            lows.append(low)
            highs.append(high)
    if but:
        lows, highs = [0, *(high + 1 for high in highs)], [*(low - 1 for low in lows), _TOP]
        kept = [(low, high) for low, high in zip(lows, highs, strict=True) if low <= high]
        lows, highs = [low for low, _ in kept], [high for _, high in kept]
    return Chars(tuple(lows), tuple(highs))


def _refuse_left_recursion(rules: Sequence[Alternatives]) -> None:
    """A rule must not come to itself before a character: there would be no end to the ways to begin it."""
    empty = _empty(rules)
    begins = TopologicalSorter[int]()
    for number, alternatives in enumerate(rules):
        for alternative in alternatives:
            for element in alternative:
                if not isinstance(element, Times):
                    break
                begins.add(number, element.rule)
                if element.least and element.rule not in empty:
                    break
    try:
        begins.prepare()
    except CycleError:
        raise _unreadable("it has left recursion: a rule that begins with itself") from None


def _empty(rules: Sequence[Alternatives]) -> set[int]:
    """Which rules may stand for nothing. Each alternative is looked at once for each of its rules that may."""
    found, fresh, waiting = set[int](), list[int](), dict[int, list[list[int]]]()
    for number, alternatives in enumerate(rules):
        for alternative in alternatives:
            needed = [one for one in alternative if not (isinstance(one, Times) and not one.least)]
            below = {one.rule for one in needed if isinstance(one, Times)}
            entry = [number, len(below)]
            if not needed:
                fresh.append(number)
            elif all(isinstance(one, Times) for one in needed):
                for rule in below:
                    waiting.setdefault(rule, []).append(entry)
    while fresh:
        if (rule := fresh.pop()) in found:
            continue
        found.add(rule)
        for entry in waiting.get(rule, ()):
            entry[1] -= 1
            if not entry[1]:
                fresh.append(entry[0])
    return found


def _unreadable(why: str) -> GrammarError:
    return GrammarError(f"The grammar cannot be read: {why}. Write it in GBNF.")
