"""The engine's owner of the backend: sequences, the kept prompt, and the steps of the jobs that run.

Everything here runs in the one thread that made the backend. Knows no queue limits and no locks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from edgegen.engine.backend import Backend, Grammar, Logits
from edgegen.engine.cache import Admission, Cache, Call, Lease
from edgegen.engine.drafting import Drafter, Pace
from edgegen.engine.figures import Figures
from edgegen.engine.job import Completion, Job, Limits, text_cells
from edgegen.engine.ngrams import NGrams
from edgegen.engine.queue import Queue
from edgegen.engine.run import Run
from edgegen.engine.sampling import Outlook, look_together
from edgegen.engine.scheduler import BESIDE, LEAST, Share, Step, plan
from edgegen.engine.threads import ThreadGovernor
from edgegen.errors import EdgegenError, EngineError, GpuMemoryError

# What a caller's constraint, on_token or question may raise: it fails that one, not the engine.
CALLER_ERRORS = (EdgegenError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError, ArithmeticError)

_STALL_S = 0.1  # texts that are written wait no longer than this for a stretch of a new prompt
_LATEST = 0.3  # the part of the latest measurement in what a prompt's token takes


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
    ends: frozenset[int] = frozenset()
    """Ids of all control tokens that end one."""

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
    lease: Lease | None = None
    grammar: Grammar | None = None
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

    @property
    def holding(self) -> Lease:
        """What it holds of the cache, once it is admitted."""
        assert self.lease is not None, "only admitted tickets run"  # noqa: S101 - narrows the type
        return self.lease

    @property
    def finish(self) -> str:
        """Why it ended, as the counters of finished jobs know it."""
        ends = {candidate.finish for candidate in self.run.candidates} if self.run else {None}
        return "deadline" if None in ends else "stop" if "stop" in ends else "length" if "length" in ends else "setbacks"

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

    def __init__(
        self,
        backend: Backend,
        governor: ThreadGovernor,
        clock: Callable[[], float],
        *,
        table: NGrams | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Take over a backend made in this thread; `table` says what mostly follows what in the model's texts."""
        self._table, self._pace = table, pace or Pace(backend.most_rows)
        self._backend, self._governor, self._clock = backend, governor, clock
        self._cache = Cache(backend.n_cells, backend.max_sequences)
        self.waiting = Queue[Ticket]()
        self.running: list[Ticket] = []
        self.figures = Figures(cells=backend.n_cells, sequences=self._cache.most)
        self._threads = self._turn = 0
        self._token_s = 0.0  # what a token takes in a step with a stretch of a prompt
        self._changed = False  # somebody who waits may fit now
        self._moved = False  # the books of the cache say something else now
        self.limits = Limits(backend.n_ctx, backend.n_cells, backend.n_vocab, self._cache.most)

    def vocabulary(self) -> Vocabulary:
        """A copy of the backend's vocabulary."""
        everything = range(self._backend.n_vocab)
        pieces = tuple(self._backend.token_bytes(token) for token in everything)
        controls = frozenset(token for token in everything if self._backend.is_control(token))
        return Vocabulary(pieces, controls, self._backend.eos, frozenset(filter(self._backend.is_end, controls)))

    def add(self, ticket: Ticket) -> None:
        """A ticket waits for its turn, or fails at once where its grammar cannot be read."""
        try:
            ticket.grammar = None if ticket.job.grammar is None else self._backend.grammar(ticket.job.grammar)
        except CALLER_ERRORS as error:
            ticket.resolve(error, self._clock())
            return
        self.waiting.add(ticket, urgent=ticket.job.priority == "shopper")
        self._changed = True

    def work(self) -> None:
        """End what is over, admit what fits, make one step."""
        self._sweep()
        self._admit()
        if self.running:
            self._turn += 1
            began = self._clock()
            runs = [ticket.running for ticket in self.running]
            step = plan(runs, self._turn, beside=self._beside, alone=self._backend.batch, pace=self._pace)
            self._step(step)
            if step.batch.wanted == len(step.batch):
                self._pace.observe(len(step.batch), self._clock() - began)
        self._note()

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
        while self._changed and self.waiting:
            found = self.waiting.take(self._room)
            if found is None:
                self._changed = False
            else:
                self._start(*found)

    def _room(self, ticket: Ticket) -> Admission | None:
        job = ticket.job
        return self._cache.admit(job.prompt, job.n, text_cells(job), batch=job.priority == "batch", fresh=job.fresh)

    def _start(self, ticket: Ticket, admission: Admission) -> None:
        self._apply(admission.calls)
        lease = ticket.lease = admission.lease
        drafters = [self._drafter(ticket.job) for _ in range(ticket.job.n)] if ticket.job.draft else []
        ticket.run = Run(ticket.job, lease.seqs, lease.ready, grammar=ticket.grammar, drafters=drafters)
        ticket.started_s = self._clock()
        ticket.reused = admission.shared
        self.figures.prompt_tokens += len(ticket.job.prompt)
        self.figures.reused += ticket.reused
        self.running.append(ticket)

    def _drafter(self, job: Job) -> Drafter:
        allowed = (lambda _: True) if job.allow is None else job.allow.item
        return Drafter(job.prompt, self._table, self._pace.odds, allowed, job.stop_ids)

    def _apply(self, calls: Sequence[Call]) -> None:
        self._moved = True
        for call in calls:
            call.apply(self._backend)

    def _step(self, step: Step) -> None:
        try:
            logits = self._decode(step)
        except GpuMemoryError:
            raise  # none of the parts would fare better for long
        except EngineError as error:
            self._recover(step, error)
            return
        tickets = {ticket.running: ticket for ticket in self.running}
        writing = [share for share in step.shares if not share.fed]
        for _, group in groupby(writing, key=lambda share: share.runs[0].common or share):
            self._write(list(group), logits, tickets)
        for share in step.shares:
            for run in share.runs if share.fed else ():
                self._feed(tickets[run], share, logits)

    def _write(self, shares: list[Share], logits: Logits, tickets: Mapping[Run, Ticket]) -> None:
        outlook, start = None, shares[0].rows.start
        if len(shares) > 1:
            lookers = [(share.runs[0].sampler, slice(share.rows.start - start, share.rows.stop - start)) for share in shares]
            try:
                outlook = look_together(lookers, logits[start : shares[-1].rows.stop])
            except EngineError:
                outlook = None  # each finds out for itself
        for share in shares:
            self._absorb(tickets[share.runs[0]], share, logits, outlook, share.rows.start - start)

    def _feed(self, ticket: Ticket, share: Share, logits: Logits) -> None:
        run = ticket.running
        run.feed(share.fed)
        ticket.holding.ready = run.decoded
        if share.parts:
            ticket.prompt_at_s = self._clock()
            self._absorb(ticket, share, logits)

    def _decode(self, step: Step) -> Logits:
        if self._governor.threads != self._threads:
            self._threads = self._governor.threads
            self._backend.set_threads(self._threads)
        for seq, pos in step.drops:
            self._backend.drop(seq, pos)
        began = self._clock()
        logits = self._backend.decode(step.batch)
        seconds = self._clock() - began
        self._governor.observe(len(step.batch), seconds)
        if len(step.batch) - step.batch.wanted >= LEAST:
            token_s = seconds / len(step.batch)
            self._token_s += (token_s - self._token_s) * (_LATEST if self._token_s else 1)
        self.figures.step(len(step.batch), seconds)
        self.figures.drafted += step.drafted
        return logits

    @property
    def _beside(self) -> int:
        """So many prompt tokens that those who write do not wait for long."""
        return BESIDE if not self._token_s else max(LEAST, min(BESIDE, int(_STALL_S / self._token_s)))

    def _recover(self, step: Step, error: EngineError) -> None:
        """Find whom a batch failed for: each share goes alone from where it was, and fails alone."""
        if len(step.shares) == 1:
            for run in step.shares[0].runs:
                self._finish(self._ticket(run), error)
            return
        for run in {run for share in step.shares for run in share.runs}:
            for seq, pos in run.ends():
                self._backend.drop(seq, pos)
        for share in step.shares:
            there = {ticket.run for ticket in self.running}
            left = [run for run in share.runs if run in there]
            if left:
                self._step(plan(left, room=share.fed))

    def _ticket(self, run: Run) -> Ticket:
        return next(ticket for ticket in self.running if ticket.run is run)

    def _absorb(self, ticket: Ticket, share: Share, logits: Logits, outlook: Outlook | None = None, first: int = 0) -> None:
        run, lease = ticket.running, ticket.holding
        try:
            written, accepted = run.absorb(share.parts, logits[share.rows], outlook, first)
        except CALLER_ERRORS as error:
            self._finish(ticket, error)
            return
        self.figures.written += written
        self.figures.accepted += accepted
        if not run.live:
            self._finish(ticket)
        elif len(run.live) < len(lease.seqs):
            for candidate in run.candidates:
                if candidate.finish is not None and candidate.seq in lease.seqs:
                    self._apply(self._cache.shrink(lease, candidate.seq))
                    self._changed = True

    def _finish(self, ticket: Ticket, error: Exception | None = None) -> None:
        """Free a ticket's sequences, keep its prompt for others that begin so, and tell its future."""
        if ticket.run is None or ticket.lease is None:
            self.waiting.remove(ticket)
        else:
            self.running.remove(ticket)
            lease, tokens = ticket.lease, () if isinstance(error, EngineError) else ticket.run.worth_keeping
            self._apply(self._cache.keep(lease, lease.seqs[0], tokens))
        self._changed = True
        ticket.resolve(error, self._clock())
        self.figures.end("cancelled" if ticket.future.cancelled() else "failed" if error else ticket.finish)

    def _note(self) -> None:
        figures = self.figures
        figures.waiting, figures.running, figures.threads = len(self.waiting), len(self.running), self._governor.threads
        if self._moved:
            figures.busy, figures.used, figures.kept = self._cache.busy, self._cache.used, len(self._cache.kept)
            self._moved = False
