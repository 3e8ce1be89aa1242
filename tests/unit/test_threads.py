"""The thread governor, fed with the durations of a simulated machine."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from edgegen.engine.threads import ThreadGovernor

Machine = Callable[[int, int], float]


Used = list[tuple[float, int]]


def run(governor: ThreadGovernor, seconds_in_all: float, machine: Machine, sizes: tuple[int, ...] = (1,)) -> Used:
    """Decode for so long; when each step began, and its threads."""
    used, now, i = Used(), 0.0, 0
    while now < seconds_in_all:
        tokens = sizes[i % len(sizes)]
        used.append((now, governor.threads))
        took = machine(governor.threads, tokens)
        governor.observe(tokens, took)
        now, i = now + took, i + 1
    return used


def idle(threads: int, tokens: int) -> float:
    """Threads share the work."""
    return 0.014 / threads * (1 + tokens / 4)


def one_busy(threads: int, tokens: int) -> float:
    """Another process runs on one of two cores: two threads collapse, one hardly notices."""
    return (0.05 if threads > 1 else 0.015) * (1 + tokens / 4)


def two_busy(threads: int, tokens: int) -> float:
    """Two processes run: one thread has its share only, two wait for each other's turns."""
    return (0.25 if threads > 1 else 0.024) * (1 + tokens / 4)


def noisy(machine: Machine, seed: int = 0) -> Machine:
    """The same with a scatter of a fifth, and now and then a step that takes three times as long."""
    random = Random(seed)
    return lambda threads, tokens: machine(threads, tokens) * random.uniform(0.9, 1.1) * (3 if random.random() < 0.01 else 1)


def share(used: Used, threads: int) -> float:
    return sum(found == threads for _, found in used) / len(used)


SIZES = [(1,), (8,), (1, 8, 64), (16, 16, 16, 80)]


@pytest.mark.parametrize("sizes", SIZES)
def test_an_idle_machine_keeps_its_threads(sizes: tuple[int, ...]) -> None:
    """But for a few steps of comparison, noise or not."""
    for machine in (idle, noisy(idle)):
        used = run(ThreadGovernor(2), 30, machine, sizes)
        assert share(used, 2) > 0.9 and used[-1][1] == 2


@pytest.mark.parametrize("busy", [one_busy, two_busy])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_goes_down_within_a_second_and_up_again(busy: Machine, sizes: tuple[int, ...]) -> None:
    """It stays down while the other process runs, but for short tries; a while after it ended, all threads are back."""
    governor = ThreadGovernor(2)
    run(governor, 5, noisy(idle), sizes)
    step = max(busy(2, tokens) for tokens in sizes)
    used = run(governor, 30, noisy(busy), sizes)
    assert min(at for at, threads in used if threads == 1) <= max(1.0, 2.5 * step)
    spent = sum(busy(2, sizes[i % len(sizes)]) for i, (_, threads) in enumerate(used) if threads == 2)
    assert spent < 0.35 * 30
    after = run(governor, 60, noisy(idle), sizes)
    assert min(at for at, threads in after if threads == 2) < 45 and share(after[-20:], 2) == 1


@pytest.mark.parametrize("busy", [one_busy, two_busy])
def test_a_machine_that_is_busy_from_the_start_is_noticed(busy: Machine) -> None:
    """The first steps are on one thread, so there is something to compare with."""
    used = run(ThreadGovernor(2), 5, busy)
    assert min(at for at, threads in used if threads == 2) < 0.2
    assert [threads for at, threads in used if 1.0 < at < 2.0] == [1] * len([0 for at, _ in used if 1.0 < at < 2.0])


def test_another_size_in_the_middle_of_a_collapse_is_judged_too() -> None:
    """What smaller steps take bounds what a larger one may."""
    governor = ThreadGovernor(2)
    run(governor, 3, idle, (1,))
    used = run(governor, 2, two_busy, (8,))
    assert min(at for at, threads in used if threads == 1) < 1.6


def test_one_slow_step_changes_nothing() -> None:
    """A page fault is not a busy machine."""
    governor = ThreadGovernor(2)
    run(governor, 3, idle)
    governor.observe(1, 1.0)
    assert share(run(governor, 0.5, idle), 2) == 1


def test_a_long_prompt_after_many_short_steps_is_not_slow() -> None:
    """Sizes are not mixed up."""
    governor = ThreadGovernor(2)
    run(governor, 3, idle)
    assert share(run(governor, 10, idle, (256,)), 2) > 0.9


def test_four_threads_go_down_by_halves() -> None:
    """With one core taken, two are still better than one."""

    def three_cores(threads: int, tokens: int) -> float:
        return 0.014 * (4 if threads > 3 else 1 / threads) * (1 + tokens / 4)

    governor = ThreadGovernor(4)
    run(governor, 3, idle)
    used = run(governor, 10, three_cores)
    assert share(used, 2) > 0.8 and share(used, 1) < 0.1


def test_one_thread_stays_one() -> None:
    """Nothing to govern."""
    assert share(run(ThreadGovernor(1), 5, one_busy), 1) == 1


def test_a_machine_that_was_busy_always_is_compared_for_each_size() -> None:
    """The first steps were a prompt's, and the steps that follow were never seen on an idle machine."""
    governor = ThreadGovernor(2)
    run(governor, 3, two_busy, (128,))
    used = run(governor, 6, two_busy, (8,))
    assert share(used[-40:], 1) > 0.9


def test_what_one_thread_takes_is_learnt_anew() -> None:
    """It was measured while three others ran; now one runs, and one thread would be far faster than two."""
    governor = ThreadGovernor(2)
    run(governor, 3, lambda threads, tokens: 0.3 / threads, (8,))
    used = run(governor, 40, lambda threads, tokens: 0.16 if threads > 1 else 0.02, (8,))
    assert share(used[-200:], 1) > 0.9


@pytest.mark.parametrize("length", [3, 5])
def test_short_disturbances_of_short_steps_are_borne(length: int) -> None:
    """A server's own threads wake up for every text: some steps in a row are slow, and two threads are still better."""
    at = 0

    def served(threads: int, tokens: int) -> float:
        nonlocal at
        at += 1
        return 0.00075 if threads == 1 else 0.0015 if at % 40 < length else 0.0005

    assert share(run(ThreadGovernor(2), 10, served), 2) > 0.95
