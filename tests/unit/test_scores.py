"""Scores against cases worked by hand, and against the library that defines them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import sacrebleu

from edgegen import scores
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.evaluation import features, measures, slot_error
from edgegen.evaluation.cases import Case, Reference, Told, baselines, references
from edgegen.evaluation.slot_error import SlotErrors

NAME, PRICE = Fact("name", "Tray 4", Kind.TEXT), Fact("price", Decimal(4), Kind.MONEY, currency="USD")
HEAVY = Fact("is_heavy", True, Kind.FLAG, label="heavy")
REQUEST = Request("reason", "en", (Section("item", (NAME, PRICE, HEAVY)),))


# --- PETER's scores


def test_usr_by_hand() -> None:
    """Two distinct of three."""
    assert features.usr(["a", "b", "a"]) == pytest.approx(2 / 3)


def test_fmr_by_hand() -> None:
    """The second text lacks the feature of its reference: 2 of 3; a reference without one does not count."""
    found = features.fmr([{"pool", "room"}, {"room"}, {"bar"}, {"bar"}], ["pool", "bar", "bar", None])
    assert found.value == pytest.approx(2 / 3)


def test_fcr_by_hand() -> None:
    """Of pool, room, bar and view the texts speak of two; `sea` is no feature of a reference."""
    assert features.fcr([{"pool", "sea"}, {"room"}, {"pool"}], {"pool", "room", "bar", "view"}) == pytest.approx(0.5)


def test_div_by_hand() -> None:
    """Pairs share 2, 1 and 1 features: 4 over the three pairs, and the same as pair by pair."""
    found = [{"pool", "room"}, {"pool", "room", "bar"}, {"room", "sea"}]
    known = {"pool", "room", "bar"}
    assert features.div(found, known) == pytest.approx((2 + 1 + 1) / 3)
    one_by_one = sum(len(a & b & known) for i, a in enumerate(found) for b in found[i + 1 :])
    assert features.div(found, known) == pytest.approx(one_by_one / 3)
    assert features.div(found[:1], known) == 0.0


# --- slot errors


def text(words: str, evidence: tuple[tuple[int, str], ...] = ()) -> Told:
    """A text without slots."""
    return Told(words, (words,), evidence, REQUEST)


@pytest.mark.parametrize(
    ("told", "missing", "redundant"),
    [
        (text("tray 4 costs $4."), 0, 0),
        (text("Tray 4."), 1, 0),
        (text("It costs $4, and Tray 40."), 1, 0),
        (text("Tray 4 costs $4.50."), 1, 0),
        (text("Tray 4 costs $4. Tray 4!"), 0, 1),
        (text("A tray."), 2, 0),
    ],
)
def test_slot_errors_by_hand(told: Told, missing: int, redundant: int) -> None:
    """By whole values, in any case; each mention too many is redundant."""
    found = slot_error.errors(told, [(0, NAME), (0, PRICE)], "en")
    assert (len(found.missing), len(found.redundant), found.asked) == (missing, redundant, 2)


def test_a_flag_is_told_by_a_claim() -> None:
    """Its words need not be there."""
    asked = [(0, HEAVY)]
    assert slot_error.errors(text("It weighs a lot.", ((0, "is_heavy"),)), asked, "en") == SlotErrors((), (), 1)
    assert slot_error.errors(text("It is light."), asked, "en").missing == ("is_heavy: heavy",)


@pytest.mark.parametrize(("said", "missing"), [("<|v1|> is a tray of grade <|v79|>.", 0), ("<|v1|> is a tray.", 1)])
def test_an_article_is_no_value(said: str, missing: int) -> None:
    """A grade `a` is told by its slot: no article adds to it or stands for it."""
    grade = Fact("grade", "a", Kind.PHRASE, label="grade")
    asked = Request("reason", "en", (Section("item", (NAME, grade)),))
    (own,) = references(Case(asked, (Reference(said),)))
    found = slot_error.errors(own, [(0, NAME), (0, grade)], "en")
    assert (len(found.missing), found.redundant) == (missing, ())


def test_a_strangers_value_is_redundant() -> None:
    """The constant baseline shows the first product's values for every product."""
    other = Request("reason", "en", (Section("item", (Fact("name", "Cup", Kind.TEXT), PRICE)),))
    cases = [Case(other, (Reference("<|v1|> costs <|v4|>."),)), Case(REQUEST, (Reference("<|v1|> is heavy."),))]
    constant = baselines(cases, [references(case) for case in cases])["constant"][1]
    found = slot_error.errors(constant, [(0, NAME)], "en", own=False)
    assert found.missing == ("name: Tray 4",) and found.redundant == ("name: Cup", "price: $4")


