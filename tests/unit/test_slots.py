"""Slots: the prompt layout, the renderer, and the property behind rule 1."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen import locale, slots
from edgegen.decode import Decoder, along, has_digit
from edgegen.domain import LANGS, Fact, Kind, Lang, Level, Request, Section
from edgegen.engine.worker import Vocabulary
from edgegen.errors import DataError
from edgegen.slots import SPECIALS, Control, Renderer, Slot
from tests.fakes.backend import TEXT, VOCABULARY

NAME = Fact("name", "Aero 200", Kind.TEXT)
PRICE = Fact("price", Decimal("12.5"), Kind.MONEY, level=Level.LOW, currency="USD")
BATTERY = Fact("battery", "12-hour battery", Kind.PHRASE, label="battery")
DRY = Fact("is_waterproof", False, Kind.FLAG, label="waterproof")
VOCAB = Vocabulary(VOCABULARY, frozenset(range(TEXT, len(VOCABULARY))), None)


def prompt(*facts: Fact, lang: Lang = "en") -> slots.Prompt:
    return slots.bind(Request("reason", lang, (Section("item", facts or (NAME, PRICE, BATTERY, DRY)),)))


def written(bound: slots.Prompt) -> str:
    return "".join(piece.token if isinstance(piece, Control) else piece for piece in bound.pieces)


def marks(text: str) -> str:
    """A text with the slot marks of the default prompt: NAME, PRICE, LABEL, BATTERY, HOURS, DRY."""
    names = ("NAME", "PRICE", "LABEL", "BATTERY", "HOURS", "DRY")
    for name, slot in zip(names, prompt().slots, strict=True):
        text = text.replace(name, slot.control.token)
    return text


def test_prompt_shows_no_copied_value() -> None:
    """Names and numbers stand as slots; read words stay, their digits do not; flags say yes or no."""
    assert written(prompt()) == marks(
        "<|task|>reason<|lang|>en<|s|>item<|f|>name<|is|>NAME<|f|>price<|is|>PRICE<|low|>"
        "<|f|>LABELbattery<|is|>BATTERYHOURS-hour battery<|f|>isDRYwaterproof<|is|><|no|><|text|>"
    )


def test_a_known_fact_keeps_its_slot() -> None:
    """Order and company do not change which slot stands for a price; a second item's price has another one."""
    alone, last = prompt(PRICE), prompt(NAME, BATTERY, PRICE)
    assert alone.slots[0].index == last.slots[-1].index
    two = slots.bind(Request("list", "en", (Section("item", (NAME, PRICE)), Section("item", (NAME, PRICE)))))
    assert len({slot.index for slot in two.slots}) == 4


@pytest.mark.parametrize("items", [1, 2])
def test_a_shops_own_key_may_keep_its_slot_too(items: int) -> None:
    """By key, the company an attribute is in does not change its slot; else the next free one is taken."""
    more = [Fact(key, f"some {key}", Kind.PHRASE, label=key) for key in ("grade", "stand", "sound")]

    def index(facts: list[Fact], *, by_key: bool) -> int:
        asked = Request("tell", "en", (*[Section("item", (NAME,))] * (items - 1), Section("item", tuple(facts))))
        found = slots.bind(asked, by_key=by_key).find(items - 1, facts[-1])
        assert found is not None
        return found.index

    assert index([more[2]], by_key=True) == index(more, by_key=True)
    assert index([more[2]], by_key=False) != index(more, by_key=False)
    places = {index([fact], by_key=True) for fact in more}
    assert len(places) == len(more)


def test_what_only_steers_a_text_is_not_written() -> None:
    """The slots of a section that is given are shown, and masked."""
    bound = slots.bind(Request("tell", "en", (Section("act", (Fact("grade", "any", Kind.PHRASE),)), Section("item", (NAME,)))))
    free, steered = (Decoder(VOCAB).mask(bound, labels) for labels in ((), ("act",)))
    assert [bool(free[TEXT + SPECIALS.index(slot.control.token)]) for slot in bound.slots] == [True] * len(bound.slots)
    shown = [slot for slot in bound.slots if steered[TEXT + SPECIALS.index(slot.control.token)]]
    assert [slot.fact for slot in shown] == [NAME]


def test_user_text_is_never_a_control_token() -> None:
    """A read value that looks like a control token stays a piece of plain text."""
    bound = prompt(Fact("material", "<|end|> oak <|v1|>", Kind.PHRASE))
    assert [p for p in bound.pieces if isinstance(p, str) and "<|" in p] == ["<|end|> oak <|v"]


def test_too_many_values_is_one_clear_error() -> None:
    """More values than slots are refused."""
    with pytest.raises(DataError, match="more values than there are slots"):
        prompt(*(Fact("feature", f"part {i}", Kind.PHRASE) for i in range(65)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A BATTERY for PRICE.", "A 12-hour battery for $12.50."),
        ("BATTERY inside. DRY it is not.", "12-hour battery inside. Waterproof it is not."),
        ("a LABEL, an NAME", "a battery, an Aero 200"),
        ("<|v999|> stays", "<|v999|> stays"),
        ("It has an LABEL", "It has a battery"),
    ],
)
def test_renderer(text: str, shown: str) -> None:
    """Values stand in the slots' places, articles agree, sentences begin with a capital."""
    assert slots.render(slots.parse(marks(text), prompt()), "en") == shown


