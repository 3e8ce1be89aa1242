"""Decides how many threads the next decode uses. Pure: it is told durations and reads no clock.

Threads of llama.cpp wait for each other by spinning. While another process keeps a core busy, many threads are far slower
than one, so the governor compares and steps down, and tries again later.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from statistics import median

_SLOW = 2.5  # times the usual duration of such a step
_WORSE = 1.15  # times the duration of such a step on one thread
_PATIENCE = 3  # slow steps in a row before stepping down
_HISTORY = 31  # steps remembered for each size
_ENOUGH = 5  # steps after which a median means something
_CALIBRATE_AFTER, _CALIBRATE_FOR = 24, 6  # steps on many threads, then steps on one to compare with
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 4.0, 120.0  # decoding time before many threads are tried again
_TRUST = 40  # good steps after which a pause is forgotten


def _history() -> defaultdict[int, deque[float]]:
    return defaultdict(lambda: deque(maxlen=_HISTORY))


@dataclass
class ThreadGovernor:
    """Starts with `most` threads, drops to one where many are slow, and tries to go back up after a pause."""

    most: int
    """Threads to use while nothing disturbs; at least 1."""
    _low: bool = False
    _slow: int = 0
    _good: int = 0
    _steps: int = 0
    _calibrating: int = 0
    _pause_s: float = _FIRST_PAUSE_S
    _waited_s: float = 0.0
    _many: defaultdict[int, deque[float]] = field(default_factory=_history)
    _single: defaultdict[int, deque[float]] = field(default_factory=_history)

    @property
    def threads(self) -> int:
        """Threads for the next decode."""
        return 1 if self._low or self._calibrating else max(1, self.most)

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn how long a decode of so many tokens took with `threads` threads."""
        if self.most <= 1:
            return
        size = tokens.bit_length()
        if self.threads == 1:
            self._observe_single(size, seconds)
        else:
            self._observe_many(size, seconds)

    def _observe_single(self, size: int, seconds: float) -> None:
        self._single[size].append(seconds)
        if self._calibrating:
            self._calibrating -= 1
            return
        self._waited_s += seconds
        if self._waited_s >= self._pause_s:
            self._low, self._slow, self._good = False, 0, 0

    def _observe_many(self, size: int, seconds: float) -> None:
        slow = self._is_slow(size, seconds)
        if not slow:
            # Slow steps stay out, or the collapse would become the new usual.
            self._many[size].append(seconds)
        self._slow, self._good = (self._slow + 1, 0) if slow else (0, self._good + 1)
        if self._slow >= _PATIENCE:
            self._step_down()
        elif self._good == _TRUST:
            self._pause_s, self._waited_s = _FIRST_PAUSE_S, 0.0
        self._steps += 1
        if self._steps == _CALIBRATE_AFTER and not self._low:
            self._calibrating = _CALIBRATE_FOR

    def _step_down(self) -> None:
        if self._waited_s:
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        self._low, self._waited_s = True, 0.0

    def _is_slow(self, size: int, seconds: float) -> bool:
        usual, single = self._many[size], self._single[size]
        if len(single) >= _ENOUGH and seconds > _WORSE * median(single):
            return True
        return len(usual) >= _ENOUGH and seconds > _SLOW * median(usual)
