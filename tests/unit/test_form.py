"""How a text is made: its form, what comes again in it, and which slots may follow which words."""

from __future__ import annotations

from decimal import Decimal

import pytest

from edgegen import grounding, slots, tasks
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.slots import Segment
from tests.fakes.facts import check, item, known, rules


def rules_of(text: str, request: Request) -> set[str]:
    """The rules that a text breaks whose holes are the first slots with these keys."""
    prompt = slots.bind(request)
    by_key = {slot.fact.key: slot for slot in reversed(prompt.slots)}
    parts = text.replace("{", "\0{").replace("}", "}\0").split("\0")
    segments: list[Segment] = [by_key[part[1:-1]] if part.startswith("{") else part for part in parts if part]
    return rules(grounding.check(segments, prompt, tasks.get(request.task)))


FORMS: list[tuple[Lang, str, str | None]] = [
    ("en", "Have a look at {name}, it costs {price}.", None), ("en", "Have a look at {name}, it costs {price}", "open"),
    ("en", "A. B. C. D {name} costs {price}.", "form"), ("en", 'Have a look at "{name}, it costs {price}.', "open"),
    ("en", "Have a look <| at {name}, it costs {price}.", "form"), ("en", "about {name}? It costs {price}.", "form"),
    ("en", "{name} costs {price}. The brand is .", "form"), ("en", "{name} costs {price} and.", "form"),
    ("en", "It costs {price}. See what {name} is.", None), ("en", "It costs {price}. {name} comes with a.", "form"),
    ("en", "It costs {price}. {name} comes with.", "form"), ("en", "{name} has a price of. It costs {price}.", "form"),
    ("en", "At {price}, {name} is one to go for. It is one to be proud of.", None),
    ("en", "Have a 看 look at {name}, it costs {price}.", "language"),
    ("en", "{name} is worth a look today. It is worth a look today at {price}.", "repetition"),
    ("en", "{name} costs {price}. It costs {price}.", "repetition"), ("en", "See {name}. {name} costs {price}.", None),
    ("en", "{name} is a  look at {price}.", "repetition"), ("en", "{name} is a a pick at {price}.", "repetition"),
    ("zh", "{name}, {price}.", "language"), ("zh", "不妨看看{name}, it costs {price}.", "language"),
    ("zh", "不妨看看{name}，售价{price}。", None), ("zh", "这款可以放进备选，{name}可以放进备选，售价{price}。", "repetition"),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "rule"), FORMS)
def test_form(lang: Lang, text: str, rule: str | None) -> None:
    """Punctuation, length, quotes, control marks, language and repetition."""
    found = rules_of(text, Request("reason", lang, (item(known("price", Decimal(5))),)))
    assert found == ({rule} if rule else set())


def test_a_name_comes_once_in_a_sentence_and_heads_one_line() -> None:
    """A product that is named again in the same breath, or has two lines of a list, is a text off its course."""
    assert rules(check("{name}, {name}: it costs {price}.", [item(known("price"))])) == {"repetition"}
    assert rules(check("{name} costs {price}. {name} may be worth a look.", [item(known("price"))])) == set()
    two = [item(known("price")), Section("item", (Fact("name", "Cup", Kind.TEXT), known("price")))]
    lines = "A list:\n- {1.name}: it costs {1.price}.\n- {2.name}: it costs {2.price}."
    assert rules(check(lines, two, "list")) == set()
    assert rules(check(lines + "\n- {1.name}: worth a look.", two, "list")) == {"repetition"}
    assert "mixed" in rules(check("A list:\n- {1.name}: {2.name}, it costs {2.price}.", two, "list"))


def test_a_brand_is_told_once() -> None:
    """The second time it is no news."""
    assert rules(check("{name} is from {brand}. It costs {price}.", [item(known("brand"), known("price"))])) == set()
    assert "repetition" in rules(check("{name} is from {brand}. It comes from {brand}.", [item(known("brand"), known("price"))]))


QUOTE = item(known("quote"), known("price"))
SOURCES = [item(known("price")), Section("by", (known("source"), known("sales"))), Section("by", (known("source"),))]


@pytest.mark.parametrize(
    ("text", "sections", "task", "wrong"),
    [
        ('A shopper says of {name}: "{quote}".', [QUOTE], "reason", False),
        ('The reason for {name}: you like "{quote}".', [QUOTE], "reason", True),
        ('{name} costs {price}. It is "{quote}".', [QUOTE], "reason", True),
        ("{name} sells: {sales}, according to {source}.", SOURCES, "joint", False),
        ("{name}, according to {price}.", SOURCES, "joint", True),
        ("{name}, going by {sales}.", SOURCES, "joint", True),
    ],
)
def test_words_that_only_some_slots_may_follow(text: str, sections: list[Section], task: str, wrong: bool) -> None:
    """A quotation is neither a wish nor what a product is; evidence is no recommender."""
    assert ("context" in rules_of(text, Request(task, "en", tuple(sections)))) is wrong
