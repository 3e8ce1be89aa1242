"""Facts and texts with holes, and the verdict on them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from edgegen import grounding, patterns, schema, slots, tasks
from edgegen.domain import Fact, Kind, Lang, Level, Request, Section, Value
from edgegen.grounding import Verdict
from edgegen.slots import Segment

VALUES: dict[Kind, Value] = {
    Kind.TEXT: "Amber Finch", Kind.MEASURE: "500 ml", Kind.PHRASE: "plain", Kind.LIST: ("plain",), Kind.FLAG: True,
    Kind.DATE: date(2026, 5, 1),
}  # fmt: skip
NAME = Fact("name", "Mug", Kind.TEXT)


def known(key: str, value: Value | None = None, level: Level | None = None) -> Fact:
    """A fact with a key of the schema."""
    kind = schema.known()[key].kind
    return Fact(key, VALUES.get(kind, Decimal(7)) if value is None else value, kind, level=level)


def yes(label: str, form: str = "is_") -> Fact:
    """A flag that is so."""
    return Fact(form + label.replace(" ", "_"), True, Kind.FLAG, label=label)


def no(label: str, form: str = "is_") -> Fact:
    """A flag that is not so."""
    return Fact(form + label.replace(" ", "_"), False, Kind.FLAG, label=label)


def aspect(label: str, level: Level) -> Fact:
    """An aspect with the shopper's own stars."""
    stars = {Level.HIGH: 5, Level.MID: 3, Level.LOW: 1}[level]
    return Fact(label, Decimal(stars), Kind.ASPECT, label=label, level=level)


def check(text: str, sections: list[Section], task: str = "reason", lang: Lang = "en") -> Verdict:
    """The verdict on a text with holes; `§2|` puts section 2 in scope for the holes that follow."""
    handler = tasks.get(task)
    prompt = slots.bind(Request(task, lang, tuple(sections)))
    segments: list[Segment] = []
    view = patterns.View(prompt)
    for part in text.split("§"):
        scope, _, body = part.rpartition("|") if part[:1].isdigit() else ("", "", part)
        filled = patterns.fill(patterns.parse(f"{body}"), view.scoped(int(scope)) if scope else patterns.View(prompt))
        assert filled is not None, f"{body!r} cannot be filled"
        segments += filled
    return grounding.check(segments, prompt, handler)


def item(*facts: Fact) -> Section:
    """A product called Mug with these facts."""
    return Section("item", (NAME, *facts))


def rules(verdict: Verdict) -> set[str]:
    """The rules that were broken."""
    return {violation.rule for violation in verdict.violations}


def phrase(key: str, value: str) -> Fact:
    """A fact in words."""
    return Fact(key, value, Kind.PHRASE)


ASPECTS = [item(), Section("ratings", (aspect("fit", Level.HIGH), aspect("sole", Level.MID), aspect("color match", Level.LOW)))]
