"""The notations of facts: meaning representations, attribute strings."""

from __future__ import annotations

import pytest

from edgegen.domain import Kind
from edgegen.errors import DataError
from edgegen.train.prepare import attributes, representation
from edgegen.train.prepare.representation import Labels

WORDS = Labels({"hdmiport": "hdmi port", "hasusbport": "has usb port", "pricerange": "price range"})


def request(text: str) -> list[tuple[str, list[tuple[str, object]]]]:
    made = representation.request(representation.parse(text), "en", WORDS, "tell")
    return [(s.label, [(f.key, f.value) for f in s]) for s in made.sections]


@pytest.mark.parametrize(
    ("text", "acts"),
    [
        ("inform(name=aven 1;price=$5)", [("inform", (("name", "aven 1"), ("price", "$5")))]),
        ("?request(area)", [("?request", (("area", None),))]),
        ("?reqmore()", [("?reqmore", ())]),
        ("inform(name='Aven; 1')", [("inform", (("name", "Aven; 1"),))]),
        ("recommend(name[Aven, 1], price[low])", [("recommend", (("name", "Aven, 1"), ("price", "low")))]),
        ("name[Aven 1], near[Old Mill]", [("", (("name", "Aven 1"), ("near", "Old Mill")))]),
        ("inform(a=1)&?request(b)", [("inform", (("a", "1"),)), ("?request", (("b", None),))]),
    ],
)
def test_parse(text: str, acts: list[tuple[str, tuple[tuple[str, str | None], ...]]]) -> None:
    """Every notation gives acts and slots in order."""
    assert [(act.name, act.slots) for act in representation.parse(text)] == acts


@pytest.mark.parametrize("text", ["", "no facts here", "inform(name=a", "name[a]] x"])
def test_what_is_no_representation(text: str) -> None:
    """It is refused with what to write."""
    with pytest.raises(DataError, match="is no meaning representation"):
        representation.parse(text)


def test_nothing_is_lost() -> None:
    """The act and what is of no matter steer the text; numbers, flags and words become facts of their kinds."""
    made = request("inform_count(count=4;type=lamp;hdmiport=2;hasusbport=false;pricerange=dontcare;family=none)")
    assert made == [
        ("act", [("act", "inform count"), ("price_range", "any"), ("family", "unknown")]),
        ("item", [("products", 4), ("category", "lamp"), ("hdmi_port", 2), ("has_usb_port", False)]),
    ]


def test_a_name_that_comes_again_begins_another_item() -> None:
    """Both sides of a comparison keep what is theirs."""
    made = request("?compare(name=aven 1;hdmiport=2;name=bolt 2;hdmiport=3)")
    assert [label for label, _ in made] == ["act", "item", "item"]
    assert made[2] == ("item", [("name", "bolt 2"), ("hdmi_port", 3)])


def test_values_that_come_again_stay() -> None:
    """A choice between values has them all."""
    assert request("?select(hdmiport=3;hdmiport=4)")[1] == ("item", [("hdmi_port", 3), ("hdmi_port", 4)])


def test_the_order_of_slots_makes_no_other_representation() -> None:
    """But which product has which value does."""
    same = [representation.canonical(representation.parse(t)) for t in ("inform(a=1;b=2)", "inform(b=2;a=1)")]
    assert same[0] == same[1]
    compared = ("?compare(name=a;x=1;name=b;x=2)", "?compare(name=a;x=2;name=b;x=1)")
    first, second = (representation.canonical(representation.parse(text)) for text in compared)
    assert first != second


def test_labels_are_learnt_from_the_texts() -> None:
    """`screensizerange` is called what the texts call it; what they never say keeps its name."""
    acts = representation.parse("inform(screensizerange=small;hasusbport=true;wifi=b)")
    found = representation.labels(acts, ["a small screen size range and usb ports", "one usb port", "its screen size range"])
    assert found.of("screensizerange") == "screen size range"
    assert found.of("hasusbport") == "has usb port"
    assert found.of("wifi") == "wifi"
    acts = representation.parse("inform(dogsallowed=no)")
    assert representation.labels(acts, ["dogs are not allowed"]).of("dogsallowed") == "dogs allowed"


def test_policies() -> None:
    """Digits are copied, words are read, a number that shows as it stands is a number."""
    made = representation.request(
        representation.parse("inform(size=55 inch;kind=flat;ports=2;code=2000;stars=4 out of 5)"), "en", WORDS, "tell"
    )
    assert [fact.kind for fact in made.sections[1]] == [Kind.MEASURE, Kind.PHRASE, Kind.NUMBER, Kind.MEASURE, Kind.RATING]


def test_attribute_strings() -> None:
    """Keys may come again; what kind of thing it is steers the text."""
    pairs = attributes.parse("类型#上衣*风格#简约*风格#复古*衣样式#外套")
    made = attributes.request(pairs, "zh", "tell")
    assert [(f.key, f.value) for f in made.sections[0]] == [("category", "上衣")]
    assert [(f.key, f.label, f.value) for f in made.sections[1]] == [
        ("style", None, "简约"), ("style", None, "复古"), ("衣样式", "衣样式", "外套"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="Write attribute#value"):
        attributes.parse("上衣")
