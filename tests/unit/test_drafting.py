"""Drafts: what is guessed of a text, what is learnt from what came, and how many guesses a step takes."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.engine.drafting import MOST, Draft, Drafter, Odds, Pace
from edgegen.engine.ngrams import NGrams
from edgegen.train.ngrams import learn

TABLE = learn([([0, 1, 2, 3, 4, 5, 6, 7], 1)] * 60, 10)


def drafter(prompt: Sequence[int] = (0,), table: NGrams | None = TABLE, **options: object) -> Drafter:
    """One with odds of its own."""
    return Drafter(prompt, table, Odds(), **options)  # type: ignore[arg-type]  # options, by name


def test_the_table_is_followed_from_guess_to_guess() -> None:
    """Each guess is the context of the next; the chances are those of all so far."""
    draft = drafter().propose([1, 2], 4)
    assert draft.tokens == (3, 4, 5, 6)
    assert list(draft.chances) == sorted(draft.chances, reverse=True) and draft.chances[3] < draft.chances[0] ** 3


def test_the_prompt_is_looked_up() -> None:
    """What followed the text's end there is guessed, and what followed that."""
    assert drafter([50, 51, 52, 53, 54, 55, 50], None).propose([60, 51, 52, 53], 2, 0.0).tokens == (54, 55)
    assert drafter([50, 51, 52], None).propose([52], 4).tokens == ()


def test_the_place_with_most_in_common_counts_and_then_the_latest() -> None:
    """Three tokens in common say more than two; of equal ones the last one is nearer."""
    prompt = [1, 2, 3, 40, 9, 2, 3, 41, 8, 2, 3, 42]
    assert drafter(prompt, None).propose([1, 2, 3], 1, 0.0).tokens == (40,)
    assert drafter(prompt, None).propose([7, 2, 3], 1, 0.0).tokens == (42,)


def test_nothing_is_guessed_that_may_not_be_written_or_ends_the_text() -> None:
    """A guess ends before such a token."""
    assert drafter(allowed=lambda token: token != 5).propose([1, 2]).tokens == (3, 4)
    assert drafter(ends=frozenset({4})).propose([1, 2]).tokens == (3,)


def test_a_draft_ends_where_its_chance_is_too_low() -> None:
    """The longest whose chance is at least that asked for, and not longer than asked."""
    chances = drafter().propose([1], 4, 0.0).chances
    assert len(drafter().propose([1], 4, chances[1]).tokens) == 2
    assert drafter().propose([1], 4, 1.1) == Draft()


def test_a_text_that_was_set_back_is_followed() -> None:
    """Guesses depend on what stands there, whatever stood there before."""
    one = drafter()
    for text in ([1, 2, 3], [1, 2, 3, 8, 8], [1], [1, 2], [9, 9], [1, 2]):
        assert one.propose(text, 3) == drafter().propose(text, 3) or one.propose(text, 3).tokens[:1] == (text[-1] + 1,)


def test_guesses_that_come_true_raise_the_odds() -> None:
    """Also those that no step took; and those that fail lower them, for this text more than for others."""
    odds = Odds()
    level = ("table", next(guess.level for guess in [TABLE.guess([0, 1])] if guess))
    before = odds.of(level)
    good = Drafter([0], TABLE, odds)
    for end in range(1, 8):
        good.propose(list(range(1, end)), 1)
    assert odds.of(level) > before
    bad = Drafter([0], TABLE, odds)
    first = bad.propose([1, 2], 1, 0.0).chances[0]
    for end in range(12):
        bad.propose([1, 2] + [9, 1, 2] * end, 1, 0.0)
    assert bad.propose([1, 2] * 20, 1, 0.0).chances < (first / 2,) < good.propose([1, 2], 1, 0.0).chances


def test_what_is_long_ago_counts_less() -> None:
    """Odds turn within a few hundred guesses."""
    odds = Odds()
    for _ in range(5000):
        odds.saw(("table", 9), True)
    for _ in range(600):
        odds.saw(("table", 9), False)
    assert odds.of(("table", 9)) < 0.3


def test_a_text_of_which_nothing_can_be_guessed_rests() -> None:
    """It is looked at less and less; a guess ends the rest."""
    looked = 0

    def allowed(token: int) -> bool:
        nonlocal looked
        looked += 1
        return False

    one = drafter(allowed=allowed)
    for _ in range(400):
        one.propose([1, 2])
    assert looked < 40


@given(st.lists(st.integers(0, 4), max_size=30), st.lists(st.lists(st.integers(0, 4), max_size=30), max_size=12))
def test_any_history_of_a_text_gives_a_draft(prompt: list[int], texts: list[list[int]]) -> None:
    """Texts that grow, shrink and change: every draft has tokens with falling chances, and no more than asked for."""
    one = drafter(prompt)
    for text in texts:
        draft = one.propose(text, 5, 0.0)
        assert len(draft.tokens) == len(draft.chances) <= 5
        assert all(0 < chance < 1 for chance in draft.chances)
        assert list(draft.chances) == sorted(draft.chances, reverse=True)


