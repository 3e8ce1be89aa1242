"""Sampling: ranges, masks, top-k, top-p, penalties, seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen.engine.backend import Logits
from edgegen.engine.options import SamplingOptions
from edgegen.engine.sampling import Sampler, nucleus, top_candidates
from edgegen.errors import EngineError, OptionError

GREEDY = SamplingOptions(temperature=0)


def rows(*values: list[float]) -> Logits:
    """Logits from lists."""
    return np.array(values, dtype=np.float32)


def noise(n: int, width: int = 200, seed: int = 1) -> Logits:
    """Random logits."""
    return np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("top_p", 1.5, r"top_p must be in \(0, 1\], got 1.5"),
        ("top_p", 0, "top_p"),
        ("temperature", -0.1, r"temperature must be in \[0, 5\], got -0.1"),
        ("temperature", float("nan"), "temperature"),
        ("top_k", -1, "top_k"),
        ("repeat_penalty", 0, "repeat_penalty"),
        ("no_repeat_ngram", -2, "no_repeat_ngram"),
        ("max_new_tokens", 0, "max_new_tokens"),
        ("seed", -1, "seed"),
    ],
)
def test_options_check_their_ranges(option: str, value: float, message: str) -> None:
    """Each says its range and what it got."""
    with pytest.raises(OptionError, match=message):
        SamplingOptions(**{option: value})  # type: ignore[arg-type]  # any option, by name


def test_greedy_takes_the_likeliest_and_the_lower_id_among_equals() -> None:
    """Temperature 0 is argmax, whatever the seed."""
    ids, logprobs = Sampler(GREEDY, 2).pick(rows([0, 3, 3, 1], [5, 1, 1, 1]), [0, 1], [[], []])
    assert ids.tolist() == [1, 0]
    assert (logprobs <= 0).all()


def test_logprob_is_the_models_own() -> None:
    """It does not depend on the temperature."""
    logits = rows([1.0, 2.0, 3.0])
    expected = 3 - np.log(np.exp([1.0, 2.0, 3.0]).sum())
    for temperature in (0, 0.01):
        _, logprob = Sampler(SamplingOptions(temperature=temperature), 1).pick(logits.copy(), [0], [[]])
        assert logprob[0] == pytest.approx(expected)


def test_mask_forbids() -> None:
    """A forbidden token never comes, not even the likeliest."""
    allow = np.array([True, False, True, False])
    sampler = Sampler(SamplingOptions(temperature=5, top_k=0, top_p=1), 1, allow)
    assert {int(sampler.pick(rows([0, 9, 0, 9]), [0], [[]])[0][0]) for _ in range(50)} == {0, 2}


def test_constraint_keeps_only_its_ids() -> None:
    """Each row has its own allowed ids, still under the mask."""
    sampler = Sampler(GREEDY, 2, np.array([True, True, True, False]))
    ids, _ = sampler.pick(rows([9, 0, 1, 9], [9, 0, 1, 9]), [0, 1], [[], []], [[1, 2, 3], [1]])
    assert ids.tolist() == [2, 1]


def test_nothing_allowed_is_an_error() -> None:
    """Mask and constraint that exclude each other say so."""
    with pytest.raises(EngineError, match="No token may be chosen"):
        Sampler(GREEDY, 1, np.array([True, False])).pick(rows([0, 0]), [0], [[]], [[1]])


def test_top_candidates_are_sorted() -> None:
    """The k largest, likeliest first; equals by id."""
    ids, values = top_candidates(rows([1, 5, 3, 5, 0]), 3)
    assert ids.tolist() == [[1, 3, 2]] and values.tolist() == [[5, 5, 3]]


@given(st.integers(1, 300), st.integers(0, 1000))
def test_top_candidates_are_those_of_a_full_sort(k: int, seed: int) -> None:
    """Partitioning changes the speed only."""
    logits = noise(3, seed=seed)
    ids, _ = top_candidates(logits, k)
    assert (ids == np.argsort(-logits, axis=1, kind="stable")[:, :k]).all()


def test_nucleus_keeps_the_smallest_set() -> None:
    """Tokens until top_p is reached, the likeliest always."""
    weights = np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04]])
    assert (nucleus(weights, 0.7) > 0).tolist() == [[True, True, False], [True, False, False]]
    assert (nucleus(weights, 1e-9) > 0).sum() == 2


def test_frequencies_follow_the_distribution() -> None:
    """A thousand draws come close to softmax at temperature 1."""
    sampler = Sampler(SamplingOptions(temperature=1, top_p=1, top_k=0), 1)
    drawn = [int(sampler.pick(rows([0, np.log(2), np.log(5)]), [0], [[]])[0][0]) for _ in range(1000)]
    assert np.bincount(drawn, minlength=3) / 1000 == pytest.approx(np.array([1, 2, 5]) / 8, abs=0.05)


@given(st.integers(0, 2**63 - 1), st.permutations(range(4)))
def test_a_sequence_draws_the_same_in_any_company(seed: int, order: list[int]) -> None:
    """Batched is alone: row order and batch size do not matter."""
    options, logits = SamplingOptions(seed=seed), noise(4)
    together, _ = Sampler(options, 4).pick(logits[order].copy(), order, [[]] * 4)
    for at, row in enumerate(order):
        alone, _ = Sampler(options, 4).pick(logits[[row]].copy(), [row], [[]])
        assert alone[0] == together[at]


def test_repeat_penalty_lowers_what_was_written() -> None:
    """Positive and negative logits both go down."""
    sampler = Sampler(SamplingOptions(temperature=0, repeat_penalty=2), 2)
    ids, _ = sampler.pick(rows([3, 2, 0], [-1, -1.5, -9]), [0, 1], [[0, 0], [0]])
    assert ids.tolist() == [1, 1]


def test_no_repeat_ngram_forbids_the_second_run() -> None:
    """After `1 2 .. 1` with bigrams forbidden, 2 may not come; 2 may after another token."""
    sampler = Sampler(SamplingOptions(temperature=0, no_repeat_ngram=2), 3)
    ids, _ = sampler.pick(rows([0, 0, 9, 5], [0, 0, 9, 5], [0, 0, 9, 5]), [0, 1, 2], [[1, 2, 1], [1, 2, 3], [1]])
    assert ids.tolist() == [3, 2, 2]


@pytest.mark.parametrize("options", [GREEDY, SamplingOptions(temperature=1, top_p=1, top_k=3)])
def test_a_vetoed_token_is_drawn_again(options: SamplingOptions) -> None:
    """The next one in the running comes instead, each row on its own; the veto sees what the row has written."""
    asked: list[tuple[tuple[int, ...], int]] = []

    def veto(written: Sequence[int], token: int) -> bool:
        asked.append((tuple(written), token))
        return token == written[0]

    sampler = Sampler(options, 2)
    for _ in range(20):
        ids, _ = sampler.pick(rows([9, 8, 0, 0], [9, 8, 0, 0]), [0, 1], [[0], [1]], None, veto)
        assert ids[0] != 0 and ids[1] != 1
    assert ((0,), 0) in asked


def test_a_veto_of_everything_gives_way() -> None:
    """Where nothing else is left, the last token comes: the check of the whole text decides then."""
    ids, _ = Sampler(GREEDY, 1, np.array([True, True, False])).pick(rows([5, 4, 9]), [0], [[]], None, lambda *_: True)
    assert ids.tolist() == [1]
