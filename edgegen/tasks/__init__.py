"""The tasks: one file each, found by scanning this folder; the file's name is the task's name.

A task says which sections and facts it needs, what a text must mention, how long it may get, and holds the template text
that is used when no text of the model passes. Training, serving and evaluation all go through the same object. To add a
task, add a file that defines `TASK`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from edgegen import patterns, slots
from edgegen.domain import Lang, Request
from edgegen.errors import DataError, UsageError
from edgegen.patterns import Pattern, View
from edgegen.slots import Prompt, Segment

_WORD = re.compile(r"[一-鿿]+|[^\W_一-鿿]+")
_CLOSE = 0.8  # of the best score: near enough for the model to decide
_ABOVE = 0.3  # what the names above the last one count
EVIDENCE = (
    "similar_shoppers", "also_bought", "liked", "bought", "viewed", "match", "quote", "trending", "new", "sales", "rating",
    "reviews", "discount", "price", "feature", "material", "style", "flavor", "scent", "occasion", "audience", "color",
    "season", "origin", "capacity", "size", "weight", "warranty", "shipping", "returns", "tags",
)  # fmt: skip


ITEM_LINES: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "- {name}: made for {audience}.", "- {name}: a pick for {occasion}.", "- {name}: it is {is}.",
        "- {name}: it has {has}.", "- {name}: it costs {price}.", "- {name}: it comes in {color}.",
        "- {name}: its size is {size}.", "- {name}: it holds {capacity}.", "- {name}: it weighs {weight}.",
        "- {name}: rated {rating}.", "- {name}: from {brand}.", "- {name}: from {origin}.",
        "- {name}: a {category} pick.",
    ),
    "zh": (
        "- {name}：适合{audience}。", "- {name}：适合{occasion}。", "- {name}：它{is}。", "- {name}：带有{has}。",
        "- {name}：售价{price}。", "- {name}：颜色为{color}。", "- {name}：尺寸为{size}。", "- {name}：容量为{capacity}。",
        "- {name}：重量为{weight}。", "- {name}：顾客评分{rating}。", "- {name}：由{brand}出品。", "- {name}：产自{origin}。",
        "- {name}：属于{category}。",
    ),
}  # fmt: skip
"""What can be said of nearly any product, for templates with a line for each."""


@dataclass(frozen=True, slots=True)
class Needs:
    """How many sections with a label a request must have, and which facts each of them."""

    label: str
    least: int = 1
    most: int = 1
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One step of a template: the first pattern that can be filled, once or for `each` section with a label."""

    patterns: tuple[str, ...]
    each: str | None = None
    optional: bool = False
    joiner: str | None = None


