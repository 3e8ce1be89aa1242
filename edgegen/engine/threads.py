"""Decides how many threads the next decode uses. Pure: it is told durations and reads no clock.

Threads of llama.cpp wait for each other by spinning. While another process keeps a core busy, many threads are far slower than
one, so the governor compares what steps take, goes down by halves, and tries to go up again after a pause. It adds up what slow
steps lose and others win (a CUSUM, Page 1954, https://doi.org/10.1093/biomet/41.1-2.100): a few that a short-lived thread of the
server itself disturbs are no busy machine, however slow they are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

_SLOW = 2.0  # times the usual duration of such a step
_WORSE = 1.15  # times the duration of such a step on one thread
_HISTORY, _RECENT = 31, 5  # steps remembered for each size; on one thread, because those are few
_ENOUGH = 3  # steps after which the median of many threads means something
_LEARN, _LEARN_S = 3, 0.3  # steps on one thread, to compare with, fewer where they take so long
_FIRST_S, _AFRESH_S = 0.2, 20.0  # decoding time with steps of one size after which it is compared, and again
_DEBT_S, _DEBT_ON_TRIAL_S = 0.04, 0.02  # more time lost by slow steps than won by others, after which it goes down
_AT_MOST_S = 0.025  # that one step counts for: a page fault is no busy machine
_CLEAR, _CLEAR_S = 3.0, 0.1  # times the limit, and seconds beyond it: one such step ends a try
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0  # decoding time before more threads are tried again
_WORTH = 10  # a pause is at least so many times as long as what was lost before it
_TRUST = 40  # good steps after which a try has worked, and the next pause is the first one again


@dataclass(slots=True)
class _Times:
    """Durations of steps by their size: the power of two that the number of tokens reaches."""

    most: int = _HISTORY
    enough: int = _ENOUGH
    by_size: dict[int, deque[float]] = field(default_factory=dict)

    def add(self, size: int, seconds: float) -> None:
        self.by_size.setdefault(size, deque(maxlen=self.most)).append(seconds)

    def usual(self, size: int) -> float | None:
        """What such a step takes, or at most takes by what smaller and larger ones do; None where nothing is known."""
        own = self.by_size.get(size, ())
        if len(own) >= self.enough:
            return median(own)
        known = [(at, median(times)) for at, times in self.by_size.items() if len(times) >= self.enough]
        return min((seconds * 2.0 ** max(0, size - at) for at, seconds in known), default=None)


@dataclass
class ThreadGovernor:
    """Starts with `most` threads, takes half of them where many are slow, and so on down to one; goes up again after a pause."""

    most: int
    """Threads to use while nothing disturbs; at least 1."""
    _level: int = 0
    _slow: int = 0
    _debt_s: float = 0.0
    _lost_s: float = 0.0
    _good: int = 0
    _learning: int = _LEARN
    _learnt_s: float = -60.0  # at first a few steps in any case
    _pause_s: float = _FIRST_PAUSE_S
    _waited_s: float = 0.0
    _single: _Times = field(default_factory=lambda: _Times(_RECENT, 1))
    _many: dict[int, _Times] = field(default_factory=dict)
    _left_s: dict[int, float] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Threads for the next decode."""
        return 1 if self._learning else max(1, self.most >> self._level)

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn how long a decode of so many tokens took with `threads` threads."""
        if self.most <= 1:
            return
        size, threads = tokens.bit_length(), self.threads
        if threads > 1:
            self._judge(size, self._many.setdefault(threads, _Times()), seconds)
        else:
            self._single.add(size, seconds)
            self._left_s[size] = _AFRESH_S
        if threads == 1 and self._learning:
            self._learnt_s += seconds
            self._learning = self._learning - 1 if self._learnt_s < _LEARN_S else 0
            if not self._learning:
                self._compare(size, seconds)
        elif self._level:
            self._wait(seconds)

    def _judge(self, size: int, times: _Times, seconds: float) -> None:
        usual, single = times.usual(size), self._single.usual(size)
        limits = ([_SLOW * usual] if usual is not None else []) + ([_WORSE * single] if single is not None else [])
        limit = min(limits, default=seconds)
        self._debt_s = max(0.0, self._debt_s + min(seconds - limit, _AT_MOST_S))
        if seconds > limit:
            self._is_slow(seconds, limit)
            return
        times.add(size, seconds)  # slow steps stay out, or the collapse would become the usual
        if not self._debt_s:
            self._slow, self._lost_s = 0, 0.0
        self._good += 1
        if self._good == _TRUST:
            self._pause_s = _FIRST_PAUSE_S
        left = self._left_s[size] = self._left_s.get(size, _FIRST_S) - seconds
        if left <= 0:
            self._left_s[size] = _AFRESH_S
            self._learning, self._learnt_s = _LEARN, 0.0

    def _compare(self, size: int, seconds: float) -> None:
        """Many threads may have been slow from the start."""
        times = self._many.get(self.threads)
        before = times.by_size.get(size) if times else None
        if before and median(before) > _WORSE * seconds:
            self._pause_s = _FIRST_PAUSE_S
            self._move(1)

    def _is_slow(self, seconds: float, limit: float) -> None:
        self._slow, self._lost_s = self._slow + 1, self._lost_s + seconds - limit
        on_trial = self._good < _TRUST
        clear = on_trial and self._lost_s >= _CLEAR_S and seconds > _CLEAR * limit
        if clear or (self._slow > 1 and self._debt_s >= (_DEBT_ON_TRIAL_S if on_trial else _DEBT_S)):
            pause_s = max(self._pause_s * 2 if on_trial else _FIRST_PAUSE_S, _WORTH * self._lost_s)
            self._pause_s = min(pause_s, _LONGEST_PAUSE_S)
            self._move(1)

    def _wait(self, seconds: float) -> None:
        self._waited_s += seconds
        if self._waited_s >= self._pause_s:
            self._move(-1)
            self._good = 0

    def _move(self, by: int) -> None:
        self._level = min(max(self._level + by, 0), self.most.bit_length() - 1)
        self._slow, self._debt_s, self._lost_s, self._waited_s = 0, 0.0, 0.0, 0.0
