"""Sampling: ranges, masks, top-k, top-p, penalties, seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen.engine.backend import Logits
from edgegen.engine.options import SamplingOptions
from edgegen.engine.sampling import Sampler, Token, nucleus, top_candidates
from edgegen.errors import EngineError, OptionError
from tests.fakes.backend import FakeBackend

GREEDY = SamplingOptions(temperature=0)


def rows(*values: Sequence[float]) -> Logits:
    """Logits from lists."""
    return np.array(values, dtype=np.float32)


def ids_of(tokens: Sequence[Token | None]) -> list[int]:
    """The ids of tokens that were picked."""
    return [token.id for token in tokens if token is not None]


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
        ("min_p", 1.1, r"min_p must be in \[0, 1\], got 1.1"),
        ("frequency_penalty", 2.5, r"frequency_penalty must be in \[-2, 2\], got 2.5"),
        ("presence_penalty", -3, "presence_penalty"),
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
    assert ids_of(Sampler(GREEDY, 2).pick(rows([0, 3, 3, 1], [5, 1, 1, 1]), [0, 1], [[], []])) == [1, 0]


def test_logprobs_are_the_models_own() -> None:
    """They do not depend on temperature, penalties, bias or mask; the likeliest stand beside the chosen one."""
    logits, allow = rows([1.0, 2.0, 3.0]), np.array([True, True, False])
    total = np.log(np.exp([1.0, 2.0, 3.0]).sum())
    for options in (GREEDY, SamplingOptions(temperature=0.01, repeat_penalty=2, presence_penalty=1)):
        sampler = Sampler(options, 1, allow, logprobs=2, bias={0: -5})
        token = sampler.pick(logits.copy(), [0], [[1]])[0]
        assert token is not None and token.id == 1
        assert token.logprob == pytest.approx(2 - total)
        assert [i for i, _ in token.top] == [2, 1]
        assert [logprob for _, logprob in token.top] == pytest.approx([3 - total, 2 - total])


def test_logprobs_are_computed_only_where_asked() -> None:
    """None gives none, 0 the chosen token's alone."""
    assert Sampler(GREEDY, 1).pick(rows([1, 2]), [0], [[]]) == [Token(1)]
    token = Sampler(GREEDY, 1, logprobs=0).pick(rows([1, 2]), [0], [[]])[0]
    assert token is not None and token.logprob is not None and token.top == ()


@pytest.mark.parametrize("allow", [[True, False, True, False], [True, False] * 2 + [True] * 60])
def test_mask_forbids(allow: list[bool]) -> None:
    """A forbidden token never comes, not even the likeliest; whether few or most are allowed."""
    sampler = Sampler(SamplingOptions(temperature=5, top_k=0, top_p=1), 1, np.array(allow))
    logits = rows([0, 9, 0, 9] + [-99] * (len(allow) - 4))
    assert {ids_of(sampler.pick(logits.copy(), [0], [[]]))[0] for _ in range(50)} == {0, 2}


def test_constraint_keeps_only_its_ids() -> None:
    """Each row has its own allowed ids, still under the mask."""
    sampler = Sampler(GREEDY, 2, np.array([True, True, True, False]))
    assert ids_of(sampler.pick(rows([9, 0, 1, 9], [9, 0, 1, 9]), [0, 1], [[], []], [[1, 2, 3], [1]])) == [2, 1]


