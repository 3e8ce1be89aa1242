"""Augmentation: every way changes something, nothing untrue comes of it, and the same seed gives the same copies."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen import claims, explain, slots, tasks
from edgegen.domain import LANGS, Fact, Kind, Lang, Request, Section
from edgegen.errors import OptionError
from edgegen.train import augment, pairs
from edgegen.train.augment import check, dropout, facts, order, parts, plans, synonyms
from edgegen.train.corpus import generate
from edgegen.train.pairs import Pair

ALL = [(task, lang) for task in tasks.names() for lang in LANGS]
NAME, PRICE = Fact("name", "Oak desk", Kind.TEXT), Fact("price", Decimal(120), Kind.MONEY, currency="USD")
MATERIAL, RATING = Fact("material", "oak", Kind.PHRASE), Fact("rating", Decimal("4.8"), Kind.RATING)


def pair(text: str, *sections: Section, task: str = "product", lang: Lang = "en") -> Pair:
    """A pair whose text writes its facts as {key}, those of the second item as {2.key}."""
    request = Request(task, lang, sections)
    items = [index for index, section in enumerate(sections) if section.label == "item"]
    for slot in tasks.get(task).prompt(request).slots:
        number = items.index(slot.section) + 1 if slot.section in items else 0
        name = slot.fact.key if number < 2 else f"{number}.{slot.fact.key}"
        if slot.part == "value":
            text = text.replace(f"{{{name}}}", slot.control.token)
    assert "{" not in text
    return Pair(request, text)


def read(made: Pair | None) -> str:
    """A pair's text as a reader sees it."""
    assert made is not None
    return slots.render(slots.parse(made.text, tasks.get(made.request.task).prompt(made.request)), made.request.lang)


def every(way: Any, of: Pair) -> set[str]:
    """What a way makes of a pair, over many seeds."""
    return {read(made) for seed in range(40) if (made := way.change(of, Random(seed))) is not None}


DESK = Section("item", (NAME, PRICE, MATERIAL, RATING))
PROSE = pair("Meet {name}. It costs {price}. It is made of {material}. Shoppers rate it {rating}.", DESK)
LAMP = Section("item", (Fact("name", "Ash lamp", Kind.TEXT), Fact("price", Decimal(30), Kind.MONEY, currency="USD")))
TWO = "A list:\n- {name}: made of {material}.\n- {2.name}: it costs {2.price}."
LIST = pair(TWO, DESK, LAMP, task="list")


def test_order_moves_what_tells_facts() -> None:
    """The sentence that names the product stays; all orders of the others come."""
    found = every(order, PROSE)
    assert len(found) == 6 and all(text.startswith("Meet Oak desk. ") for text in found)
    assert {tuple(sorted(text.strip(".").split(". "))) for text in found} == {tuple(sorted(read(PROSE).strip(".").split(". ")))}
    told = {check.seen(made)[0] for seed in range(20) if (made := order.change(PROSE, Random(seed)))}
    assert len(told) > 1, "the prompt shows the facts in the order of telling"


def test_order_takes_sections_along() -> None:
    """The products of a list are shown in the order in which it names them; its head stays."""
    found = every(order, LIST)
    turned = "A list:\n- Ash lamp: it costs $30.\n- Oak desk: made of oak."
    assert found == {read(LIST), turned}
    made = next(m for seed in range(40) if (m := order.change(LIST, Random(seed))) and read(m) == turned)
    names = [section.get("name") for section in made.request.sections]
    assert [fact.value for fact in names if fact] == ["Ash lamp", "Oak desk"]


def test_what_belongs_together_stays_together() -> None:
    """A question keeps its answer, "but" what it stands against, a line of a list its line break."""
    text = "Why? It is quiet. But it is heavy. It is new.\n- one\n- two."
    found = parts.units(text, "en")
    assert [unit.text for unit in found] == ["Why? It is quiet. But it is heavy.", "It is new.", "- one", "- two."]
    assert parts.joined(found) == text
    zh = parts.units("看看这款。\n- 一。\n- 二。", "zh")
    assert [unit.text for unit in zh] == ["看看这款。", "- 一。", "- 二。"]


