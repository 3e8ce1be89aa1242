"""Texts that say the same of the same facts. Pure.

Two texts are one where they have the same facts and, without case, marks and blanks, the same letters, or nearly the same runs
of three words. A text that shares enough runs with another shares at least one of any few of its own, so only those that hold
one of its rarest runs are compared. Source: Chaudhuri et al., "A Primitive Operator for Similarity Joins", 2006.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Run = tuple[str, ...]

_ROUNDED = 1e-9  # (1 - 0.9) * 10 is a little less than 1

_WORD = re.compile(r"<\|v\d+\|>|[㐀-䶿一-鿿]|[^\W_㐀-鿿]+")


@dataclass
class _Seen:
    """The texts on one set of facts."""

    plain: set[str] = field(default_factory=set)
    runs: list[frozenset[Run]] = field(default_factory=list)
    holding: dict[Run, list[int]] = field(default_factory=dict)

    def add(self, plain: str, runs: frozenset[Run]) -> None:
        self.plain.add(plain)
        for run in runs:
            self.holding.setdefault(run, []).append(len(self.runs))
        self.runs.append(runs)

    def near(self, runs: frozenset[Run], alike: float) -> bool:
        """Whether a text shares so much of its runs with one that is there."""
        enough = math.floor((1 - alike) * len(runs) + _ROUNDED) + 1
        rare = sorted(runs, key=lambda run: len(self.holding.get(run, ())))[:enough]
        others = {at for run in rare for at in self.holding.get(run, ())}
        return any(len(runs & self.runs[at]) >= alike * len(runs | self.runs[at]) for at in others)


def repeated(texts: Iterable[tuple[str, str]], alike: float) -> Iterator[str | None]:
    """For each (facts, text): None, or "duplicate" or "near duplicate" where one before it says the same."""
    everything: dict[str, _Seen] = {}
    for facts, text in texts:
        words = _WORD.findall(text.casefold())
        plain, runs = "".join(words), frozenset(zip(words, words[1:], words[2:], strict=False)) or frozenset({tuple(words)})
        seen = everything.setdefault(facts, _Seen())
        if plain in seen.plain:
            yield "duplicate"
        elif seen.near(runs, alike):
            yield "near duplicate"
        else:
            seen.add(plain, runs)
            yield None