def test_nothing_allowed_is_an_error() -> None:
    """Mask and constraint that exclude each other say so."""
    with pytest.raises(EngineError, match="No token may be chosen"):
        Sampler(GREEDY, 1, np.array([True, False])).pick(rows([0, 0]), [0], [[]], [[1]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [GREEDY, SamplingOptions()])
def test_logits_that_are_no_numbers_are_an_error(bad: float, options: SamplingOptions) -> None:
    """A broken model says so, greedy or sampled."""
    with pytest.raises(EngineError, match="not numbers"):
        Sampler(options, 1).pick(rows([0, bad, 1]), [0], [[]])


def test_top_candidates_are_sorted() -> None:
    """The k largest, likeliest first; equals by id."""
    ids, values = top_candidates(rows([1, 5, 3, 5, 0]), 3)
    assert ids.tolist() == [[1, 3, 2]] and values.tolist() == [[5, 5, 3]]


@given(st.integers(1, 300), st.integers(1, 3000), st.integers(0, 1000), st.sampled_from([0.0, 0.3, 2.0]))
def test_top_candidates_are_those_of_a_full_sort(k: int, width: int, seed: int, levels: float) -> None:
    """Looking at groups first changes the speed only, also where many are equal or impossible."""
    logits = noise(3, width, seed=seed)
    if levels:
        logits = np.round(logits / np.float32(levels)) * np.float32(levels)
        logits[logits < 0] = -np.inf
    ids, values = top_candidates(logits, k)
    assert (ids == np.argsort(-logits, axis=1, kind="stable")[:, :k]).all()
    assert (values == np.take_along_axis(logits, ids, axis=1)).all()


def test_nucleus_keeps_the_smallest_set() -> None:
    """Tokens until top_p is reached, the likeliest always."""
    weights = np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04]])
    assert (nucleus(weights, 0.7) > 0).tolist() == [[True, True, False], [True, False, False]]
    assert (nucleus(weights, 1e-9) > 0).sum() == 2


def test_min_p_keeps_what_is_nearly_as_likely() -> None:
    """Half as likely as the likeliest stays, a fifth does not."""
    sampler = Sampler(SamplingOptions(temperature=1, top_p=1, min_p=0.4), 1)
    drawn = {ids_of(sampler.pick(rows([0, np.log(2), np.log(0.4)]), [0], [[]]))[0] for _ in range(200)}
    assert drawn == {0, 1}


@pytest.mark.parametrize("cold", [1e-6, 1e-300, 5e-324])
def test_the_coldest_draw_is_the_likeliest(cold: float) -> None:
    """However near to 0: no overflow, and no other token."""
    sampler = Sampler(SamplingOptions(temperature=cold, top_p=1, top_k=0), 1)
    assert {ids_of(sampler.pick(rows([0, 30, -80]), [0], [[]]))[0] for _ in range(20)} == {1}


def test_frequencies_follow_the_distribution() -> None:
    """A thousand draws come close to softmax at temperature 1."""
    sampler = Sampler(SamplingOptions(temperature=1, top_p=1, top_k=0), 1)
    drawn = [ids_of(sampler.pick(rows([0, np.log(2), np.log(5)]), [0], [[]]))[0] for _ in range(1000)]
    assert np.bincount(drawn, minlength=3) / 1000 == pytest.approx(np.array([1, 2, 5]) / 8, abs=0.05)


@given(st.integers(0, 2**63 - 1), st.permutations(range(4)))
def test_a_sequence_draws_the_same_in_any_company(seed: int, order: list[int]) -> None:
    """Batched is alone: row order and batch size do not matter."""
    options, logits = SamplingOptions(seed=seed), noise(4)
    together = ids_of(Sampler(options, 4).pick(logits[order].copy(), order, [[]] * 4))
    for at, row in enumerate(order):
        assert ids_of(Sampler(options, 4).pick(logits[[row]].copy(), [row], [[]])) == [together[at]]


@given(st.integers(0, 1000), st.sampled_from([GREEDY, SamplingOptions(), SamplingOptions(repeat_penalty=1.5, top_k=0)]))
def test_looking_ahead_draws_what_step_by_step_draws(seed: int, options: SamplingOptions) -> None:
    """The rows of a draft may be looked at together: the tokens are those of one step after another."""
    logits = noise(4, seed=seed)
    alone, ahead = Sampler(options, 1, logprobs=1), Sampler(options, 1, logprobs=1)
    steps, text = list[Token | None](), list[int]()
    for row in logits:
        steps += alone.pick(row[None].copy(), [0], [text])
        text = ids_of(steps)
    texts = [text[:i] for i in range(4)]
    outlook = ahead.look(logits.copy(), texts)
    assert [ahead.draw(outlook, i, 0, texts[i]) for i in range(4)] == steps


