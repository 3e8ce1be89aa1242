"""Drafts in the worker: verified in the batch, and the texts are those without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.engine.backend import Logits
from edgegen.engine.drafting import Pace
from edgegen.engine.job import Completion, Job
from edgegen.engine.options import SamplingOptions
from edgegen.engine.sampling import Token
from tests.fakes.backend import FakeBackend, hashed
from tests.fakes.desk import Desk

LOOP = [7, 8, 9, 10, 11]
OPTIONS = SamplingOptions(max_new_tokens=24, temperature=0.6)


class Eager(Pace):
    """Takes every guess there is, as far as `room` rows."""

    def __init__(self, room: int = 64) -> None:
        super().__init__()
        self.room = room

    def least(self, rows: int) -> float:
        """Anything goes."""
        return 0.0

    def choose(self, rows: int, chances: Sequence[Sequence[float]]) -> list[int]:
        """All of them, first come first served."""
        lengths, left = list[int](), self.room - rows
        for found in chances:
            lengths.append(max(0, min(len(found), left)))
            left -= lengths[-1]
        return lengths


def looping(context: tuple[int, ...]) -> Logits:
    """Mostly goes round in a loop of tokens, with some chance for others: drafts from the prompt are mostly right."""
    row = hashed(context)
    row[LOOP[(LOOP.index(context[-1]) + 1) % len(LOOP)] if context[-1] in LOOP else LOOP[0]] += 13
    return row


def written(jobs: Sequence[Job], pace: Pace | None) -> tuple[list[list[tuple[Any, ...]]], Desk]:
    """Tokens, ends and log-probabilities of jobs that run together; how far a text came that nobody needs is left open."""
    desk = Desk(FakeBackend(looping), pace=pace)
    tickets = [desk.submit(job) for job in jobs]
    desk.run()
    return [[_told(candidate) for candidate in ticket.future.result(0)] for ticket in tickets], desk


def _told(done: Completion) -> tuple[Any, ...]:
    return (done.finish,) if done.finish == "spare" else (done.finish, done.tokens, done.setbacks, round(done.logprob, 4))


def veto(text: Sequence[int], token: int) -> bool:
    return token == LOOP[2] and len(text) % 3 == 1


def keep(text: Sequence[int], token: int, logprobs: Sequence[float]) -> int:
    """Some tokens set the text back."""
    return max(0, len(text) - 3) if token % 5 == 3 else len(text) + 1


def along(text: tuple[int, ...]) -> Sequence[int]:
    return [*LOOP, 50] if len(text) < 15 else []


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "greedy": {"options": replace(OPTIONS, temperature=0)},
    "veto": {"veto": veto},
    "keep": {"keep": keep, "patience": 9},
    "constraint": {"constraint": along},
    "stops": {"stop_ids": frozenset({LOOP[4], 3, 30})},
    "looks back": {"options": replace(OPTIONS, repeat_penalty=1.2)},
    "bias": {"bias": {LOOP[3]: -9.0}},
    "logprobs": {"logprobs": 3},
    "mask": {"allow": np.arange(FakeBackend().n_vocab) != LOOP[3]},
    "enough": {"stop_ids": frozenset({LOOP[4]}), "enough": 1},
    "enough of what is kept": {"stop_ids": frozenset({LOOP[4], 20}), "keep": keep, "enough": 2},
}


def job(kind: str, n: int, seed: int) -> Job:
    """A job of a kind; its prompt goes round in the loop."""
    wanted = {"options": OPTIONS, **KINDS[kind]}
    return Job([*LOOP, *LOOP, seed], n, **wanted | {"options": replace(wanted["options"], seed=seed)})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.builds(job, st.sampled_from(list(KINDS)), st.integers(1, 3), st.integers(0, 5)), max_size=5),
    st.integers(2, 40),
)
def test_texts_with_drafts_are_those_without(jobs: list[Job], room: int) -> None:
    """Whatever chooses the tokens: the same tokens, ends and log-probabilities, within the same cells."""
    assert written(jobs, Eager(room))[0] == written(jobs, None)[0]


def test_drafts_save_steps() -> None:
    """A text that goes round in a loop takes a fraction of the steps."""
    work = Job([*LOOP, *LOOP], options=replace(OPTIONS, temperature=0, max_new_tokens=60))
    texts, desk = written([work], Eager())
    figures = desk.worker.figures
    assert texts == written([work], None)[0] and figures.steps < 30
    assert figures.written == 60 and figures.accepted == 60 - figures.steps and figures.drafted >= figures.accepted
    texts, desk = written([replace(work, draft=False)], Eager())
    assert desk.worker.figures.drafted == 0 and desk.worker.figures.steps == 60


def test_who_hears_a_drafted_token_may_end_the_text() -> None:
    """What was drafted after it is neither heard nor written."""
    heard = list[int]()

    def hear(_: int, token: Token) -> bool:
        heard.append(token.id)
        return len(heard) == 7

    texts, _ = written([Job([*LOOP, *LOOP], options=replace(OPTIONS, temperature=0), on_token=hear)], Eager())
    assert len(heard) == 7 and texts[0][0][:2] == ("stop", tuple(heard))


@pytest.mark.parametrize("new", [1, 2, 3, 24])
def test_drafts_keep_within_cells_and_positions(new: int) -> None:
    """A prompt and text that fill the context to its end, in a cache that holds just that."""
    prompt = (LOOP * 60)[: 100 - new]
    desk = Desk(FakeBackend(looping, n_ctx=100, n_cells=100), pace=Eager())
    ticket = desk.submit(Job(prompt, options=replace(OPTIONS, temperature=0, max_new_tokens=new)))
    desk.run()
    assert len(ticket.future.result(0)[0].tokens) == new
