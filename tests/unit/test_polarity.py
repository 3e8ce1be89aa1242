"""Yes and no, praise and blame, as tables: a text with holes, and whether it contradicts the facts."""

from __future__ import annotations

import pytest

from edgegen import grounding, patterns, slots, tasks
from edgegen.domain import Lang, Request, Section
from tests.fakes.facts import ASPECTS, check, item, known, no, phrase, rules, yes

FLAGS = [item(yes("waterproof"), no("dishwasher safe"), yes("USB port", "has_"), no("night light", "has_"))]
EN_FLAGS = [
    ("{name} is {is}.", True), ("{name} is not {is}.", False), ("{name} has no {has}.", False),
    ("{name} comes with {has}.", True), ("{name} is not {isnt}.", True), ("{name} is {isnt}.", False),
    ("{name} has no {hasnt}.", True), ("{name} comes with a {hasnt}.", False), ("{name} is {is}, but not {isnt}.", True),
    ("{name} is not {isnt}, but it is {is}.", True), ("{name} is not {is}, but it is {isnt}.", False),
    ("If you need something {isnt}, note that {name} is not.", True), ("{name} is dishwasher safe and {is}.", False),
    ("{name} is not waterproof.", False), ("{name} is waterproof.", True), ("{name} comes without a night light.", True),
    ("{name} is not only {is} but also has a {has}.", True), ("No need to worry, {name} is {isnt}.", False),
    ("{name} is {isnt}, and it never costs more.", False), ("It never fails and {name} is {isnt}.", False),
    ("{name} is neither {isnt} nor does it have a {hasnt}.", True), ("{isnt}: no. See {name}.", True),
]  # fmt: skip
ZH_FLAGS_FACTS = [item(yes("防水"), no("可机洗"), yes("充电口", "has_"), no("夜灯", "has_"))]
ZH_FLAGS = [
    ("{name}{is}。", True), ("{name}不{is}。", False), ("{name}没有{has}。", False), ("{name}带有{has}。", True),
    ("{name}不{isnt}。", True), ("{name}{isnt}。", False), ("{name}没有{hasnt}。", True), ("{name}带有{hasnt}。", False),
    ("{name}{is}，但不{isnt}。", True), ("{name}不错，{is}。", True), ("{name}带有夜灯。", False),
    ("不妨看看{name}，{is}。", True), ("不用担心，{name}{isnt}。", False), ("{name}{isnt}，价格也不高。", False),
    ("不用担心它{isnt}，看看{name}。", False), ("{name}不{isnt}，也没有{hasnt}。", True),
]  # fmt: skip


YES_AND_NO = [("en", FLAGS, *row) for row in EN_FLAGS] + [("zh", ZH_FLAGS_FACTS, *row) for row in ZH_FLAGS]


@pytest.mark.parametrize(("lang", "sections", "text", "fine"), YES_AND_NO)
def test_yes_is_not_no(lang: Lang, sections: list[Section], text: str, fine: bool) -> None:
    """A yes flag is not denied and a no flag not affirmed, as a slot or in words."""
    assert (not rules(check(text, sections, lang=lang)) & {"contradiction", "claim"}) is fine


REVIEWS: list[tuple[Lang, str, bool]] = [
    ("en", "I like the {good} of {name}. The {okay} is fair. The {bad} let me down.", True),
    ("en", "I like the {bad} of {name}. The {okay} is fair. The {good} let me down.", False),
    ("en", "{name}: the {good} is great, but the {bad} needs work. The {okay} is okay.", True),
    ("en", "{name}: I am not happy with the {good}, the {bad} or the {okay}.", False),
    ("en", "{name}: I am not happy with the {good}. The {bad} and the {okay} are what they are.", False),
    ("en", "{name}: thumbs up for the {good}. What could be better: {bad}. So-so: {okay}.", True),
    ("zh", "{name}的{good}让我满意，但{bad}让我失望。{okay}还行。", True),
    ("zh", "{name}的{bad}让我满意，但{good}让我失望。{okay}还行。", False),
    ("zh", "{name}的{bad}不理想。{good}没让我失望，{okay}中规中矩。", True),
    ("zh", "{name}的{good}很差劲。{bad}和{okay}一般。", False),
    ("en", "{name}: I love the {good} and the {bad}. The {okay} is fair.", False),
    ("en", "{name}: I love the {okay}.", False), ("en", "{name}: I like the {good} and the {okay}.", False),
    ("en", "{name}: I like the {good}, the {okay} is fair, and the {bad} let me down.", True),
    ("en", "{name}: the {good} and the {bad} let me down.", False), ("en", "{name}: I love the {good}, but not the {bad}.", True),
    ("zh", "{name}的{good}和{bad}都让我满意。", False), ("zh", "{name}的{okay}让我满意。", False),
    ("zh", "{name}的{good}和{bad}都让我失望。", False), ("zh", "{name}的{good}让我满意，{okay}还行，{bad}让我失望。", True),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "fine"), REVIEWS)
def test_reviews_follow_the_stars(lang: Lang, text: str, fine: bool) -> None:
    """An aspect is praised or blamed as the shopper rated it."""
    assert ("contradiction" not in rules(check(text, ASPECTS, "review", lang))) is fine


DENIED: list[tuple[Lang, str, bool]] = [
    ("en", "{name} has no {feature}.", False), ("en", "{name} is not from {brand}.", False),
    ("en", "{name} comes without a {feature}.", False), ("en", "{name} comes with {feature}.", True),
    ("en", "No doubt you know {brand}: {name}.", True), ("zh", "{name}没有{feature}。", False),
    ("zh", "{name}不是{brand}的。", False), ("zh", "{name}带有{feature}。", True), ("zh", "不妨看看{feature}的{name}。", True),
]  # fmt: skip


@pytest.mark.parametrize(("lang", "text", "fine"), DENIED)
def test_facts_are_not_denied(lang: Lang, text: str, fine: bool) -> None:
    """A value right after a negation says the opposite of its fact."""
    facts = item(phrase("feature", "wide rim"), known("brand", "Oro"))
    assert ("contradiction" not in rules(check(text, [facts], lang=lang))) is fine


JUDGED = [
    ("I am happy with the {bad} of {name}.", False), ("I am happy with the {good} of {name}.", True),
    ("{name}: I like the {good} and the {bad}.", False), ("I like the {good} of {name}, but the {bad} let me down.", True),
    ("{name}: not happy with the {good}.", False), ("{name}: the {bad} is a letdown.", True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fine"), JUDGED)
def test_an_aspect_stands_after_words_that_fit_it(text: str, fine: bool) -> None:
    """Praise right before an aspect that got few stars is caught before anything follows, and nothing else is."""
    prompt = slots.bind(Request("review", "en", tuple(ASPECTS)))
    filled = patterns.fill(patterns.parse(text), patterns.View(prompt))
    assert filled
    begun = [filled[: i + 1] for i, part in enumerate(filled) if not isinstance(part, str)]
    assert any(grounding.misplaced(part, prompt, tasks.get("review")) for part in begun) is not fine
