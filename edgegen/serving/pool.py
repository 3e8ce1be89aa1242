"""A few threads and a bounded queue for work that waits for the engine most of its time. Knows nothing of what the work is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from edgegen.engine.options import Priority
from edgegen.errors import BusyError

Work = Callable[[], None]
"""Must not raise: there is nobody to tell."""


class Pool:
    """Runs work in the order of its coming, shoppers' first; batch work never holds more than half of the threads."""

    def __init__(self, threads: int, most_waiting: int) -> None:
        """Start the threads. At most `most_waiting` pieces of work wait beside those that run."""
        self._most_waiting, self._most_batch = most_waiting, max(1, threads // 2)
        self._waiting: dict[Priority, deque[Work]] = {"shopper": deque(), "batch": deque()}
        self._running = {"shopper": 0, "batch": 0}
        self._wake = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._main, name=f"edgegen-pool-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work, priority: Priority = "shopper") -> None:
        """Queue work. Raises BusyError where the queue is full."""
        with self._wake:
            if self.waiting >= self._most_waiting:
                raise BusyError(f"{self.waiting} explanations are waiting already. Try again in a few seconds.")
            self._waiting[priority].append(work)
            self._wake.notify()

    @property
    def waiting(self) -> int:
        """Pieces of work that no thread has taken."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """Pieces of work under way."""
        return sum(self._running.values())

    def close(self) -> None:
        """End the threads after the work that they are at; what waits is forgotten."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _main(self) -> None:
        while (taken := self._take()) is not None:
            priority, work = taken
            work()
            with self._wake:
                self._running[priority] -= 1
                self._wake.notify()  # batch work may have waited for this thread

    def _take(self) -> tuple[Priority, Work] | None:
        with self._wake:
            while not self._closed:
                if (priority := self._next()) is not None:
                    self._running[priority] += 1
                    return priority, self._waiting[priority].popleft()
                self._wake.wait()
        return None

    def _next(self) -> Priority | None:
        if self._waiting["shopper"]:
            return "shopper"
        return "batch" if self._waiting["batch"] and self._running["batch"] < self._most_batch else None
