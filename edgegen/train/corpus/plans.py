"""Plan files: structures, roles and sentence patterns, and how a text is composed of them. Format: docs/corpus.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

from edgegen import patterns
from edgegen.domain import Lang
from edgegen.errors import DataError
from edgegen.patterns import Hole, Node, Pattern, View
from edgegen.slots import Prompt, Segment

_HEADER = re.compile(r"= (\w+)(?: each (\w+))?( newline)?$")
_STEP = re.compile(r"(\w+)([?*]?)(\??)$")


@dataclass(frozen=True, slots=True)
class Role:
    """Sentence patterns that do the same job in a text."""

    name: str
    each: str | None
    newline: bool
    patterns: tuple[Pattern, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One place of a structure: a role, whether it may be left out, whether it is written for every section."""

    role: str
    optional: bool
    every: bool


@dataclass(frozen=True, slots=True)
class Plans:
    """What a plan file holds."""

    structures: tuple[tuple[Step, ...], ...]
    roles: dict[str, Role]


@cache
def load(task: str, lang: Lang) -> Plans:
    """The plans of a task. Raises DataError with file and line where one is malformed."""
    path = f"train/corpus/plans/{lang}/{task}.txt"
    return parse(files("edgegen").joinpath(path).read_text("utf-8"), path)


def parse(text: str, path: str) -> Plans:
    """Parse the text of a plan file; `path` is for the messages."""
    structures: list[tuple[Step, ...]] = []
    roles: dict[str, tuple[str | None, bool, list[Pattern]]] = {}
    current: list[Pattern] | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith(">"):
            structures.append(tuple(_step(word, path, number) for word in line[1:].split()))
        elif line.startswith("= "):
            match = _HEADER.match(line)
            if not match:
                raise DataError(f"{path}:{number}: {line!r} is not a role header. Write `= role [each LABEL] [newline]`.")
            current = roles.setdefault(match[1], (match[2], bool(match[3]), []))[2]
        elif current is None:
            raise DataError(f"{path}:{number}: a pattern stands before any role header.")
        else:
            current.append(patterns.parse(line))
    made = {name: Role(name, each, nl, tuple(found), tuple(map(_weight, found))) for name, (each, nl, found) in roles.items()}
    for name in {step.role for structure in structures for step in structure} - set(made):
        raise DataError(f"{path}: a structure names the role {name!r}, which has no patterns.")
    return Plans(tuple(structures), made)


def _step(word: str, path: str, number: int) -> Step:
    match = _STEP.match(word)
    if not match:
        raise DataError(f"{path}:{number}: {word!r} is not a step. Write `role`, `role?` or `role*`.")
    return Step(match[1], "?" in word, "*" in word)


def _weight(pattern: Pattern) -> float:
    # Patterns that ask for more facts can be filled less often: weigh them so that they are not crowded out.
    return float((1 + len(pattern.conditions) + _holes(pattern.nodes)) ** 1.5)


def _holes(nodes: Sequence[Node]) -> int:
    keys = {node.key for node in nodes if isinstance(node, Hole)} - patterns.REUSABLE
    return len(keys)


def compose(plans: Plans, prompt: Prompt, rng: Random, tries: int = 8) -> list[Segment] | None:
    """A text for a prompt, or None when no structure could be filled in `tries` draws."""
    for _ in range(tries):
        text = _compose(plans, rng.choice(plans.structures), prompt, rng)
        if text:
            return text
    return None


def _compose(plans: Plans, structure: tuple[Step, ...], prompt: Prompt, rng: Random) -> list[Segment] | None:
    view, out = View(prompt), list[Segment]()
    for step in structure:
        if step.optional and rng.random() < 0.5:
            continue
        role = plans.roles[step.role]
        for scope in _scopes(role, step, prompt, rng):
            sentence = _draw(role, view if scope is None else view.scoped(scope), rng)
            if sentence is None:
                if step.optional:
                    continue
                return None
            out += _joiner(role, prompt.request.lang, bool(out)) + sentence
    return out


def _scopes(role: Role, step: Step, prompt: Prompt, rng: Random) -> list[int | None]:
    sections = prompt.request.sections
    if role.each is None:
        items = [i for i, s in enumerate(sections) if s.label == "item"]
        return [items[0] if len(items) == 1 else None]
    found = [i for i, s in enumerate(sections) if s.label == role.each]
    return list(found) if step.every or not found else [rng.choice(found)]


def _joiner(role: Role, lang: Lang, begun: bool) -> list[Segment]:
    if not begun:
        return []
    return ["\n" if role.newline else " " if lang == "en" else ""]


def _draw(role: Role, view: View, rng: Random) -> list[Segment] | None:
    order = sorted(range(len(role.patterns)), key=lambda i: rng.random() ** (1 / role.weights[i]), reverse=True)
    for index in order:
        filled = patterns.fill(role.patterns[index], view, rng)
        if filled is not None:
            return filled
    return None
