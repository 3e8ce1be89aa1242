"""Values in texts: every way of writing one is found, never inside another word, and the text can be put together again."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from edgegen import slots, tasks
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.train.prepare import matching, spelled, texts

NAME = Fact("name", "Corvane 40", Kind.TEXT)


def found(text: str, *facts: Fact, lang: Lang = "en") -> str:
    """The text with `{key}` where a slot took a value's place."""
    prompt = tasks.get("tell").prompt(Request("tell", lang, (Section("item", facts),)))
    result = matching.find(text, prompt)
    return "".join(s if isinstance(s, str) else f"{{{s.fact.key}}}" for s in result.segments)


def price(amount: str, currency: str | None = "USD") -> Fact:
    return Fact("price", Decimal(amount), Kind.MONEY, currency=currency)


@pytest.mark.parametrize(
    ("fact", "text", "expected"),
    [
        (price("2000"), "It costs $2,000.", "It costs {price}."),
        (price("2000"), "It costs two thousand dollars.", "It costs {price}."),
        (price("2000"), "It costs 2000 dollars.", "It costs {price}."),
        (price("2000"), "Its price is 2k.", "Its price is {price}."),
        (price("2000"), "It has 2000 fans.", "It has 2000 fans."),
        (price("2000"), "Part 12000 or 2000.5.", "Part 12000 or 2000.5."),
        (Fact("rating", Decimal("4.8"), Kind.RATING), "Rated 4.80 out of 5.", "Rated {rating}."),
        (Fact("rating", Decimal("4.8"), Kind.RATING), "A 4.8-star pick.", "A {rating} pick."),
        (Fact("rating", Decimal("4.8"), Kind.RATING), "Its rating of 4.8 is fine.", "Its rating of {rating} is fine."),
        (Fact("similar_shoppers", Decimal(87), Kind.PERCENT), "87 percent chose it.", "{similar_shoppers} chose it."),
        (Fact("ports", Decimal(4), Kind.NUMBER, "hdmi port"), "It has four hdmi ports.", "It has {ports} hdmi ports."),
        (Fact("ports", Decimal(4), Kind.NUMBER, "hdmi port"), "A 4k screen, 14 of them.", "A 4k screen, 14 of them."),
        (Fact("size", "55 inch", Kind.MEASURE), "A 55-inch screen.", "A {size} screen."),
        (Fact("size", "55 inch", Kind.MEASURE), "It is 55 inches wide.", "It is {size}es wide."),
        (Fact("released", date(2026, 11, 24), Kind.DATE), "Out since 24 Nov 2026.", "Out since {released}."),
        (Fact("released", date(2026, 11, 24), Kind.DATE), "Out since 2026-11-24.", "Out since {released}."),
        (Fact("has_usb_port", True, Kind.FLAG, "usb port"), "With usb ports.", "With {has_usb_port}s."),
        (Fact("has_usb_port", True, Kind.FLAG, "usb port"), "It has has_usb_port.", "It has {has_usb_port}."),
        (Fact("material", "remote control and cable", Kind.PHRASE), "a remote control and a cable", "a {material}"),
        (Fact("grade", "a", Kind.PHRASE, "eco rating"), "a lamp with an a eco rating", "a lamp with an {grade} eco rating"),
        (Fact("grade", "a", Kind.PHRASE, "eco rating"), "a set with an eco rating of a", "a set with an eco rating of {grade}"),
        (Fact("grade", "a+", Kind.PHRASE, "eco rating"), "an a++ or an a+ one", "an a++ or an {grade} one"),
        (Fact("material", "oak", Kind.PHRASE), "A cloak of oak.", "A cloak of {material}."),
        (NAME, "The Corvane is here.", "The {name} is here."),
        (NAME, "the corvane 40's stand", "the {name}'s stand"),
    ],
)  # fmt: skip
def test_english_forms(fact: Fact, text: str, expected: str) -> None:
    """Formatted, spelled out, inflected; only where the number is this one and the word a word."""
    assert found(text, fact) == expected


