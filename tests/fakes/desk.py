"""A worker without a thread, whose clock is moved by hand and whose books are compared with the cache after every step."""

from __future__ import annotations

from dataclasses import dataclass

from edgegen.engine.drafting import Pace
from edgegen.engine.job import Job
from edgegen.engine.threads import ThreadGovernor
from edgegen.engine.worker import Ticket, Worker
from tests.fakes.backend import FakeBackend


@dataclass
class Desk:
    """A worker whose clock is moved by hand."""

    backend: FakeBackend
    now: float = 0.0
    pace: Pace | None = None

    def __post_init__(self) -> None:
        self.worker = Worker(self.backend, ThreadGovernor(1), lambda: self.now, pace=self.pace)

    def submit(self, job: Job) -> Ticket:
        """A ticket in the queue."""
        self.worker.limits.check(job)
        ticket = Ticket(job, self.now)
        self.worker.add(ticket)
        return ticket

    def step(self) -> None:
        """One step; the books must cover what is in the cache, and the cache must hold what is in the books."""
        self.worker.work()
        cache = self.worker._cache
        assert len(self.backend.cells) <= cache.used <= cache.cells
        taken = [seq for lease in (*cache.running, *cache.kept) for seq in lease.seqs]
        assert len(taken) == len(set(taken)) and {seq for cell in self.backend.cells for seq in cell.seqs} <= set(taken)
        for lease in cache.kept:
            assert self.backend.context(lease.seqs[0]) == lease.tokens

    def run(self) -> int:
        """Step until nobody waits or runs; how many steps."""
        for count in range(2000):
            if not self.worker.waiting and not self.worker.running:
                return count
            self.step()
        raise AssertionError("it never ends")
