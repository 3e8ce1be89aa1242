"""The engine's worker, step by step without a thread, on a fake that keeps its cache as llama.cpp does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.engine.backend import Batch, Logits
from edgegen.engine.job import Job
from edgegen.engine.options import Priority, SamplingOptions
from edgegen.engine.queue import PATIENCE
from edgegen.engine.worker import Generation, Ticket
from edgegen.errors import EngineError
from tests.fakes.backend import VOCABULARY, FakeBackend
from tests.fakes.desk import Desk

BAD = 33
GOOD = np.arange(len(VOCABULARY)) != BAD
SHORT = SamplingOptions(max_new_tokens=8)


class Brittle(FakeBackend):
    """A fake that fails on a batch with the token 33, with a part of it in the cache already."""

    def decode(self, batch: Batch) -> Logits:
        """Fail halfway, or decode."""
        if BAD in batch.tokens:
            half = batch.tokens.index(BAD)
            super().decode(Batch(*(column[:half] for column in (batch.tokens, batch.positions, batch.seqs, batch.outputs))))  # type: ignore[arg-type]
            raise EngineError("decode failed on purpose")
        return super().decode(batch)


def alone(job: Job) -> Generation:
    """What a job writes with the engine to itself."""
    desk = Desk(FakeBackend())
    ticket = desk.submit(replace(job, deadline_s=None))
    desk.run()
    return ticket.future.result(0)


PROMPTS = st.builds(
    lambda head, length, tail: [*range(100, 100 + head), *([7] * length), *tail],
    st.sampled_from([0, 40, 150]), st.integers(0, 3), st.lists(st.integers(0, 20), min_size=1, max_size=30),
)  # fmt: skip
JOBS = st.builds(
    lambda prompt, n, seed, new, priority, deadline: Job(
        prompt, n, SamplingOptions(max_new_tokens=new, seed=seed), priority=priority, deadline_s=deadline,
        stop_ids=frozenset(range(200, 216)), allow=GOOD,
    ),
    PROMPTS, st.integers(1, 8), st.integers(0, 3), st.integers(1, 20), st.sampled_from(["shopper", "batch"]),
    st.sampled_from([None, None, 12.5]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(JOBS, st.integers(0, 6), st.sampled_from(["", "", "", "cancel", "bad"])), min_size=1, max_size=12))
def test_every_job_ends_once_and_company_changes_no_text(mix: list[tuple[Job, int, str]]) -> None:
    """Whatever comes together, is cancelled, late or fails: the cache is never overfull, nothing leaks."""
    desk = Desk(Brittle())
    tickets = list[tuple[Ticket, Job, str]]()
    for job, steps, fate in mix:
        asked = replace(job, prompt=[*job.prompt[:-1], BAD]) if fate == "bad" else job
        tickets.append((desk.submit(asked), job, fate))
        for _ in range(steps):
            desk.step()
            desk.now += 1
        if fate == "cancel":
            tickets[-1][0].future.cancel()
    desk.run()
    for ticket, job, fate in tickets:
        assert ticket.future.done()
        if ticket.future.cancelled():
            assert fate == "cancel"
        elif fate == "bad" and job.deadline_s is None:
            assert isinstance(ticket.future.exception(0), EngineError)
        elif fate != "bad" and job.deadline_s is None:
            assert list(ticket.future.result(0)) == list(alone(job))
    assert not desk.worker._cache.running


def test_eight_prompts_with_one_instruction_decode_it_once() -> None:
    """Those that come while the first one's prompt is decoded share it as it comes."""
    desk = Desk(FakeBackend(n_cells=400))
    jobs = [Job([*range(200), 230, i], options=SHORT) for i in range(8)]
    tickets = [desk.submit(job) for job in jobs[:4]]
    desk.step()
    tickets += [desk.submit(job) for job in jobs[4:]]
    desk.run()
    assert desk.worker.figures.decoded == 201 + 8 + 8 * 7
    assert [list(t.future.result(0)) for t in tickets] == [list(alone(job)) for job in jobs]


def test_who_decodes_a_shared_prompt_may_leave() -> None:
    """The others go on from where it was."""
    desk = Desk(FakeBackend())
    jobs = [Job([*range(200), i], n=2, options=SHORT) for i in range(3)]
    writer = desk.submit(Job([1], options=replace(SHORT, max_new_tokens=90)))
    desk.step()
    tickets = [desk.submit(job) for job in jobs]
    desk.step()
    tickets[0].future.cancel()
    desk.run()
    assert [list(t.future.result(0)) for t in tickets[1:]] == [list(alone(job)) for job in jobs[1:]]
    assert desk.worker.figures.decoded == 200 + 1 + 89 + 2 * (1 + 2 * 7)
    assert writer.future.done()


def test_several_prompts_are_kept_and_the_oldest_gives_way() -> None:
    """Three talks in turn reuse their own beginnings; a job that needs all cells gets them."""
    desk = Desk(FakeBackend(n_ctx=900, n_cells=900))
    talks = [[10 * i + 200 + j for j in range(10)] * 3 for i in range(3)]
    for talk in talks * 2:
        ticket = desk.submit(Job(talk, options=SHORT))
        desk.run()
    assert ticket.reused == 29 and desk.worker.figures.reused == 3 * 29
    assert len(desk.worker._cache.kept) == 3
    desk.submit(Job([5] * 890, options=SHORT))
    desk.run()
    assert len(desk.worker._cache.kept) == 1