def test_bias_is_added_and_forbids() -> None:
    """A positive bias lifts a token, -100 forbids it whatever its logit."""
    assert ids_of(Sampler(GREEDY, 1, bias={0: 3.5}).pick(rows([0, 3, 1]), [0], [[]])) == [0]
    assert ids_of(Sampler(GREEDY, 1, bias={1: -100}).pick(rows([0, 300, 1]), [0], [[]])) == [2]


def test_repeat_penalty_lowers_what_was_written() -> None:
    """Positive and negative logits both go down."""
    sampler = Sampler(SamplingOptions(temperature=0, repeat_penalty=2), 2)
    assert ids_of(sampler.pick(rows([3, 2, 0], [-1, -1.5, -9]), [0, 1], [[0, 0], [0]])) == [1, 1]


@pytest.mark.parametrize(
    ("penalties", "expected"),
    [({"presence_penalty": 1.0}, [0, 1]), ({"frequency_penalty": 0.6}, [1, 0]), ({"frequency_penalty": -2.0}, [0, 0])],
)
def test_frequency_and_presence_penalties(penalties: dict[str, float], expected: list[int]) -> None:
    """Frequency counts each time a token was written, presence only whether it was."""
    sampler = Sampler(SamplingOptions(temperature=0, **penalties), 2)  # type: ignore[arg-type]  # floats, by name
    assert ids_of(sampler.pick(rows([4.1, 3, 0], [4, 3.2, 0]), [0, 1], [[0, 0], [0]])) == expected


def test_no_repeat_ngram_forbids_the_second_run() -> None:
    """After `1 2 .. 1` with bigrams forbidden, 2 may not come; 2 may after another token."""
    sampler = Sampler(SamplingOptions(temperature=0, no_repeat_ngram=2), 3)
    picked = sampler.pick(rows([0, 0, 9, 5], [0, 0, 9, 5], [0, 0, 9, 5]), [0, 1, 2], [[1, 2, 1], [1, 2, 3], [1]])
    assert ids_of(picked) == [3, 2, 2]


@pytest.mark.parametrize("options", [GREEDY, SamplingOptions(temperature=1, top_p=1, top_k=3)])
def test_a_vetoed_token_is_drawn_again(options: SamplingOptions) -> None:
    """The next one in the running comes instead, each row on its own; the veto sees what the row has written."""
    asked: list[tuple[tuple[int, ...], int]] = []

    def veto(written: Sequence[int], token: int) -> bool:
        asked.append((tuple(written), token))
        return token == written[0]

    sampler = Sampler(options, 2, veto=veto)
    for _ in range(20):
        ids = ids_of(sampler.pick(rows([9, 8, 0, 0], [9, 8, 0, 0]), [0, 1], [[0], [1]]))
        assert ids[0] != 0 and ids[1] != 1
    assert ((0,), 0) in asked


def test_a_veto_of_everything_gives_way() -> None:
    """Where nothing else is left, the last token comes: the check of the whole text decides then."""
    sampler = Sampler(GREEDY, 1, np.array([True, True, False]), veto=lambda *_: True)
    assert ids_of(sampler.pick(rows([5, 4, 9]), [0], [[]])) == [1]


def test_a_grammar_is_asked_about_the_drawn_token_first() -> None:
    """Then about the candidates, then about all; each sequence has its own; None where nothing may follow."""
    grammar = FakeBackend().grammar('root ::= "ab" | "x"')
    sampler = Sampler(SamplingOptions(temperature=0, top_k=2), 2, np.arange(300) < 256, grammar=grammar)
    logits = np.zeros((2, 300), dtype=np.float32)
    logits[:, [ord("z"), ord("y")]] = 9
    logits[0, ord("x")] = 5
    assert ids_of(sampler.pick(logits.copy(), [0, 1], [[], []])) == [ord("x"), ord("a")]
    assert sampler.pick(logits.copy(), [0, 1], [[ord("x")], [ord("a")]]) == [None, Token(ord("b"))]