def test_dropout_takes_a_sentence_and_its_facts() -> None:
    """What is told is less, and so is what there is to tell; the name always stays."""
    found = every(dropout, PROSE)
    assert "Meet Oak desk. It costs $120. Shoppers rate it 4.8 out of 5." in found and len(found) == 3
    kept = next(m for seed in range(40) if (m := dropout.change(PROSE, Random(seed))) and "made of" not in m.text)
    assert [fact.key for fact in kept.request.sections[0]] == ["name", "price", "rating"]
    assert "name" in [fact.key for fact in augment.copy(PROSE, ["dropout"], Random(5)).request.sections[0]]


def test_dropout_takes_a_product_from_a_list() -> None:
    """Its line and its section; where two are needed, nothing."""
    third = Section("item", (Fact("name", "Elm stool", Kind.TEXT),))
    three = pair(f"{TWO}\n- {{3.name}}.", DESK, LAMP, third, task="list")
    made = next(m for seed in range(40) if (m := dropout.change(three, Random(seed))) and "Elm" not in read(m))
    assert len(made.request.sections) == 2 and read(made) == read(LIST)
    assert augment.copy(LIST, ["dropout"], Random(1)) is LIST


def test_where_a_text_is_chosen_the_facts_change() -> None:
    """A path stays; what it is chosen by is less, or in another order."""
    of = next(p for p in generate.pairs("category", "en", "train", 20, 1) if len(p.request.sections[0].facts) > 2)
    less, moved = (next(m for s in range(9) if (m := way.change(of, Random(s))) and m != of) for way in (dropout, order))
    assert len(less.request.sections[0].facts) == len(of.request.sections[0].facts) - 1
    assert less.request.sections[0].get("title_words") is not None
    assert set(moved.request.sections[0]) == set(of.request.sections[0]) and moved.text == less.text == of.text


def test_synonyms() -> None:
    """Other words, the same facts in the same order."""
    found = every(synonyms, PROSE)
    assert "Meet Oak desk. It is priced at $120. It is made from oak. Shoppers rate it 4.8 out of 5." in found
    zh = pair("{name}的材质为{material}。售价{price}。", DESK, lang="zh")
    assert "Oak desk的材质是oak。价格为$120。" in every(synonyms, zh)
    assert synonyms.change(pair("{name}, {price}.", DESK), Random(1)) is None


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "See what {name} is, as it is. Shoppers picked it up. They chose to stay."),
        ("en", "{name}: besides the lamp. So far as it goes."),
        ("zh", "{name}展现在眼前，主要是二十分钟之内，十分之好。"),
        ("zh", "{name}提亮的同时，之所以好看，不仅仅是另外一款。"),
        ("zh", "{name}搭配上{material}，起售价{price}。"),
    ],
)
def test_words_within_others_are_left_alone(lang: Lang, text: str) -> None:
    """A phrase that is part of another one, or of a turn of phrase, has no synonym."""
    assert every(synonyms, pair(text, DESK, lang=lang)) == set()


@pytest.mark.parametrize("lang", LANGS)
def test_lists_of_synonyms_claim_the_same(lang: Lang) -> None:
    """No phrase makes a claim that another one in its list does not; all are in lower case, and none stands alone."""
    for group in synonyms.groups(lang):
        rules = [{rule.id for rule in claims.table(lang).claims if rule.regex.search(phrase)} for phrase in group.words]
        assert all(found == rules[0] for found in rules), group.words
        assert len(set(group.words)) > 1 and all(phrase == phrase.lower() for phrase in group.words)


def test_facts_are_shown_in_another_order() -> None:
    """The prompt shows what it showed, in many orders, and the text stays."""
    made = [facts.change(PROSE, Random(seed)) for seed in range(30)]
    prompts = {tuple(m.prompted()[0].plan[0]) for m in made if m}
    assert len(prompts) > 10 and {frozenset(plan) for plan in prompts} == {frozenset(PROSE.prompted()[0].plan[0])}
    assert {m.text for m in made if m} == {PROSE.text}
    assert len(augment.augmented([PROSE], ["facts"], 1, 0)) == 2