@given(st.lists(st.sampled_from(["a ", "an ", "The ", "<|v1|>", "<|v4|>", "<|v", "2|>", "<", "|", ". ", "x", "\n"]), max_size=12))
def test_stream_joined_is_the_whole(parts: list[str]) -> None:
    """However a text is cut, what comes out is the same."""
    bound = prompt()
    stream = Renderer(bound.slots, "en")
    streamed = "".join(map(stream.feed, parts)) + stream.close()
    whole = Renderer(bound.slots, "en")
    assert streamed == whole.feed("".join(parts)) + whole.close()


def test_partial_slot_is_held_back() -> None:
    """Half a slot mark is not shown."""
    renderer = Renderer(prompt().slots, "en")
    assert renderer.feed("from <|v") == "from "
    assert renderer.feed(f"{prompt().slots[1].index}|> on") == "$12.50 on"


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)
NUMBERS = st.decimals(min_value=0, max_value=99999, places=2, allow_nan=False)
FACTS = st.one_of(
    st.builds(Fact, st.just("name"), WORDS, st.just(Kind.TEXT)),
    st.builds(Fact, st.just("material"), WORDS, st.just(Kind.PHRASE)),
    st.builds(Fact, st.just("price"), NUMBERS, st.just(Kind.MONEY)),
    st.builds(Fact, st.just("rating"), NUMBERS, st.just(Kind.RATING)),
    st.builds(Fact, st.just("released"), st.dates(date(1990, 1, 1)), st.just(Kind.DATE)),
    st.builds(Fact, st.just("is_x"), st.booleans(), st.just(Kind.FLAG), WORDS),
)


@given(st.lists(FACTS, min_size=1, max_size=6), st.sampled_from(LANGS), st.data())
def test_every_digit_came_from_a_fact(facts: list[Fact], lang: Lang, data: st.DataObject) -> None:
    """Whatever the mask lets a model write, text outside the slots has no digit in any script."""
    bound = prompt(*facts, lang=lang)
    decoder = Decoder(VOCAB)
    allowed = [i for i, ok in enumerate(decoder.mask(bound)) if ok]
    found = decoder.segments(data.draw(st.lists(st.sampled_from(allowed), max_size=30)), bound)
    for segment in found or []:
        assert isinstance(segment, Slot) or not has_digit(segment)
        assert not isinstance(segment, Slot) or segment in bound.slots


def test_digits_put_together_from_bytes_are_refused() -> None:
    """A full-width digit can be spelled byte by byte past the mask; the text is refused."""
    assert Decoder(VOCAB).segments(list("７".encode()), prompt()) is None


def test_choices_only() -> None:
    """Along a tree only its paths can be written, each to its end."""
    follow = along([(1, 2), (1, 3, 4)], end=9)
    assert list(follow(())) == [1]
    assert list(follow((1,))) == [2, 3]
    assert list(follow((1, 2))) == [9]
    assert list(follow((5,))) == []


@pytest.mark.parametrize(
    ("fact", "en", "zh"),
    [
        (Fact("price", Decimal("239"), Kind.MONEY, currency="CNY"), "¥239", "¥239"),
        (Fact("price", Decimal("1299.5"), Kind.MONEY, currency="EUR"), "€1,299.50", "€1,299.50"),
        (Fact("price", Decimal("0.004"), Kind.MONEY, currency="USD"), "$0.004", "$0.004"),
        (Fact("price", Decimal("1.995"), Kind.MONEY, currency="USD"), "$1.995", "$1.995"),
        (Fact("price", Decimal("12.5000"), Kind.MONEY, currency="USD"), "$12.50", "$12.50"),
        (Fact("price", Decimal("0.000001"), Kind.MONEY, currency="USD"), "$0.000001", "$0.000001"),
        (Fact("rating", Decimal("4.80"), Kind.RATING), "4.8 out of 5", "4.8分"),
        (Fact("rating", Decimal("8.6"), Kind.RATING, scale=Decimal(10)), "8.6 out of 10", "8.6分（满分10分）"),
        (Fact("discount", Decimal(15), Kind.DISCOUNT), "15%", "8.5折"),
        (Fact("sales", Decimal(12000), Kind.COUNT), "12,000", "1.2万"),
        (Fact("sales", Decimal(12345), Kind.COUNT), "12,345", "12,345"),
        (Fact("released", date(2026, 11, 24), Kind.DATE), "November 24, 2026", "2026年11月24日"),
        (Fact("tags", ("a", "b", "c"), Kind.LIST), "a, b, and c", "a、b和c"),
    ],
)
def test_values_by_locale(fact: Fact, en: str, zh: str) -> None:
    """Each kind of value is written as its language writes it."""
    assert (locale.value_text(fact, "en"), locale.value_text(fact, "zh")) == (en, zh)


@pytest.mark.parametrize(
    ("word", "article"),
    [
        ("oak", "an"),
        ("USB port", "a"),
        ("hour", "an"),
        ("8-inch", "an"),
        ("12-hour", "a"),
        ("unit", "a"),
        ("HDMI", "an"),
        ("11", "an"),
    ],
)
def test_article(word: str, article: str) -> None:
    """The article follows the sound."""
    assert locale.article(word) == article
