"""The engine's owner of the backend: sequences, the kept prompt, and the steps of the jobs that run.

Everything here runs in the one thread that made the backend. Knows no queue limits and no locks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property

from edgegen.engine.backend import Backend, Logits
from edgegen.engine.scheduler import Completion, Job, Limits, Run, Share, Step, cells, common_prefix, plan
from edgegen.engine.threads import ThreadGovernor
from edgegen.errors import EdgegenError, EngineError

# What a caller's constraint, on_token or question may raise: it fails that one, not the engine.
CALLER_ERRORS = (EdgegenError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a job took, in seconds from its submission, and what it reused."""

    queue_s: float
    """Until it had its sequences."""
    prompt_s: float
    """From there until the prompt was decoded."""
    first_token_s: float | None
    """Until the first token; None where the deadline came first."""
    total_s: float
    """Until the last candidate was finished."""
    reused_tokens: int
    """Tokens of the prompt that were in the cache already."""


class Generation(list[Completion]):
    """The completions of a job, in the order of its candidates, with its timings."""

    def __init__(self, completions: Sequence[Completion], timings: Timings) -> None:
        """Completions and how long they took."""
        super().__init__(completions)
        self.timings = timings


@dataclass(frozen=True)
class Vocabulary:
    """A copy of the model's vocabulary that any thread may read."""

    pieces: tuple[bytes, ...]
    """The UTF-8 bytes of each token."""
    controls: frozenset[int]
    """Ids of control tokens."""
    eos: int | None
    """The token that ends a text."""

    def id(self, control: str) -> int | None:
        """The id of a control token given as text, or None where the model has none."""
        return self._ids.get(control.encode())

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {self.pieces[token]: token for token in self.controls}

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens as their own text; broken UTF-8 becomes U+FFFD."""
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", "replace")


@dataclass(eq=False)
class Ticket:
    """A submitted job, its future and when things happened to it."""

    job: Job
    submitted_s: float
    future: Future[Generation] = field(default_factory=Future)
    run: Run | None = None
    started_s: float = 0.0
    prompt_at_s: float | None = None
    reused: int = 0

    def late(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.job.deadline_s is not None and now - self.submitted_s > self.job.deadline_s

    def generation(self, now: float) -> Generation:
        """What there is by now."""
        since, prompt_at = self.submitted_s, self.prompt_at_s
        begun = self.started_s or now
        done = self.run.candidates if self.run else []
        completions = [candidate.completion() for candidate in done] or [Completion((), "deadline", 0.0)] * self.job.n
        first = None if prompt_at is None else prompt_at - since
        return Generation(completions, Timings(begun - since, (prompt_at or now) - begun, first, now - since, self.reused))

    @property
    def running(self) -> Run:
        """Its run, once it has sequences."""
        assert self.run is not None, "only admitted tickets run"  # noqa: S101 - narrows the type
        return self.run

    def resolve(self, error: Exception | None, now: float) -> None:
        """Tell the future, unless it was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        if error is None:
            self.future.set_result(self.generation(now))
        else:
            self.future.set_exception(error)