def test_plans_write_anew() -> None:
    """Another text for the same facts, where the task has plans."""
    made = next(m for seed in range(20) if (m := plans.change(PROSE, Random(seed))))
    assert made.text != PROSE.text and made.request == PROSE.request and not check.faults(made)
    own = Pair(Request("tell", "en", (DESK,)), "<|v1|>.")
    assert plans.change(own, Random(1)) is None


@settings(max_examples=40)
@given(st.sampled_from(ALL), st.integers(0, 10_000), st.lists(st.sampled_from(sorted(augment.WAYS)), min_size=1, unique=True))
def test_truth_is_kept(which: tuple[str, Lang], seed: int, ways: list[str]) -> None:
    """Whatever is changed passes the gate, tells no other facts, and fits its task."""
    (of,) = generate.pairs(*which, "train", 1, seed)
    made = augment.copy(of, ways, Random(seed))
    task = tasks.get(made.request.task)
    prompt = task.prompt(made.request)
    if not task.choices:
        assert explain.check(slots.parse(made.text, prompt), prompt, task)[0] == ()
    for section in made.request.sections:
        assert any(set(section.facts) <= set(there.facts) for there in of.request.sections)


def test_what_is_untrue_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A way that claims what no fact bears out makes no copy; one that changes nothing neither."""
    false = Pair(PROSE.request, PROSE.text.replace("Meet", "Meet the waterproof"))
    monkeypatch.setattr(augment, "WAYS", {"lies": lambda pair, rng: false, "idle": lambda pair, rng: pair})
    assert augment.augmented([PROSE], ["lies"], 1, 0) == augment.augmented([PROSE], ["idle"], 1, 0) == [PROSE]
    assert augment.augmented([false], ["lies"], 1, 0) == [false]


def test_copies_are_the_same_again() -> None:
    """By the seed and the pair alone, whatever stands beside it; more copies go on where fewer ended."""
    found = [p for task, lang in ALL for p in generate.pairs(task, lang, "train", 1, 3)]
    ways = list(augment.WAYS)
    made = augment.augmented(found, ways, 2, 7)
    assert made == augment.augmented(found, ways, 2, 7) != augment.augmented(found, ways, 2, 8)
    assert len(made) > 1.5 * len(found) and [p for p in made if p in found] == found
    assert set(map(check.seen, augment.augmented(found[::-1], ways, 2, 7))) == set(map(check.seen, made))
    assert set(map(check.seen, augment.augmented(found, ways, 1, 7))) <= set(map(check.seen, made))
    assert augment.augmented(found, (), 2, 7) == found


def test_nothing_is_said_twice_or_taken_from_what_measures() -> None:
    """A copy goes that says what another pair says, or one that is held out."""
    copies = augment.augmented([LIST], ["order"], 9, 0)
    assert len(copies) == 2
    assert augment.augmented([LIST], ["order"], 9, 0, held=[copies[1]]) == [LIST]


def test_copies_in_a_file_stay_with_their_pair(tmp_path: Path) -> None:
    """A copy is neither counted nor held out, and where its pair measures it does not teach."""
    found = [Pair(PROSE.request, f"<|v1|>, no. {'i' * n}.") for n in range(40)]
    copies = [Pair(p.request, p.text + " So.", copy_of=p.digest) for p in found]
    pairs.write(tmp_path / "p.jsonl", [p for both in zip(found, copies, strict=True) for p in both])
    learnt, held = pairs.split(list(pairs.read(tmp_path / "p.jsonl")))
    assert held == [found[0], found[20]]
    assert [p for p in learnt if p.copy_of] == [c for c in copies if c.copy_of not in {h.digest for h in held}]
    assert len(learnt) == 76


def test_names_and_ranges() -> None:
    """Unknown ways are refused by name, wherever they are given."""
    assert augment.parse("none") == () and augment.parse("order+plans,dropout") == ("order", "plans", "dropout")
    with pytest.raises(OptionError, match="synonyms, facts, got 'oder'"):
        augment.parse("oder")
