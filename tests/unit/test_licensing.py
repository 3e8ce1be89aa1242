"""Licensing: what is learnt from texts beside their facts, how it narrows what may be written, and that it survives a file."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from edgegen import licensing, selection, slots
from edgegen.decode import Decoder
from edgegen.domain import Fact, Kind, Level, Request, Section
from edgegen.engine.worker import Vocabulary
from edgegen.errors import PackError
from edgegen.licensing import Features
from edgegen.slots import END, SPECIALS, Prompt
from edgegen.train import tokenizer
from edgegen.train.dataset import Encoder, licensing_table
from edgegen.train.pairs import Pair

NAME, OTHER = Fact("name", "Oak Tray", Kind.TEXT), Fact("name", "Ash Bowl", Kind.TEXT)
TRENDING = Fact("trending", True, Kind.FLAG)
RATING = Fact("rating", Decimal("4.8"), Kind.RATING, level=Level.HIGH)


def prompt(*sections: tuple[Fact, ...], task: str = "reason") -> Prompt:
    """A prompt that shows all facts of its items."""
    return slots.bind(Request(task, "en", tuple(Section("item", facts) for facts in sections)))


def occurrences(rng: Random, count: int = 3000) -> list[tuple[int, Features]]:
    """Token 1 stands anywhere; 2 needs a, 3 needs b or c, 4 goes with d, which is nearly always there."""
    out: list[tuple[int, Features]] = []
    for _ in range(count):
        shown = frozenset({*(f for f in "abc" if rng.random() < 0.3), *("d" if rng.random() < 0.95 else ())})
        out.append((1, shown))
        out += [(2, shown)] * ("a" in shown) + [(3, shown)] * bool(shown & {"b", "c"}) + [(4, shown)] * ("d" in shown)
    return out


def test_what_is_learnt() -> None:
    """One licensor, two, none for a word that goes anywhere, and none for one that goes with what is always there."""
    assert licensing.learn(occurrences(Random(1))) == {
        1: frozenset(), 2: frozenset("a"), 3: frozenset("bc"), 4: frozenset()
    }  # fmt: skip


def test_a_slip_in_a_thousand_is_chance() -> None:
    """One text that says a word without its fact does not open it to all."""
    found = [(2, frozenset("a"))] * 999 + [(2, frozenset("b"))] + [(1, frozenset("b"))] * 4000
    assert licensing.learn(found)[2] == frozenset("a")


def test_features_of_a_prompt() -> None:
    """Keys, levels, doubles; with several items each has its own, and what stands alone belongs to all."""
    scopes = licensing.scopes(prompt((NAME, RATING), (OTHER, TRENDING)))
    assert scopes.everything == {"name", "name*2", "rating", "rating.high", "trending"}
    assert scopes.of(None) == scopes.everything
    assert scopes.of(0) == frozenset({"name", "rating", "rating.high"})
    assert scopes.of(1) == frozenset({"name", "trending"})
    assert licensing.scopes(prompt((NAME,))).of_section == {}


TEXTS = (
    ["<|v1|> is trending now.", "Take a look at <|v1|>."],
    [(NAME, TRENDING), (NAME,)],
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """A tokenizer on a few words."""
    return Encoder(tokenizer.train(TEXTS[0] * 4, len(SPECIALS) + 300))


def vocabulary(encoder: Encoder) -> Vocabulary:
    """The tokenizer's as an engine gives it."""
    words = encoder._backend
    pieces = tuple(words.decode([i], skip_special_tokens=False).encode() for i in range(words.get_vocab_size()))
    controls = frozenset(words.token_to_id(token) for token in SPECIALS)
    return Vocabulary(pieces, controls, words.token_to_id(END))


def test_a_table_of_another_model_is_refused(encoder: Encoder) -> None:
    """Before anything is written with it; and what is no table is none."""
    with pytest.raises(PackError, match="tokens that the model does not have"):
        Decoder(vocabulary(encoder), {"reason.en": {99_999: frozenset()}})
    for text in ('{"reason.en": [[[], [-1]]]}', '{"reason.en": [[[], ["a"]]]}', "[]", "{", '{"reason.en": 3}'):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            licensing.from_text(text)


def test_a_table_narrows_the_mask(encoder: Encoder) -> None:
    """A word that only the missing fact licenses, and one that no text has, cannot be written; the rest can."""
    pairs = [
        Pair(Request("reason", "en", (Section("item", facts),)), text)
        for text, facts in zip(*TEXTS, strict=True) for _ in range(40)
    ]  # fmt: skip
    table = licensing_table(encoder, pairs)
    assert licensing.from_text(licensing.to_text(table)) == table
    decoder = Decoder(vocabulary(encoder), table)
    with_it, without = decoder.mask(prompt((NAME, TRENDING))), decoder.mask(prompt((NAME,)))
    [trending] = encoder.text_ids(" trending")
    assert (with_it[trending], without[trending]) == (True, False)
    assert all(without[id_] for id_ in encoder.text_ids(" look at "))
    assert not with_it[encoder.text_ids("q")[0]]
    assert with_it[decoder.end] and without[decoder.end]
    other = selection.prompt(Request("product", "en", (Section("item", (NAME,)),)), ((NAME,),))
    assert decoder.mask(other)[trending], "no table for a task leaves it free"


def test_a_sentence_about_one_product_is_licensed_by_its_facts(encoder: Encoder) -> None:
    """After the second product's name the first one's facts license nothing, until the sentence has ended."""
    [trending] = encoder.text_ids(" trending")
    [stop] = encoder.text_ids(".")
    decoder = Decoder(vocabulary(encoder), {"reason.en": {trending: frozenset({"trending"}), stop: frozenset()}})
    bound = prompt((NAME, TRENDING), (OTHER,))
    scopes = licensing.scopes(bound)
    first, second = (encoder._controls[slot.control.token] for slot in bound.slots if slot.fact.key == "name")
    assert decoder.licensed(trending, [], bound, scopes)
    assert decoder.licensed(trending, [first], bound, scopes)
    assert not decoder.licensed(trending, [first, second], bound, scopes)
    assert decoder.licensed(trending, [second, stop], bound, scopes)


def test_what_follows_a_recommenders_clause_may_be_anothers(encoder: Encoder) -> None:
    """A clause is about the recommender that it names; after a comma the next one may come."""
    [trending] = encoder.text_ids(" trending")
    [comma] = encoder.text_ids(",")
    decoder = Decoder(vocabulary(encoder), {"joint.en": {trending: frozenset({"trending"}), comma: frozenset()}})
    source = Fact("source", "sales", Kind.PHRASE)
    sections = (Section("item", (NAME,)), Section("by", (source,)), Section("by", (source, TRENDING)))
    bound = slots.bind(Request("joint", "en", sections))
    scopes = licensing.scopes(bound)
    first = next(encoder._controls[slot.control.token] for slot in bound.slots if slot.section == 1)
    assert not decoder.licensed(trending, [first], bound, scopes)
    assert decoder.licensed(trending, [first, comma], bound, scopes)
