"""The draft table: what it learns, how it is kept, and what damaged files are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen.engine import ngrams
from edgegen.engine.ngrams import Guess, NGrams
from edgegen.train.ngrams import learn

TEXTS = [([9, 9, 9, 1, 2, 3, 4], 3)] * 30 + [([9, 9, 9, 1, 2, 5], 3)] * 10 + [([9, 8, 9, 1, 2, 5], 3)] * 60


def made(texts: list[tuple[list[int], int]] | None = None, n_vocab: int = 10, most: int = 1000) -> NGrams:
    """A table of a few texts."""
    return learn(texts or TEXTS, n_vocab, most)


def test_it_knows_what_mostly_follows() -> None:
    """The likeliest token, with the level of its share of the places."""
    guess = made().guess([9, 1, 2])
    assert guess is not None and guess.token == 5
    assert guess.level == int(70 / 101 * ngrams.LEVELS)


def test_a_longer_context_says_more_where_it_differs() -> None:
    """Only where the longer one says something else it is kept, and then it is what counts."""
    table = made()
    assert table.guess([9, 9, 9, 1, 2]) == Guess(3, int(30 / 41 * ngrams.LEVELS), 4)
    assert table.guess([9, 8, 9, 1, 2]) == Guess(5, int(60 / 61 * ngrams.LEVELS), 4)
    assert table.guess([7, 7]) is None and table.guess([]) is None


def test_prompts_are_contexts_and_no_texts() -> None:
    """Nothing is learnt of what comes before the text; the text's first tokens have the prompt as their context."""
    table = made([([1, 2, 1, 2, 1, 2, 3], 6)] * 9)
    assert table.guess([2, 1, 2]) == Guess(3, int(0.9 * ngrams.LEVELS), 1)
    assert table.guess([1]) is None


def test_no_context_reaches_into_another_text() -> None:
    """The last token of a text is no context of the next one's first."""
    table = made([([4, 1], 1), ([2, 3], 0)] * 9)
    assert table.guess([1]) is None and table.guess([4]) is not None


def test_the_size_is_bounded() -> None:
    """The contexts that are worth most stay."""
    rng = np.random.default_rng(0)
    texts = [(rng.integers(0, 50, 40).tolist(), 0) for _ in range(200)]
    table = made([*texts, *[([1, 2, 3] * 9, 0)] * 50], 50, most=20)
    assert 3 <= len(table.keys) <= 20
    assert [guess and guess.token for guess in map(table.guess, ([1], [2], [3]))] == [2, 3, 1]


@given(st.lists(st.integers(0, 69_999), min_size=8, max_size=60), st.sampled_from([70_000, 1 << 20]))
def test_every_context_is_found_again(ids: list[int], n_vocab: int) -> None:
    """Also after it was written and read, whatever the size of the vocabulary."""
    table = made([(ids, 0)] * 8, n_vocab)
    again = ngrams.from_bytes(table.to_bytes())
    for at in range(1, len(ids)):
        guess = table.guess(ids[:at])
        assert guess is not None and guess == again.guess(ids[:at])
        assert guess.token < n_vocab and guess.level < ngrams.LEVELS and 1 <= guess.length <= ngrams.LONGEST


def test_a_small_vocabulary_takes_two_bytes_a_token() -> None:
    """So that the bundled table stays small."""
    table, wide = made(), made(n_vocab=70_000)
    assert len(wide.to_bytes()) - len(table.to_bytes()) == 2 * len(table.keys)


def test_no_texts_give_an_empty_table() -> None:
    """It knows nothing, and can be written and read."""
    table = ngrams.from_bytes(made([([1], 1)]).to_bytes())
    assert table.guess([1, 2]) is None


@pytest.mark.parametrize("size", [0, 10, 24, 30])
def test_a_file_that_is_cut_off(size: int) -> None:
    """It is refused at any length."""
    with pytest.raises(ValueError, match="cut off|size"):
        ngrams.from_bytes(made().to_bytes()[:size])


@given(st.data())
def test_no_damaged_file_does_more_than_raise_value_error(data: st.DataObject) -> None:
    """A changed byte gives another table that holds together, or ValueError."""
    raw = bytearray(made().to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = ngrams.from_bytes(bytes(raw))
    except ValueError:
        return
    for guess in map(table.guess, ([1], [9, 1], [9, 9, 9, 1, 2])):
        assert guess is None or (guess.token < table.n_vocab and guess.level < ngrams.LEVELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [3, 10]}, "tokens"),
        ({"levels": [0, 16]}, "chances"),
        ({"keys": [7, 7]}, "order"),
        ({"keys": [7]}, "sizes"),
        ({"n_vocab": 1 << 30}, "sizes"),
    ],
)
def test_what_contradicts_itself(changes: dict[str, object], message: str) -> None:
    """Each fault is named."""
    whole = {"n_vocab": 10, "keys": [7, 9], "tokens": [1, 2], "levels": [0, 1]}
    with pytest.raises(ValueError, match=message):
        NGrams(**{**whole, **changes})  # type: ignore[arg-type]  # faults, by name