# --- against references


def test_a_text_is_compared_with_what_the_person_wrote() -> None:
    """The pair says what it tells, the original how."""
    (found,) = references(Case(REQUEST, (Reference("<|v1|> costs <|v4|>.", "Tray 4 costs four dollars."),)))
    assert found.text == "Tray 4 costs four dollars." and found.features == ("price",)


@pytest.mark.parametrize(
    ("lang", "texts", "refs"),
    [
        ("en", ["the tray costs four dollars", "a red cup"], [["The tray costs $4 .", "this tray costs four"], ["one red cup"]]),
        ("zh", ["这张桌子很结实", "白色外套"], [["这张木桌子结实"], ["白色的外套很百搭", "白外套"]]),
    ],
)
def test_sums_give_the_librarys_scores(lang: Lang, texts: list[str], refs: list[list[str]]) -> None:
    """Corpus scores from the counts of each text, with more references of some texts than of others."""
    found = scores.References(refs, lang).measures(texts)
    streams = [[several[i] if i < len(several) else None for several in refs] for i in range(2)]
    tokenize = "zh" if lang == "zh" else "13a"
    assert found["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(texts, streams, tokenize=tokenize, lowercase=True).score)
    assert found["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(texts, streams).score)
    assert ("bleu_words" in found) == (lang == "zh")


def test_rouge_by_hand() -> None:
    """Of `a b c` and `a c d`: two words, no pair, two in order; the nearer of two references counts."""
    found = scores.References([["a c d", "x"]], "en").measures(["a b c"])
    assert found["rouge_1"].value == pytest.approx(100 * 2 / 3)
    assert found["rouge_2"].value == 0.0
    assert found["rouge_l"].value == pytest.approx(100 * 2 / 3)


def test_text_that_is_tokenised_already() -> None:
    """`none` takes `a+` as one word, which 13a splits."""
    none, usual = (scores.References([["an a+ b c d"]], "en", by).measures(["an a+ b c e"]) for by in ("none", "13a"))
    assert none["bleu"].value != pytest.approx(usual["bleu"].value)


def test_distinct_by_hand() -> None:
    """Of a b a b, c b: 6 words, 3 of them distinct; 4 pairs, of which `a b` is there twice."""
    assert scores.distinct(["a b a b", "c b"], 1) == pytest.approx(3 / 6)
    assert scores.distinct(["a b a b", "c b"], 2) == pytest.approx(3 / 4)


def test_repeated_4grams_by_hand() -> None:
    """A b c d e a b c d: six 4-grams, one of them for the second time."""
    assert scores.repeated_4grams(["a b c d e a b c d"]) == pytest.approx(1 / 6)
    assert scores.repeated_4grams(["好用好用好用", "短"]) == pytest.approx((1 / 3) / 2)


# --- how sure they are


def test_the_interval_of_a_mean() -> None:
    """It is the one that theory gives: 1.96 standard errors either way."""
    values = np.random.default_rng(0).normal(5, 2, 400).tolist()
    found = measures.figure(measures.mean(values))
    assert found.low is not None and found.high is not None
    error = 1.96 * float(np.std(values)) / 20
    assert found.low == pytest.approx(np.mean(values) - error, abs=0.05)
    assert found.high == pytest.approx(np.mean(values) + error, abs=0.05)
    assert found == measures.figure(measures.mean(values))


def test_a_difference_that_is_one_and_one_that_is_none() -> None:
    """Half a standard deviation in 100 pairs is found; two draws of the same are not told apart."""
    rng = np.random.default_rng(3)
    base, noise, other = (rng.normal(0, 1, 100) for _ in range(3))
    better = measures.compare(measures.mean((base + 0.5 + noise * 0.3).tolist()), measures.mean(base.tolist()))
    assert better.p < 0.01 and 0.3 < better.low < better.difference < better.high
    same = measures.compare(measures.mean((base + noise * 0.3).tolist()), measures.mean((base + other * 0.3).tolist()))
    assert same.p > 0.05 and same.low < 0 < same.high
    none = measures.compare(measures.mean(base.tolist()), measures.mean(base.tolist()))
    assert (none.difference, none.p) == (0.0, 1.0)


def test_the_p_of_a_small_case_is_exact() -> None:
    """Four pairs, all better by one: of the 16 ways to swap, two are as far apart, 1 in 8."""
    found = measures.compare(measures.mean([1.0] * 4), measures.mean([0.0] * 4))
    assert found.p == pytest.approx(1 / 8, abs=0.04)
