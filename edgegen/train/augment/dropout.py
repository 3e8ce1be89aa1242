"""Less to tell: one sentence or line goes, and the facts that nothing else tells go with it.

Facts that the text leaves out are not shown to the model anyway (`edgegen.selection.told`), so leaving them out as well would
change nothing. A task that chooses shows all facts: there one that the task does not need goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from edgegen import tasks
from edgegen.domain import Fact, Section
from edgegen.train.augment import parts
from edgegen.train.pairs import Pair
from edgegen.train.prepare import texts

_Place = tuple[int, int]
"""Index of a section, and the identity of a fact in it."""


def change(pair: Pair, rng: Random) -> Pair | None:
    """The pair with less told; None where nothing can go."""
    task = tasks.get(pair.request.task)
    if task.choices:
        return _narrowed(pair, rng)
    found = parts.units(pair.text, pair.request.lang)
    listed = any(unit.bullet for unit in found)
    free = [at for at, unit in enumerate(found) if unit.marks and (unit.bullet or not listed)]
    if len(found) < 2 or not free:
        return None
    gone = rng.choice(free)
    rest = parts.joined(found[:gone] + found[gone + 1 :])
    rest = texts.begun(rest, pair.request.lang) if gone == 0 else rest
    owner = {s.index: (s.section, id(s.fact)) for s in task.prompt(pair.request).slots}
    left = {owner[mark] for mark in parts.marks(rest) if mark in owner}
    untold = {owner[mark] for mark in found[gone].marks if mark in owner} - left
    return parts.on(pair, rest, list(_without(pair, untold, {section for section, _ in left})))


def _without(pair: Pair, untold: set[_Place], left: set[int]) -> Iterator[tuple[int, Section]]:
    """The sections without facts; one of which nothing is told any more goes as a whole."""
    emptied = {section for section, _ in untold} - left
    for at, section in enumerate(pair.request.sections):
        if at not in emptied:
            yield at, replace(section, facts=tuple(fact for fact in section if (at, id(fact)) not in untold))


def _narrowed(pair: Pair, rng: Random) -> Pair | None:
    needed = {(need.label, key) for need in tasks.get(pair.request.task).needs for key in need.facts}
    free: list[tuple[int, Fact]] = [
        (at, fact)
        for at, section in enumerate(pair.request.sections)
        for fact in section
        if (section.label, fact.key) not in needed
    ]
    if not free:
        return None
    at, gone = rng.choice(free)
    sections = [
        (i, replace(s, facts=tuple(f for f in s if i != at or f is not gone))) for i, s in enumerate(pair.request.sections)
    ]
    return parts.on(pair, pair.text, sections)