@pytest.mark.parametrize(
    ("fact", "text", "expected"),
    [
        (price("2000", "CNY"), "售价两千元。", "售价{price}。"),
        (price("2000", "CNY"), "售价2,000元，很好。", "售价{price}，很好。"),
        (price("2000", "CNY"), "只要¥2000。", "只要{price}。"),
        (price("12000", "CNY"), "价格1.2万元。", "价格{price}。"),
        (Fact("discount", Decimal(15), Kind.DISCOUNT), "现在八五折。", "现在{discount}。"),
        (Fact("sales", Decimal(250), Kind.COUNT), "卖出二百五十件", "卖出{sales}件"),
        (Fact("rating", Decimal("4.8"), Kind.RATING), "评分四点八分", "评分{rating}"),
        (Fact("released", date(2026, 11, 4), Kind.DATE), "2026年11月4日上市", "{released}上市"),
        (Fact("material", "牛仔布", Kind.PHRASE), "采用牛仔布，挺括。", "采用{material}，挺括。"),
        (Fact("category", "裤", Kind.PHRASE), "裤腿宽，这条裤子长。", "裤腿宽，这条{category}子长。"),
    ],
)
def test_chinese_forms(fact: Fact, text: str, expected: str) -> None:
    """Chinese numerals, 折, and words of one character only where they stand for themselves."""
    assert found(text, fact, lang="zh") == expected


def test_the_longest_value_wins() -> None:
    """`oak veneer` is not `oak` with a word after it."""
    facts = Fact("material", "oak", Kind.PHRASE), Fact("finish", "oak veneer", Kind.PHRASE, "finish")
    assert found("Made of oak with an oak veneer.", *facts) == "Made of {material} with an {finish}."


def test_equal_values_go_to_their_labels() -> None:
    """Four of something and four of another: the words beside each decide, not the order."""
    facts = Fact("count", Decimal(4), Kind.NUMBER, "model"), Fact("ports", Decimal(4), Kind.NUMBER, "hdmi port")
    assert found("There are 4 models with 4 hdmi ports.", *facts) == "There are {count} models with {ports} hdmi ports."


def test_equal_values_go_to_their_products() -> None:
    """The second product's price is the second's, named first or last."""
    items = [Section("item", (Fact("name", name, Kind.TEXT), price("89"))) for name in ("Aven 1", "Bolt 2")]
    prompt = tasks.get("tell").prompt(Request("tell", "en", tuple(items)))
    result = matching.find("Bolt 2 costs $89, and Aven 1 costs $89.", prompt)
    assert [s.section for s in result.segments if isinstance(s, slots.Slot)] == [1, 1, 0, 0]


def test_copied_values_are_slots_wherever_they_stand() -> None:
    """A read value is one where it comes first; its words may come again."""
    facts = NAME, Fact("material", "oak", Kind.PHRASE)
    assert found("Corvane 40 is oak. Oak suits Corvane 40.", *facts) == "{name} is {material}. Oak suits {name}."


@pytest.mark.parametrize(
    "text", ["Corvane 40 has 2 usb ports and costs $1,250.", "For $1,250 there is Corvane 40, which is oak."]
)
def test_the_text_can_be_put_together_again(text: str) -> None:
    """Slots rendered give the text as it was."""
    facts = NAME, price("1250"), Fact("ports", Decimal(2), Kind.NUMBER, "usb port"), Fact("material", "oak", Kind.PHRASE)
    prompt = tasks.get("tell").prompt(Request("tell", "en", (Section("item", facts),)))
    result = matching.find(text, prompt)
    assert slots.render(result.segments, "en") == text and not result.rewritten
    assert slots.render(slots.parse(matching.written(result.segments), prompt), "en") == text


def test_a_value_written_another_way_is_listed() -> None:
    """What the rendered text says differently is known."""
    prompt = tasks.get("tell").prompt(Request("tell", "en", (Section("item", (price("2000"),)),)))
    assert matching.find("It costs two thousand dollars.", prompt).rewritten == (("two thousand dollars", "$2,000"),)


@pytest.mark.parametrize(
    ("number", "english", "chinese"),
    [(0, "zero", "零"), (12, "twelve", "十二"), (21, "twenty-one", "二十一"), (105, "one hundred five", "一百零五"),
     (2000, "two thousand", "两千"), (12_050, "twelve thousand fifty", "一万二千零五十")],
)  # fmt: skip
def test_spelled_numbers(number: int, english: str, chinese: str) -> None:
    """As both languages spell them."""
    assert spelled.english(number) == english
    assert chinese in spelled.words(Decimal(number), "zh")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Call 415-555-0123 now", "a phone number"), ("打13812345678", "a phone number"),
        ("mail a.b@shop.example", "an e-mail address"), ("身份证11010519491231002X", "an identity number"),
        ("at 12 Long Hill Road", "a street address"), ("中山路12号", "a street address"),
        ("card 4111 1111 1111 1111", "a card number"), ("a 4000 mAh battery, 12,000 sold, EAN 4006381333931", None),
    ],
)  # fmt: skip
def test_personal_data(text: str, what: str | None) -> None:
    """Data of persons are known; numbers of products are none."""
    assert texts.private(text) == what