def cost(rows: int, step: float, row: float) -> float:
    """Seconds of a step on a machine with a cost for each step and each row."""
    return step + row * rows


def settled(step: float, row: float, *, rows: int = 1, chance: float = 0.9, rounds: int = 300, noise: float = 0.0) -> list[int]:
    """How many guesses were taken in each of many steps of a machine, with `rows` texts that are guessed alike."""
    pace, rng, taken = Pace(), random.Random(1), list[int]()
    chances = [[chance ** (i + 1) for i in range(MOST)]] * rows
    for _ in range(rounds):
        lengths = pace.choose(rows, [[c for c in found if c >= pace.least(rows)] for found in chances])
        total = rows + sum(lengths)
        pace.observe(total, cost(total, step, row) * rng.uniform(1 - noise, 1 + noise))
        taken.append(sum(lengths))
    return taken


def test_nothing_is_guessed_before_a_step_was_measured() -> None:
    """Nor for a step without rows, or one that is full."""
    pace = Pace(8)
    assert pace.choose(1, [[0.9]]) == [0] and pace.least(1) > 1
    for _ in range(2):
        pace.observe(1, 0.1)
        pace.observe(8, 0.2)
    assert pace.choose(1, [[0.9]]) == [1]
    assert pace.choose(8, [[0.9]] * 8) == [0] * 8 and pace.choose(0, []) == []


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_sure_guesses_are_taken_where_rows_are_cheap(noise: float) -> None:
    """Nearly all of them; where each row costs a step, none after a few trials."""
    assert min(settled(1.0, 0.01, noise=noise)[50:]) >= 8
    assert sum(settled(0.0, 1.0, noise=noise)[60:]) <= 3


@pytest.mark.parametrize(("step", "row", "chance"), [(1, 0.3, 0.9), (1, 0.3, 0.5), (1, 0.1, 0.7), (1, 1, 0.9), (0.5, 1, 0.6)])
@pytest.mark.parametrize("rows", [1, 4])
def test_the_number_is_the_best_one(step: float, row: float, chance: float, rows: int) -> None:
    """As many as give most tokens a second on this machine, or hardly fewer."""
    gains = sorted((chance ** (i + 1) for i in range(MOST) for _ in range(rows)), reverse=True)
    rates = [(rows + sum(gains[:n])) / cost(rows + n, step, row) for n in range(len(gains) + 1) if rows + n <= 64]
    taken = settled(step, row, rows=rows, chance=chance)[-1]
    assert rates[taken] >= 0.93 * max(rates)


def test_a_machine_that_changes_is_followed() -> None:
    """Rows that were cheap and are dear are left out within some steps; all steps slower alike changes nothing."""
    pace, chances = Pace(), [[0.9, 0.8, 0.7, 0.6]]
    def go(step: float, row: float, rounds: int) -> list[int]:
        taken = []
        for _ in range(rounds):
            taken.append(sum(pace.choose(1, chances)))
            pace.observe(1 + taken[-1], cost(1 + taken[-1], step, row))
        return taken

    assert go(1, 0.01, 100)[-1] == 4
    assert go(10, 0.1, 100)[-1] == 4
    assert max(go(0, 1, 1200)[-50:]) == 0


def test_one_slow_step_does_not_end_the_guessing() -> None:
    """The first step of a size makes llama.cpp's graph for it, and takes many times as long as the next ones."""
    pace, chances, seen = Pace(), [[0.9, 0.8]], {1}
    for _ in range(40):
        rows = 1 + sum(pace.choose(1, chances))
        pace.observe(rows, 1.0 if rows in seen else 30.0)
        seen.add(rows)
    assert sum(pace.choose(1, chances)) == 2


def test_the_likelier_guesses_of_all_texts_come_first() -> None:
    """A text that is guessed badly takes no places from one that is guessed well."""
    pace = Pace(10)
    for rows in range(20):
        pace.observe(1 + rows % 10, 1.0)
    assert pace.choose(4, [[0.9, 0.8, 0.7], [0.3, 0.1], [], [0.85, 0.75]]) == [3, 1, 0, 2]
    assert pace.choose(8, [[0.9, 0.8, 0.7], [0.3, 0.1], [], [0.85, 0.75]]) == [1, 0, 0, 1]


@settings(max_examples=50)
@given(
    st.integers(1, 16),
    st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 10)), max_size=40),
    st.lists(st.lists(st.floats(0.01, 0.99), max_size=8), max_size=6),
)
def test_any_measurements_give_lengths_that_fit(rows: int, seen: list[tuple[int, float]], chances: list[list[float]]) -> None:
    """Never more than there are guesses, nor than a step has rows; each text's first guesses."""
    pace = Pace(32)
    for at, seconds in seen:
        pace.observe(at, seconds)
    falling = [sorted(found, reverse=True) for found in chances]
    lengths = pace.choose(rows, falling)
    assert all(0 <= length <= len(found) for length, found in zip(lengths, falling, strict=True))
    assert rows + sum(lengths) <= max(32, rows)