class Worker:
    """Runs tickets on a backend, several at once, step by step."""

    def __init__(self, backend: Backend, governor: ThreadGovernor, clock: Callable[[], float]) -> None:
        """Take over a backend made in this thread."""
        self._backend, self._governor, self._clock = backend, governor, clock
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []
        # The last sequence keeps the latest prompt, for the next one that begins alike.
        self._keeper, self._kept = backend.max_sequences - 1, list[int]()
        self._free = list(range(max(1, self._keeper)))
        self._threads = 0
        self.limits = Limits(backend.n_ctx, backend.n_cells, backend.n_vocab, len(self._free))

    def vocabulary(self) -> Vocabulary:
        """A copy of the backend's vocabulary."""
        everything = range(self._backend.n_vocab)
        pieces = tuple(self._backend.token_bytes(token) for token in everything)
        return Vocabulary(pieces, frozenset(t for t in everything if self._backend.is_control(t)), self._backend.eos)

    def work(self) -> None:
        """End what is over, admit what fits, make one step."""
        self._sweep()
        self._admit()
        if self.running:
            self._step(plan([ticket.running for ticket in self.running]))

    def abandon(self, error: EdgegenError) -> None:
        """Fail every ticket."""
        for ticket in [*self.waiting, *self.running]:
            ticket.resolve(error, self._clock())

    def _sweep(self) -> None:
        now = self._clock()
        for ticket in [*self.waiting, *self.running]:
            if ticket.future.cancelled() or ticket.late(now):
                self._finish(ticket)

    def _admit(self) -> None:
        """Give sequences to waiting tickets, first come first served, as long as they fit."""
        while self.waiting and self._fits(self.waiting[0].job):
            ticket = self.waiting.popleft()
            try:
                grammar = None if ticket.job.grammar is None else self._backend.grammar(ticket.job.grammar)
            except EdgegenError as error:
                ticket.resolve(error, self._clock())
                continue
            seqs = [self._free.pop(0) for _ in range(ticket.job.n)]
            ticket.reused = self._reuse(ticket.job.prompt, seqs)
            ticket.run, ticket.started_s = Run(ticket.job, seqs, ticket.reused, grammar), self._clock()
            self.running.append(ticket)

    def _fits(self, job: Job) -> bool:
        if job.n > len(self._free):
            return False
        room = self.limits.n_cells - sum(cells(ticket.job) for ticket in self.running) - cells(job)
        if 0 <= room < len(self._kept):
            self._keep([], None)
        return room >= 0

    def _reuse(self, prompt: Sequence[int], seqs: Sequence[int]) -> int:
        # The last token is always decoded again: its logits are not kept.
        n = min(common_prefix(prompt, self._kept), len(prompt) - 1)
        for seq in seqs if n else ():
            self._backend.fork(self._keeper, seq, n)
        return n

    def _keep(self, prompt: Sequence[int], seq: int | None) -> None:
        if self._keeper == 0:
            return
        self._backend.drop(self._keeper)
        self._kept = list(prompt)
        if seq is not None:
            self._backend.fork(seq, self._keeper, len(prompt))

    def _step(self, step: Step) -> None:
        try:
            logits = self._decode(step)
        except EngineError as error:
            self._recover(step, error)
            return
        for share in step.shares:
            self._absorb(share, logits[share.rows])

    def _decode(self, step: Step) -> Logits:
        if self._governor.threads != self._threads:
            self._threads = self._governor.threads
            self._backend.set_threads(self._threads)
        for seq, pos in step.drops:
            self._backend.drop(seq, pos)
        began = self._clock()
        logits = self._backend.decode(step.batch)
        self._governor.observe(len(step.batch), self._clock() - began)
        return logits

    def _recover(self, step: Step, error: EngineError) -> None:
        """Find the run that a batch failed for: each goes alone from where it was, and fails alone."""
        for share in step.shares:
            if len(step.shares) == 1:
                self._finish(self._ticket(share.run), error)
                continue
            for seq, pos in share.run.ends():
                self._backend.drop(seq, pos)
            self._step(plan([share.run]))

    def _ticket(self, run: Run) -> Ticket:
        return next(ticket for ticket in self.running if ticket.run is run)

    def _absorb(self, share: Share, logits: Logits) -> None:
        ticket, run = self._ticket(share.run), share.run
        try:
            written = run.absorb(share.fed, logits)
            if run.job.on_token is not None:
                for candidate, token in written:
                    if run.job.on_token(candidate, token):
                        run.candidates[candidate].finish = "stop"
        except CALLER_ERRORS as error:
            self._finish(ticket, error)
            return
        if share.fed and run.writing:
            ticket.prompt_at_s = self._clock()
            self._keep(run.job.prompt, run.seqs[0])
        if run.writing and not run.live:
            self._finish(ticket)

    def _finish(self, ticket: Ticket, error: Exception | None = None) -> None:
        """Free a ticket's sequences and tell its future."""
        if ticket.run is None:
            self.waiting.remove(ticket)
        else:
            self.running.remove(ticket)
            for seq in ticket.run.seqs:
                self._backend.drop(seq)
                self._free.append(seq)
        ticket.resolve(error, self._clock())