def test_a_talk_goes_on_after_its_answer() -> None:
    """The next prompt begins with the last prompt and its text: neither is decoded again."""
    desk = Desk(FakeBackend())
    first = desk.submit(Job([1, 2, 3], options=SHORT))
    desk.run()
    text = first.future.result(0)[0].tokens
    second = desk.submit(Job([1, 2, 3, *text, 4], options=SHORT))
    desk.run()
    assert second.reused == 3 + len(text) - 1


def order(jobs: list[Job]) -> list[int]:
    """In which order jobs that wait together end."""
    desk = Desk(FakeBackend())
    tickets, ended = [desk.submit(job) for job in jobs], list[int]()
    while len(ended) < len(jobs):
        desk.step()
        ended += [i for i, t in enumerate(tickets) if t.future.done() and i not in ended]
    return ended


def wide(i: int, n: int = 8, priority: Priority = "shopper") -> Job:
    """A job that takes many sequences."""
    return Job([i], n, SHORT, priority=priority)


def test_shoppers_come_before_batch_jobs() -> None:
    """And among equals who came first."""
    assert order([wide(0), wide(1, priority="batch"), wide(2), wide(3)]) == [0, 2, 3, 1]


def test_a_batch_job_is_not_passed_for_ever() -> None:
    """After so many shoppers it is its turn."""
    jobs = [wide(0), wide(1, priority="batch"), *(wide(i) for i in range(2, 20))]
    assert order(jobs).index(1) == PATIENCE + 1


def test_small_jobs_pass_a_big_one_but_not_for_ever() -> None:
    """They run in the room that is left meanwhile; then the room is kept for the big one."""
    jobs = [wide(0, 7), wide(1, 8), *(wide(i, 1) for i in range(2, 20))]
    ended = order(jobs)
    assert ended.index(2) < ended.index(1) <= PATIENCE + 2


def test_batch_jobs_leave_room_and_time_to_shoppers() -> None:
    """A shopper that comes beside them finds sequences, and most steps are its own."""
    desk = Desk(FakeBackend())
    batch = [desk.submit(Job([i], options=replace(SHORT, max_new_tokens=90), priority="batch")) for i in range(8)]
    for _ in range(3):
        desk.step()
    shopper = desk.submit(Job([50], options=SHORT))
    desk.step()
    assert shopper.run is not None
    desk.run()
    assert desk.backend.decoded.count(1) >= 5 and all(ticket.future.done() for ticket in batch)


def test_a_finished_candidate_gives_its_cells_back_at_once() -> None:
    """A job that waits for them starts while the others are still written."""
    desk = Desk(FakeBackend())
    ends = iter([False, True])
    first = desk.submit(Job([1], 8, replace(SHORT, max_new_tokens=40), on_token=lambda i, _: i == 0))
    second = desk.submit(Job([2], 1, SHORT))
    desk.step()
    desk.step()
    assert next(ends) is False and second.run is not None and not first.future.done()


@pytest.mark.parametrize(("token_s", "stretch"), [(0.001, 64), (0.003, 33), (0.05, 16)])
def test_a_long_prompt_stalls_no_stream_on_a_slow_machine(token_s: float, stretch: int) -> None:
    """Its stretches are as long as a tenth of a second allows, and not shorter than is any use."""

    class Slow(FakeBackend):
        def decode(self, batch: Batch) -> Logits:
            desk.now += token_s * len(batch)
            return super().decode(batch)

    desk = Desk(Slow())
    desk.submit(Job([1], options=replace(SHORT, max_new_tokens=60)))
    desk.step()
    desk.submit(Job([2] * 200, options=SHORT))
    desk.run()
    assert desk.backend.decoded[1:3] == [65, 1 + stretch]


class Seen(FakeBackend):
    """Notes all that it is asked to decode, and which cells it does so on."""

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__()
        self.asked: list[object] = []

    def decode(self, batch: Batch) -> Logits:
        """Note it."""
        self.asked.append((batch.tokens.copy(), batch.positions.copy(), batch.seqs.copy(), len(self.cells)))
        return super().decode(batch)


def test_a_fresh_job_alone_makes_the_same_calls_each_time() -> None:
    """Whatever the cache holds; another job is given what there is."""
    prompt = [*range(30, 60)]
    for fresh in (True, False):
        backend = Seen()
        desk, calls = Desk(backend), list[object]()
        for _ in range(2):
            backend.asked = []
            desk.submit(Job(prompt, 2, SHORT, fresh=fresh, draft=not fresh))
            desk.run()
            calls.append(backend.asked)
            for start in (30, 100):
                desk.submit(Job([*range(start, start + 20)], 1, SHORT))
                desk.run()
        assert (calls[0] == calls[1]) == fresh


def test_a_fresh_job_beside_others_shares_nothing_and_takes_nothing_from_them() -> None:
    """They go on, and what they keep stays."""
    backend = Seen()
    desk = Desk(backend)
    job = Job([*range(30, 60)], 1, SHORT)
    tickets = [desk.submit(job), desk.submit(replace(job, fresh=True, draft=False))]
    desk.run()
    assert tickets[1].reused == 0
    texts = [ticket.future.result(0)[0].tokens for ticket in tickets]
    assert texts == [alone(ticket.job)[0].tokens for ticket in tickets]
