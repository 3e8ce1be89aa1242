"""The thread governor, fed with the durations of a simulated machine."""

from __future__ import annotations

from collections.abc import Callable

from edgegen.engine.threads import ThreadGovernor


def run(governor: ThreadGovernor, steps: int, seconds: Callable[[int, int], float], sizes: tuple[int, ...] = (1,)) -> list[int]:
    """Feed steps; the thread count of each."""
    used = []
    for i in range(steps):
        tokens = sizes[i % len(sizes)]
        used.append(governor.threads)
        governor.observe(tokens, seconds(governor.threads, tokens))
    return used


def idle(threads: int, tokens: int) -> float:
    """Two threads are twice as fast."""
    return 0.014 / threads * (1 + tokens / 4)


def busy(threads: int, tokens: int) -> float:
    """Another process runs: two threads collapse, one hardly notices."""
    return (0.25 if threads > 1 else 0.016) * (1 + tokens / 4)


def test_an_idle_machine_keeps_its_threads() -> None:
    """But for a few steps of comparison."""
    used = run(ThreadGovernor(2), 500, idle, sizes=(1, 8, 64))
    assert used.count(2) >= 490 and used[-1] == 2


def test_it_drops_within_a_few_slow_steps() -> None:
    """And stays down but for short tries."""
    governor = ThreadGovernor(2)
    run(governor, 100, idle)
    used = run(governor, 2000, busy)
    assert used[3] == 1 and used.count(2) < 30


def test_it_goes_back_up() -> None:
    """Once the other process is gone, within seconds of decoding."""
    governor = ThreadGovernor(2)
    run(governor, 100, idle)
    run(governor, 200, busy)
    assert run(governor, 700, idle)[-1] == 2


def test_a_machine_that_is_busy_from_the_start_is_noticed() -> None:
    """There is no better past to compare with, so it compares with one thread."""
    assert run(ThreadGovernor(2), 100, busy)[-1] == 1


def test_one_slow_step_changes_nothing() -> None:
    """A page fault is not a busy machine."""
    governor = ThreadGovernor(2)
    run(governor, 60, idle)
    governor.observe(1, 1.0)
    assert set(run(governor, 60, idle)) == {2}


def test_sizes_are_not_mixed_up() -> None:
    """A long prompt after many short steps is not slow."""
    governor = ThreadGovernor(2)
    run(governor, 60, idle)
    assert set(run(governor, 20, idle, sizes=(256,))) == {2}


def test_one_thread_stays_one() -> None:
    """Nothing to govern."""
    assert set(run(ThreadGovernor(1), 50, busy)) == {1}