@dataclass(frozen=True, slots=True)
class Tells:
    """How much of the sections with a label a text tells: counts to draw from. `sections` empty: of all of them.

    `facts` counts what comes beside the facts that must be named.
    """

    facts: tuple[int, ...] = (0, 1)
    sections: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of text.

    `mentions` are keys whose facts the text must name (of every item when the task writes about several); `shows` is how
    many further facts it must use. `any_of` are keys of which the text must use one, where there is one; `every` are section
    labels each of which must contribute a fact, `whole` those whose facts must all be there, `given` those that only steer
    the text: the model always sees them and tells nothing of them. `tells` says, by label, how much a text tells
    (`edgegen.selection`), `in_order` that prompts show facts in the order of the request and the text finds its own.
    `max_new_tokens` bounds the text; `choices` marks a task that is decoded along a given list of texts and not freely, `own`
    one that only a retailer's own texts teach.
    """

    name: str
    about: str
    needs: tuple[Needs, ...]
    mentions: tuple[str, ...] = ("name",)
    shows: int = 1
    any_of: tuple[str, ...] = ()
    every: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    in_order: bool = False
    tells: Mapping[str, Tells] = field(default_factory=dict)
    max_new_tokens: int = 96
    max_sentences: int = 3
    temperature: float = 0.5
    choices: bool = False
    own: bool = False
    template: Mapping[Lang, tuple[Line, ...]] | None = None

    def check(self, request: Request) -> None:
        """Raise DataError where the request lacks what this task needs."""
        if self.choices and not request.choices:
            raise DataError(f"Task {self.name!r} needs choices: the shop's category paths. Give them with the catalogue.")
        for need in self.needs:
            found = request.labelled(need.label)
            if not need.least <= len(found) <= need.most:
                span = str(need.least) if need.least == need.most else f"{need.least} to {need.most}"
                raise DataError(f"Task {self.name!r} needs {span} section(s) {need.label!r}, got {len(found)}.")
            for key in need.facts:
                if any(section.get(key) is None for section in found):
                    raise DataError(f"Task {self.name!r} needs the fact {key!r} in every section {need.label!r}.")

    def prompt(self, request: Request) -> Prompt:
        """The bound prompt for a request. Raises DataError when the request does not fit the task."""
        self.check(request)
        return slots.bind(request, by_key=self.own)

    def draft(self, prompt: Prompt) -> list[Segment]:
        """The template text for a prompt, as segments."""
        if self.choices:
            return [likely(prompt.request)[0]]
        if self.template is None:
            raise DataError(f"Task {self.name!r} has no template.")
        view = View(prompt)
        out: list[Segment] = []
        joiner = " " if prompt.request.lang == "en" else ""
        for line in self.template[prompt.request.lang]:
            spent = Counter[str]()
            for scope in _scopes(line, prompt):
                sentence = _first(line, view if scope is None else view.scoped(scope), spent)
                if sentence is not None:
                    out += [line.joiner if line.joiner is not None else joiner] * bool(out) + sentence
        return out


def likely(request: Request) -> tuple[str, ...]:
    """The choices that share most with the request's words, best first: all that come close to the best one.

    A path's last name counts most, by whole words and by letters. Where nothing is shared, every choice is as likely.
    """
    title, whole = _parts(_words(request)[0]), _parts(" ".join(_words(request)))
    scores = {choice: _shared(choice, title, whole) for choice in request.choices}
    best = max(scores.values())
    found = [choice for choice in request.choices if scores[choice] >= _CLOSE * best]
    return tuple(sorted(found, key=lambda choice: -scores[choice]))


def _words(request: Request) -> list[str]:
    return [str(fact.value) for section in request.sections for fact in section] or [""]


def _shared(choice: str, title: set[str], whole: set[str]) -> float:
    *above, name = choice.split(" > ")
    last, rest = _parts(name), _parts(" ".join(above))
    return len(title & last) / max(1, len(last)) + _ABOVE * len(whole & rest) / max(1, len(rest))


def _parts(text: str) -> set[str]:
    """Words without a plural s, runs of three letters, pairs of Chinese characters."""
    out: set[str] = set()
    for word in _WORD.findall(text.casefold()):
        size = 2 if word > "一" else 3
        out |= {f"{word.removesuffix('s')} "} if size == 3 else set()
        out |= {word[i : i + size] for i in range(max(1, len(word) - size + 1))}
    return out


def _scopes(line: Line, prompt: Prompt) -> list[int | None]:
    sections = prompt.request.sections
    if line.each is None:
        return [next((i for i, s in enumerate(sections) if s.label == "item"), None)]
    return [i for i, s in enumerate(sections) if s.label == line.each]


def _first(line: Line, view: View, spent: Counter[str]) -> list[Segment] | None:
    # A pattern that has been used twice comes last, so that the lines of a list differ.
    for pattern in sorted(_parsed(line.patterns), key=lambda p: spent[p.source] > 1):
        filled = patterns.fill(pattern, view)
        if filled is not None:
            spent[pattern.source] += 1
            return filled
    if line.optional:
        return None
    raise DataError(f"Template line {line.patterns[-1]!r} cannot be filled. End it with a pattern that needs no optional fact.")


@cache
def _parsed(sources: tuple[str, ...]) -> tuple[Pattern, ...]:
    return tuple(map(patterns.parse, sources))


@cache
def every() -> tuple[str, ...]:
    """The names of all tasks, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


@cache
def names() -> tuple[str, ...]:
    """The names of the tasks that the corpus teaches and a catalogue can be asked for, sorted."""
    return tuple(name for name in every() if not get(name).own)


def asked(name: str) -> Task:
    """The task with this name, if a catalogue can be asked for it. Raises UsageError for any other."""
    if name not in names():
        raise _unknown(name)
    return get(name)


def _unknown(name: str) -> UsageError:
    return UsageError(f"Unknown task {name!r}. Known: {', '.join(names())}.", "task")


def get(name: str) -> Task:
    """The task with this name. Raises UsageError for an unknown one."""
    if name not in every():
        raise _unknown(name)
    task = importlib.import_module(f"{__name__}.{name}").TASK
    assert isinstance(task, Task), f"tasks/{name}.py must define TASK"  # noqa: S101 - a programmer's error, not a user's
    return task
