"""Which fact a slot is told of, as tables: amounts, labels, what several products share."""

from __future__ import annotations

from decimal import Decimal

import pytest

from edgegen import grounding, patterns, slots, tasks
from edgegen.domain import Fact, Kind, Lang, Request, Section
from tests.fakes.facts import ASPECTS, check, item, known, phrase, rules

PRICED = [item(known("price", Decimal(20)), known("was_price", Decimal(25))),
          Section("shopper", (known("budget", Decimal(50)),)), Section("guide", (known("lowest"), known("highest")))]  # fmt: skip
PRICES: list[tuple[Lang, str, bool]] = [
    ("en", "{name} costs {was_price}.", False), ("en", "{name}: {was_price}.", False), ("en", "{name} costs {budget}.", False),
    ("en", "- {name}: it costs {lowest}.", False), ("en", "{name}, now {was_price}.", False),
    ("en", "Look at {name} for {budget}.", False), ("en", "{name} starts at {lowest}.", False),
    ("en", "{name} costs {price}.", True), ("en", "{name} was {was_price}, now {price}.", True),
    ("en", "{name} is down from {was_price} to {price}.", True), ("en", "{name}: the original price was {was_price}.", True),
    ("en", "Prices run from {lowest} to {highest}. See {name}.", True), ("en", "Your budget is {budget}. See {name}.", True),
    ("en", "With {budget} to spend, look at {name}.", True), ("en", "The lowest price is {lowest}. See {name}.", True),
    ("zh", "{name}售价{was_price}。", False), ("zh", "{name}：{was_price}。", False), ("zh", "{name}价格{budget}。", False),
    ("zh", "{name}售价{lowest}。", False), ("zh", "{name}要{budget}。", False), ("zh", "{name}售价{price}。", True),
    ("zh", "{name}原价{was_price}，现在{price}。", True), ("zh", "价格从{lowest}到{highest}。看看{name}。", True),
    ("zh", "按{budget}的预算看看{name}。", True),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "fine"), PRICES)
def test_amounts_say_what_they_are(lang: Lang, text: str, fine: bool) -> None:
    """What something costs is its price, not its old price, a budget or an end of the category's range."""
    assert ("context" not in rules(check(text, PRICED, lang=lang))) is fine


LABELLED = [item(Fact("grade", "A", Kind.PHRASE, label="grade"), Fact("cut", "slim", Kind.PHRASE, label="cut"))]
LABELS: list[tuple[str, str, list[Section], bool]] = [
    ("en", "{name} has {attr.key} listed as {attr2}.", LABELLED, False), ("en", "{name}, {attr.key}: {attr}.", LABELLED, True),
    ("en", "{name} has {attr.key} listed as {attr} and {attr2.key} as {attr2}.", LABELLED, True),
    ("zh", "{name}，{attr.key}为{attr2}。", LABELLED, False), ("zh", "{name}，{attr.key}为{attr}。", LABELLED, True),
    ("en", "The {good} of {name} gets {bad.stars}. The {okay} is fair.", ASPECTS, False),
    ("en", "{name}: {bad.stars} for the {good}.", ASPECTS, False), ("en", "{name}: {good.stars} for the {good}.", ASPECTS, True),
    ("en", "The {good} gets {good.stars}, and {name} gets {bad.stars} for the {bad}.", ASPECTS, True),
    ("zh", "{name}的{good}打{bad.stars}。", ASPECTS, False),
    ("zh", "{name}的{good}打{good.stars}，{bad}打{bad.stars}。", ASPECTS, True),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "sections", "fine"), LABELS)
def test_values_stand_under_their_own_label(lang: Lang, text: str, sections: list[Section], fine: bool) -> None:
    """A value or a rating after another fact's label is caught, in a text in the making too."""
    task = tasks.get("review" if sections is ASPECTS else "reason")
    assert ("context" not in rules(check(text, sections, task.name, lang))) is fine
    prompt = slots.bind(Request(task.name, lang, tuple(sections)))
    filled = patterns.fill(patterns.parse(text), patterns.View(prompt))
    assert filled
    begun = [filled[: i + 1] for i, part in enumerate(filled) if not isinstance(part, str)]
    assert any(grounding.misplaced(part, prompt, task) for part in begun) is not fine


TWO = [
    item(known("price", Decimal(5)), phrase("material", "oak")),
    Section("item", (Fact("name", "Cup", Kind.TEXT), known("price", Decimal(90)), phrase("material", "oak"))),
    Section("shopper", (known("budget", Decimal(50)),)),
]
SHARED: list[tuple[Lang, str, set[str]]] = [
    ("en", "{1.name} and {2.name} cost {1.price}.", {"mixed"}), ("zh", "{1.name}和{2.name}都卖{1.price}。", {"mixed"}),
    ("en", "{1.name} and {2.name} cost {1.price} and {2.price}.", set()),
    ("en", "{1.name} and {2.name} are made of {1.material}.", set()),
    ("en", "{1.name} and {2.name}: everything here is within your budget.", {"claim"}),
    ("en", "- {1.name}: {1.price}.\n- {2.name}: {2.price}.\nEverything here is within your budget.", {"claim"}),
    ("en", "- {1.name}: {1.price}, within your budget.\n- {2.name}: {2.price}.", set()),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "broken"), SHARED)
def test_what_is_told_of_several_holds_for_each(lang: Lang, text: str, broken: set[str]) -> None:
    """One value after two names, and a claim about everything."""
    assert rules(check(text, TWO, "list", lang)) & {"mixed", "claim"} == broken
