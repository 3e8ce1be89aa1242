"""Whose turn it is: the urgent first, who fits may pass, and nobody is passed for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgegen.engine.cache import Cache, common_prefix
from edgegen.engine.queue import PATIENCE, Queue


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8), st.integers(0, 3)), max_size=60), st.integers(1, 8))
def test_nobody_is_passed_more_often_than_patience_allows(comers: list[tuple[bool, int, int]], room: int) -> None:
    """Whatever comes and however much room there is; who fits alone has its turn in the end."""
    queue, passed, order = Queue[int](), dict[int, int](), list[int]()
    free = room

    def take() -> None:
        found = queue.take(lambda i: True if comers[i][1] <= free else None)
        if found is not None:
            order.append(found[0])
            for other in queue:
                passed[other] = passed.get(other, 0) + (other < found[0])

    for i, (urgent, _, turns) in enumerate(comers):
        queue.add(i, urgent=urgent)
        free = 1 + i % room
        for _ in range(turns):
            take()
    free = 8
    for _ in comers:
        take()
    assert sorted(order) == list(range(len(comers))) and not queue
    assert max(passed.values(), default=0) <= PATIENCE


def test_who_leaves_without_a_turn() -> None:
    """A job that was cancelled; one that does not wait is an error."""
    queue = Queue[str]()
    for item in "abc":
        queue.add(item, urgent=item != "a")
    queue.remove("b")
    assert list(queue) == ["a", "c"] and queue.take(lambda item: item.upper()) == ("c", "C")
    with pytest.raises(ValueError, match=".*"):
        queue.remove("b")


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    """As counted one by one."""
    n = common_prefix(a, b)
    assert a[:n] == b[:n] and (n == min(len(a), len(b)) or a[n] != b[n])


def test_what_is_shared_counts_once() -> None:
    """A prompt, one that goes on after it, and one that has half of it; the kept ones give way, the longest unused first."""
    cache = Cache(100, 12)
    first = cache.admit(list(range(40)), 2, 10)
    assert first is not None and cache.used == 60
    first.lease.ready = 40
    second = cache.admit([*range(39), 7, 7], 1, 10)
    assert second is not None and second.shared == 39 and cache.used == 60 + 2 + 10
    assert cache.admit([5] * 30, 1, 10) is None
    cache.keep(first.lease, first.lease.seqs[0], tuple(range(40)))
    assert cache.used == 40 + 2 + 10 and len(cache.kept) == 1
    third = cache.admit([5] * 47, 1, 2)
    assert third is not None and not cache.kept and cache.used == 39 + 2 + 10 + 49
