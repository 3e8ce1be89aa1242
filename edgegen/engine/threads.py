"""Decides how many threads the next decode uses. Pure: it is told durations and reads no clock.

Threads of llama.cpp wait for each other by spinning. While another process keeps a core busy, many threads are far slower than
one, so the governor compares what steps take, goes down by halves, and tries to go up again after a pause.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

_SLOW = 2.0  # times the usual duration of such a step
_WORSE = 1.15  # times the duration of such a step on one thread
_HISTORY = 31  # steps remembered for each size
_ENOUGH = 3  # steps after which a median means something
_LEARN, _AGAIN = 3, 24  # steps on one thread to compare with: at first, and where so many steps of a size had none
_PATIENCE, _SOON, _SOON_S = 3, 2, 0.1  # slow steps in a row before going down; fewer where they lost so much time
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0  # decoding time before more threads are tried again
_WORTH = 10  # a pause is at least so many times as long as what was lost before it
_TRUST = 40  # good steps after which a try has worked, and the next pause is the first one again


@dataclass(slots=True)
class _Times:
    """Durations of steps by their size: the power of two that the number of tokens reaches."""

    by_size: dict[int, deque[float]] = field(default_factory=dict)

    def add(self, size: int, seconds: float) -> None:
        self.by_size.setdefault(size, deque(maxlen=_HISTORY)).append(seconds)

    def count(self, size: int) -> int:
        return len(self.by_size.get(size, ()))

    def usual(self, size: int) -> float | None:
        """What such a step takes, or at most takes by what smaller and larger ones do; None where nothing is known."""
        found = [
            median(times) * 2.0 ** max(0, size - at)
            for at, times in self.by_size.items()
            if len(times) >= _ENOUGH and (at == size or self.count(size) < _ENOUGH)
        ]
        return min(found, default=None)


@dataclass
class ThreadGovernor:
    """Starts with `most` threads, takes half of them where many are slow, and so on down to one; goes up again after a pause."""

    most: int
    """Threads to use while nothing disturbs; at least 1."""
    _level: int = 0
    _slow: int = 0
    _lost_s: float = 0.0
    _good: int = _TRUST
    _learning: int = _LEARN
    _pause_s: float = _FIRST_PAUSE_S
    _waited_s: float = 0.0
    _times: dict[int, _Times] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Threads for the next decode."""
        return 1 if self._learning else max(1, self.most >> self._level)

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn how long a decode of so many tokens took with `threads` threads."""
        if self.most <= 1:
            return
        size, threads = tokens.bit_length(), self.threads
        times = self._times.setdefault(threads, _Times())
        limit = None if threads == 1 else self._limit(size, times)
        if limit is None or seconds <= limit:  # slow steps stay out, or the collapse would become the usual
            times.add(size, seconds)
        if self._learning:
            self._learning -= 1
            return
        self._judge(seconds, limit)
        if self._level:
            self._wait(seconds)
        elif threads > 1 and times.count(size) == _AGAIN and not self._times[1].count(size):
            self._learning = _LEARN

    def _limit(self, size: int, times: _Times) -> float | None:
        """What a step may take before it counts as slow."""
        usual, single = times.usual(size), self._times[1].usual(size)
        known = ([_SLOW * usual] if usual is not None else []) + ([_WORSE * single] if single is not None else [])
        return min(known, default=None)

    def _judge(self, seconds: float, limit: float | None) -> None:
        if limit is None or seconds <= limit:
            self._slow, self._lost_s, self._good = 0, 0.0, self._good + 1
            if self._good == _TRUST:
                self._pause_s = _FIRST_PAUSE_S
            return
        self._slow, self._lost_s = self._slow + 1, self._lost_s + seconds - limit
        on_trial = self._good < _TRUST
        if on_trial or self._slow >= _PATIENCE or (self._slow >= _SOON and self._lost_s >= _SOON_S):
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
        self._slow, self._lost_s, self._waited_s = 0, 0.0, 0.0
