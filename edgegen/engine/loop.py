"""The engine: one thread makes the backend and makes every call to it; everyone else submits jobs and gets futures.

Owns the thread, the bounded queue and the way in and out. Knows no tasks and no texts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Self, TypeVar

from edgegen.engine.backend import Backend
from edgegen.engine.job import Completion, Job, Limits
from edgegen.engine.ngrams import NGrams
from edgegen.engine.threads import ThreadGovernor
from edgegen.engine.worker import CALLER_ERRORS, Generation, Ticket, Timings, Vocabulary, Worker
from edgegen.errors import BusyError, EngineError, GpuMemoryError, PackError
from edgegen.slots import Control, Piece

__all__ = ["Completion", "Engine", "Generation", "Job", "Limits", "Timings", "Vocabulary", "encode"]

T = TypeVar("T")


class Engine:
    """Runs jobs on a backend that it makes, uses and closes in a thread of its own."""

    def __init__(
        self,
        factory: Callable[[], Backend],
        *,
        threads: int = 1,
        max_waiting: int = 32,
        table: NGrams | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the backend and wait for it. Raises what `factory` raises.

        Starts with `threads` threads and uses fewer while another process keeps the processor busy. At most
        `max_waiting` jobs wait beside those that run. `table` is the pack's draft table, if there is one.
        """
        self._clock, self._max_waiting, self._table = clock, max_waiting, table
        self._governor = ThreadGovernor(threads)
        self._wake = threading.Condition()
        self._inbox: list[Ticket] = []
        self._asks: list[Callable[[Backend], None]] = []
        self._closing = self._drain = False
        ready: Future[tuple[Vocabulary, Limits]] = Future()
        self._thread = threading.Thread(target=self._main, args=(factory, ready), name="edgegen-engine", daemon=True)
        self._thread.start()
        self.vocabulary, self.limits = ready.result()

    def submit(self, job: Job) -> Future[Generation]:
        """Queue a job. Cancel the future to drop it at any time.

        Raises PromptTooLongError, OptionError, BusyError, and EngineError after close().
        """
        self.limits.check(job)
        ticket = Ticket(job, self._clock())
        with self._wake:
            self._refuse_if_closed()
            if self.waiting >= self._max_waiting:
                raise BusyError(f"{self.waiting} jobs are waiting already. Try again in a few seconds.")
            self._inbox.append(ticket)
            self._wake.notify()
        return ticket.future

    def ask(self, question: Callable[[Backend], T]) -> T:
        """Call the backend in the engine's thread, between two steps, and wait for the answer."""
        return self.post(question).result()

    def post(self, question: Callable[[Backend], T]) -> Future[T]:
        """`ask` that does not wait. What a question submits is admitted in the very step that follows it."""
        answer: Future[T] = Future()
        with self._wake:
            self._refuse_if_closed()
            self._asks.append(partial(_ask, answer, question))
            self._wake.notify()
        return answer

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Token ids of a prompt's pieces; text is never parsed for control tokens. Raises PackError for an unknown one."""
        return self.ask(lambda backend: encode(backend, pieces))

    @property
    def waiting(self) -> int:
        """Jobs that have no sequences yet."""
        return len(self._inbox) + len(self._worker.waiting)

    @property
    def threads(self) -> int:
        """Threads that the next step uses."""
        return self._governor.threads

    @property
    def most_threads(self) -> int:
        """Threads that steps use while nothing disturbs. May be set by any thread, from the next step on."""
        return self._governor.most

    @most_threads.setter
    def most_threads(self, most: int) -> None:
        self._governor.most = most

    def figures(self) -> dict[str, float]:
        """Counters and gauges as they are at the end of the last step; see `figures.Figures.as_metrics`. Any thread may ask."""
        return {**self._worker.figures.as_metrics(), "jobs_waiting": self.waiting}

    def close(self, *, drain: bool = False) -> None:
        """Stop and free the model. Open jobs fail, or are finished first where `drain`. May be called again."""
        with self._wake:
            self._closing, self._drain = True, drain
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _refuse_if_closed(self) -> None:
        if self._closing or not self._thread.is_alive():
            raise EngineError("The engine is closed. Open the pack again.")

    # Everything below runs in the engine's own thread.

    def _main(self, factory: Callable[[], Backend], ready: Future[tuple[Vocabulary, Limits]]) -> None:
        try:
            backend = factory()
            worker = self._worker = Worker(backend, self._governor, self._clock, table=self._table)
            ready.set_result((worker.vocabulary(), worker.limits))
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that waits in __init__
            ready.set_exception(error)
            return
        why = EngineError("The engine was closed before the job was done. Open the pack again.")
        try:
            while self._next(worker):
                self._answer(backend)
                self._take_in(worker)
                worker.work()
        except GpuMemoryError as error:
            why = error
            raise
        finally:
            self._end(worker, backend, why)

    def _next(self, worker: Worker) -> bool:
        """Wait for something to do. False when it is time to end."""
        with self._wake:
            while not (self._closing or self._inbox or self._asks or worker.waiting or worker.running):
                self._wake.wait()
            return not self._closing or (self._drain and bool(self._inbox or worker.waiting or worker.running))

    def _take_in(self, worker: Worker) -> None:
        with self._wake:
            tickets = list(self._inbox)
        for ticket in tickets:
            worker.add(ticket)
        with self._wake:
            del self._inbox[: len(tickets)]

    def _answer(self, backend: Backend) -> None:
        with self._wake:
            asks, self._asks = self._asks, []
        for ask in asks:
            ask(backend)

    def _end(self, worker: Worker, backend: Backend, why: EngineError) -> None:
        """Leave nobody waiting, whatever ended the thread."""
        with self._wake:
            self._closing = True
        self._take_in(worker)
        self._answer(backend)
        worker.abandon(why)
        backend.close()


def _ask(answer: Future[T], question: Callable[[Backend], T], backend: Backend) -> None:
    try:
        answer.set_result(question(backend))
    except CALLER_ERRORS as error:
        answer.set_exception(error)


def encode(backend: Backend, pieces: Sequence[Piece]) -> list[int]:
    """Token ids of a prompt's pieces. Raises PackError for a control token that the model lacks."""
    ids: list[int] = []
    for piece in pieces:
        if isinstance(piece, Control):
            token = backend.control_id(piece.token)
            if token is None:
                raise PackError(f"The model has no control token {piece.token}. Use a pack that edgegen built.")
            ids.append(token)
        else:
            ids += backend.tokenize(piece)
    return ids
