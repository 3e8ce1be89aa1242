"""Follows a text along a grammar, token by token. Pure: knows no sampling options, no jobs and no clock.

All ways in which a text may go on are followed at once, as stacks of places in the rules, and each set of ways with a character
is worked out once. llama.cpp's own sampler tries the ways of a token one after another, which a grammar of 20 characters makes
take for ever, and nothing can stop it. Here the work is counted: what is too much fails its text alone, on every machine alike.
"""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

from edgegen.engine import gbnf
from edgegen.engine.backend import Ids, Mask
from edgegen.engine.gbnf import Chars, Element, Named, Times, Token
from edgegen.errors import EngineError, GrammarError

MOST_WAYS = 2_000
"""Ways in which a text may go on at one place."""
MOST_WORK = 200_000
"""Steps of work for one token: some tenths of a second."""
MOST_KEPT = 400_000
"""Places and ways that a grammar keeps in all."""
_FEW = 64  # tokens that are looked at one by one; for more the whole vocabulary is, once a state
_MASKS = 16  # of the whole vocabulary that a grammar keeps
_EMPTY = 0  # the stack with nothing on it, where a text may end


class Words:
    """What a vocabulary's tokens are as characters. One for a model; everything else is a text's."""

    def __init__(self, pieces: Sequence[bytes], ends: Iterable[int]) -> None:
        """`pieces` are the bytes of each token, `ends` the tokens that end a text."""
        self.pieces, self.ends = pieces, frozenset(ends)
        self._split = [decoded(piece) for piece in pieces]
        self.later = [id_ for id_, piece in enumerate(pieces) if piece and 0x80 <= piece[0] < 0xC0]
        """Tokens that go on with a character that another one began."""

    def split(self, pending: bytes, token: int) -> tuple[str, bytes] | None:
        """The characters that a token makes whole after these bytes, and the bytes it leaves; None where they are no UTF-8."""
        return decoded(pending + self.pieces[token]) if pending else self._split[token]

    @cached_property
    def firsts(self) -> Mapping[str, Sequence[tuple[int, str, bytes]]]:
        """By their first character ("" where it is cut), the tokens that do not end a text: id, further characters, cut one."""
        found = dict[str, list[tuple[int, str, bytes]]]()
        for id_, split in enumerate(self._split):
            if split is not None and id_ not in self.ends:
                found.setdefault(split[0][:1], []).append((id_, split[0][1:], split[1]))
        return found

    def id(self, text: str) -> int:
        """The token of a text. Raises GrammarError."""
        if text.encode() not in self._ids:
            raise GrammarError(f"The grammar cannot be read: there is no token {text[:40]!r}. Write it in GBNF.")
        return self._ids[text.encode()]

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {piece: id_ for id_, piece in enumerate(self.pieces)}


def decoded(raw: bytes) -> tuple[str, bytes] | None:
    """Whole characters and the bytes of a cut one at the end; None for what is no UTF-8, has a zero character or is empty."""
    try:
        text, used = codecs.utf_8_decode(raw, "strict", False)
    except UnicodeDecodeError:
        return None
    return None if not raw or "\0" in text else (text, raw[used:])


@dataclass(slots=True, eq=False)
class State:
    """A set of ways to go on: what may come next, and the stack that is left behind each."""

    tops: frozenset[int]
    ends: bool = False
    """Whether a text may end there."""
    singles: dict[int, list[int]] = field(default_factory=dict)
    """By code point, where one character alone may come."""
    others: list[tuple[Chars, int]] = field(default_factory=list)
    tokens: dict[int, list[int]] = field(default_factory=dict)
    """By id, where a token as such may come."""
    buts: list[tuple[int, int]] = field(default_factory=list)
    """Where any token may come but one: its id."""
    after: dict[int, State] = field(default_factory=dict)
    """The states behind characters, by the class of these."""
    begun: dict[bytes, bool] = field(default_factory=dict)
    """Whether a character may come that begins with these bytes."""


class Automaton:
    """The states of a grammar, made as texts come to them. Shared by all texts of a job."""

    def __init__(self, text: str, words: Words) -> None:
        """The grammar, on a vocabulary. Raises GrammarError."""
        rules, root = gbnf.read(text)
        self.words = words
        self._elements, self._last = list[Element](), list[bool]()
        self._starts = [[self._placed(alternative) for alternative in rule] for rule in rules]
        self._bounds = sorted({0, *(bound for one in self._elements if isinstance(one, Chars) for bound in _bounds(one))})
        self._classes = dict[str, int]()
        # A stack is a place and the stack below it; a place is an element's number and how often it was repeated already.
        self._stacks, self._stack_ids = [(-1, -1)], dict[tuple[int, int], int]()
        self._states, self._masks = dict[frozenset[int], State](), dict[tuple[frozenset[int], bytes], Mask]()
        self._work = self._kept = 0
        self.start = self._closed([self._push(start, _EMPTY) for start in self._starts[root]])

    def _placed(self, alternative: Sequence[Element]) -> int:
        """Where an alternative begins; -1 where it is empty."""
        begin = len(self._elements)
        for one in alternative:
            self._elements.append(Token(self.words.id(one.text), one.but) if isinstance(one, Named) else one)
            self._last.append(False)
        if alternative:
            self._last[-1] = True
        return begin if alternative else -1

    def begin(self) -> None:
        """A new token: its work is counted from here."""
        self._work = 0

    def step(self, state: State, char: str) -> State:
        """The state after a character; it has no tops where none may come."""
        kind = self._classes.get(char)
        if kind is None:
            kind = self._classes[char] = bisect_right(self._bounds, ord(char)) - 1
        found = state.after.get(kind)
        if found is None:
            like = self._bounds[kind]  # all characters between two bounds are alike
            self._spend(len(state.others))
            self._keep(1)
            todo = [*state.singles.get(like, ()), *(stack for chars, stack in state.others if chars.has(like))]
            found = state.after[kind] = self._closed(todo)
        return found

    def _walked(self, state: State, text: str, tail: bytes) -> State | None:
        """The state after some characters, None where they and the beginning of another one may not come."""
        kinds = self._classes
        for char in text:
            state = state.after.get(kinds.get(char, -1)) or self.step(state, char)  # a vocabulary's worth of these: no call
            if not state.tops:
                return None
        return state if not tail or self._begun(state, tail) else None

    def reached(self, state: State, pending: bytes, token: int) -> tuple[State, bytes] | None:
        """State and pending bytes after a token's characters, None where they may not come."""
        split = self.words.split(pending, token)
        there = None if split is None else self._walked(state, *split)
        return None if split is None or there is None else (there, split[1])

    def _begun(self, state: State, tail: bytes) -> bool:
        found = state.begun.get(tail)
        if found is None:
            self._spend(len(state.singles) + len(state.others))
            self._keep(1)
            low, high = _span(tail)
            single = any(low <= code <= high for code in state.singles)
            found = state.begun[tail] = single or any(chars.meet(low, high) for chars, _ in state.others)
        return found

    def fits(self, state: State, pending: bytes, token: int) -> bool:
        """Whether a token may come next."""
        if token in self.words.ends:
            return state.ends and not pending
        if not pending and (token in state.tokens or any(id_ != token for id_, _ in state.buts)):
            return True
        return self.reached(state, pending, token) is not None

    def after(self, state: State, pending: bytes, token: int) -> tuple[State, bytes]:
        """State and pending bytes after a token that fits."""
        if token in self.words.ends:
            return state, pending
        asked = [] if pending else [*state.tokens.get(token, ()), *(stack for id_, stack in state.buts if id_ != token)]
        there, tail = self.reached(state, pending, token) or (None, b"")
        if not asked:
            return there or state, tail
        taken = self._closed(asked)
        return (self._named(taken.tops | there.tops) if there and not tail else taken), b""

    def mask(self, state: State, pending: bytes) -> Mask:
        """Which tokens of the vocabulary may come next."""
        found = self._masks.get((state.tops, pending))
        if found is None:
            found = np.zeros(len(self.words.pieces), dtype=np.bool_)
            found[self._fitting(state, pending)] = True
            while len(self._masks) >= _MASKS:
                del self._masks[next(iter(self._masks))]
            self._masks[state.tops, pending] = found
        return found

    def _fitting(self, state: State, pending: bytes) -> list[int]:
        if pending or state.tokens or state.buts:
            among = self.words.later if pending else range(len(self.words.pieces))
            return [id_ for id_ in among if self.fits(state, pending, id_)]
        found = [*self.words.ends] if state.ends else []
        for char, tokens in self.words.firsts.items():
            first = self.step(state, char) if char else state
            if first.tops:
                found += [id_ for id_, text, tail in tokens if self._walked(first, text, tail)]
        return found

    def _closed(self, todo: list[int]) -> State:
        """The state of these stacks, rules opened until each has a character or a token on top."""
        seen, tops = set[int](), set[int]()
        while todo:
            if (stack := todo.pop()) in seen:
                continue
            seen.add(stack)
            self._spend(1)
            place, rest = self._stacks[stack]
            element = self._elements[place % len(self._elements)] if stack != _EMPTY else None
            if isinstance(element, Times):
                todo += self._opened(element, place, rest)
                continue
            tops.add(stack)
            if len(tops) > MOST_WAYS:
                raise GrammarError(
                    f"The grammar allows more than {MOST_WAYS} ways to go on at one place. Make it less ambiguous."
                )
        return self._named(frozenset(tops))

    def _opened(self, element: Times, place: int, rest: int) -> Iterable[int]:
        """The stacks that a repeated rule on top stands for."""
        done, behind = place // len(self._elements), self._behind(place, rest)
        if done >= element.least:
            yield behind
        if element.most is None or done < element.most:
            # What has no end need not be counted beyond its least; behind the last one nothing of it is left.
            more = done + 1 if element.most is not None else min(done + 1, element.least)
            number = place % len(self._elements)
            below = behind if more == element.most else self._push(number + more * len(self._elements), rest)
            for start in self._starts[element.rule]:
                yield self._push(start, below)

    def _behind(self, place: int, rest: int) -> int:
        number = place % len(self._elements)
        return rest if self._last[number] else self._push(number + 1, rest)

    def _push(self, place: int, rest: int) -> int:
        if place < 0:
            return rest
        found = self._stack_ids.get((place, rest))
        if found is None:
            self._keep(1)
            found = self._stack_ids[place, rest] = len(self._stacks)
            self._stacks.append((place, rest))
        return found

    def _named(self, tops: frozenset[int]) -> State:
        """The one state of a set of stacks."""
        found = self._states.get(tops)
        if found is None:
            self._keep(len(tops) + 1)
            found = self._states[tops] = State(tops)
            for stack in sorted(tops):
                self._note(found, stack)
        return found

    def _note(self, state: State, stack: int) -> None:
        if stack == _EMPTY:
            state.ends = True
            return
        place, rest = self._stacks[stack]
        element, behind = self._elements[place % len(self._elements)], self._behind(place, rest)
        if isinstance(element, Token):
            if element.but:
                state.buts.append((element.id, behind))
            else:
                state.tokens.setdefault(element.id, []).append(behind)
        elif isinstance(element, Chars) and element.lows == element.highs and len(element.lows) == 1:
            state.singles.setdefault(element.lows[0], []).append(behind)
        elif isinstance(element, Chars):
            state.others.append((element, behind))

    def _spend(self, steps: int) -> None:
        self._work += steps
        if self._work > MOST_WORK:
            raise GrammarError("The grammar takes too long for one token: it is too ambiguous. Make it simpler.")

    def _keep(self, more: int) -> None:
        self._kept += more
        if self._kept > MOST_KEPT:
            raise GrammarError(
                "The text has gone too many ways through the grammar. Make the grammar simpler, or the text shorter."
            )


class Followed:
    """How far a text has come along a grammar. Implements `backend.Grammar`."""

    def __init__(self, automaton: Automaton, state: State | None = None, pending: bytes = b"") -> None:
        """At its beginning, or where another one is; `pending` are the bytes of a character that is not whole yet."""
        self._automaton, self._state, self._pending = automaton, state or automaton.start, pending

    def allows(self, ids: Ids) -> Mask:
        """Which of these tokens may come next: bool [len(ids)]. Raises GrammarError where that takes too long."""
        self._automaton.begin()
        if len(ids) > _FEW:
            mask: Mask = self._automaton.mask(self._state, self._pending)[ids]
            return mask
        return np.array([self._automaton.fits(self._state, self._pending, id_) for id_ in ids.tolist()], dtype=np.bool_)

    def accept(self, token: int) -> None:
        """Go on with a token. Raises EngineError for one that is not allowed, GrammarError where it takes too long."""
        self._automaton.begin()
        if not self._automaton.fits(self._state, self._pending, token):
            raise EngineError(f"The grammar does not allow token {token} here. Choose one that it allows.")
        self._state, self._pending = self._automaton.after(self._state, self._pending, token)

    def copy(self) -> Self:
        """Another text that has come as far."""
        return type(self)(self._automaton, self._state, self._pending)


def _bounds(chars: Chars) -> Iterable[int]:
    yield from chars.lows
    yield from (high + 1 for high in chars.highs)


def _span(tail: bytes) -> tuple[int, int]:
    """The first and last code point whose bytes begin so."""
    size = 2 if tail[0] < 0xE0 else 3 if tail[0] < 0xF0 else 4
    value = tail[0] & (0x7F >> size)
    for byte in tail[1:]:
        value = value << 6 | byte & 0x3F
    left = 6 * (size - len(tail))
    least = {2: 0x80, 3: 0x800, 4: 0x10000}[size]
    return max(value << left, least), min((value << left) + (1 << left) - 1, 0x10FFFF)
