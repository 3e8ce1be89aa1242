"""Decides what the next step decodes, and what its logits mean. Pure: no clock, no thread, no backend.

A run is a job that has sequences. Each step mixes one token of every running sequence with chunks of new prompts; the
candidates of a job share the prompt's cells in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgegen.engine.backend import Batch, Grammar, Logits, Mask
from edgegen.engine.cache import common_prefix
from edgegen.engine.options import Priority, SamplingOptions
from edgegen.engine.sampling import Constraint, Keep, Sampler, Token, Veto
from edgegen.errors import OptionError, PromptTooLongError

Finish = Literal["stop", "length", "deadline", "setbacks", "spare"]

_ALONE = 256  # prompt tokens in a step while nothing is being written
_SHARED = 64  # prompt tokens in a step that others wait for
_BATCH_TURN = 4  # beside shoppers, batch jobs have a part in one of so many steps


@dataclass(frozen=True)
class Job:
    """A prompt to continue, `n` times."""

    prompt: Sequence[int]
    """Token ids; at least one."""
    n: int = 1
    """Candidates to write, each with random numbers of its own. At least 1."""
    options: SamplingOptions = field(default_factory=SamplingOptions)
    """How tokens are chosen."""
    allow: Mask | None = None
    """Mask over the vocabulary, True where a token may be chosen; None allows all."""
    stop_ids: frozenset[int] = frozenset()
    """Tokens that end a text; they are not part of it."""
    constraint: Constraint | None = None
    """Gives the ids that may come next; none ends the text."""
    veto: Veto | None = None
    """Says of a token that was drawn whether it must not come; called in the engine's thread: be quick."""
    keep: Keep | None = None
    """Sets a text back where it went wrong; called in the engine's thread. At temperature 0 it could only repeat itself."""
    patience: int = 24
    """So many setbacks end a candidate. At least 1."""
    enough: int | None = None
    """The job ends when so many candidates have stopped by themselves; None waits for all."""
    on_token: Callable[[int, Token], bool | None] | None = None
    """Called with candidate and token as they come, in the engine's thread: be quick. True ends the candidate after this token.

    Does not go with `keep`."""
    deadline_s: float | None = None
    """Seconds after submission at which the job ends with what it has."""
    logprobs: int | None = None
    """So many of the likeliest tokens are told beside each token, with log-probabilities; None computes none. 0 to 20."""
    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of tokens; -100 and less forbids."""
    grammar: str | None = None
    """GBNF that every text follows; it ends where the grammar lets nothing follow."""
    priority: Priority = "shopper"
    """Whose turn it is first."""
    draft: bool = True
    """Whether tokens may be drafted where it pays; the texts are the same without."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model. Raises OptionError."""
        object.__setattr__(self, "prompt", tuple(self.prompt))  # the cache compares slices of prompts
        if not self.prompt:
            raise OptionError("The prompt is empty. Give at least one token.")
        if self.n < 1:
            raise OptionError(f"n must be at least 1, got {self.n}")
        if self.patience < 1 or (self.enough is not None and self.enough < 1):
            raise OptionError(f"patience and enough must be at least 1, got {self.patience} and {self.enough}")
        if self.keep is not None and (self.on_token is not None or self.options.temperature == 0):
            raise OptionError("keep goes neither with on_token nor with temperature 0. Leave one of them out.")
        if self.deadline_s is not None and self.deadline_s <= 0:
            raise OptionError(f"deadline_s must be above 0, got {self.deadline_s}")
        if self.allow is not None and not self.allow.any():
            raise OptionError("The mask allows no token at all. Allow at least one.")
        self._check_sampling()

    def _check_sampling(self) -> None:
        if self.logprobs is not None and not 0 <= self.logprobs <= 20:
            raise OptionError(f"logprobs must be in [0, 20], got {self.logprobs}")
        if any(not math.isfinite(value) for value in self.bias.values()):
            raise OptionError("bias must be made of finite numbers. Use -100 to forbid a token.")
        if self.grammar is not None and (self.keep is not None or self.constraint is not None):
            raise OptionError("grammar goes neither with keep nor with constraint. Leave one of them out.")


@dataclass(frozen=True, slots=True)
class Completion:
    """One text: its tokens without the stop token, why it ended, the sum and the lowest of its log-probabilities.

    Both are 0 where the job asked for none. `setbacks` says how often it was set back.
    """

    tokens: tuple[int, ...]
    finish: Finish
    logprob: float
    lowest: float = 0.0
    setbacks: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model at hand can hold."""

    n_ctx: int
    n_cells: int
    n_vocab: int
    sequences: int

    def check(self, job: Job) -> None:
        """Whether a job can ever run. Raises PromptTooLongError or OptionError."""
        tokens, new = len(job.prompt), job.options.max_new_tokens
        if tokens + new > self.n_ctx:
            raise PromptTooLongError(
                f"The prompt has {tokens} tokens and {new} new ones may follow, but the context holds {self.n_ctx}. "
                "Give fewer facts or products, or lower max_new_tokens."
            )
        if job.n > self.sequences:
            raise OptionError(f"n must be at most {self.sequences}, got {job.n}")
        if cells(job) > self.n_cells:
            raise OptionError(
                f"{job.n} candidates of {new} tokens need {cells(job)} cells of {self.n_cells}. Lower n or max_new_tokens."
            )
        if job.allow is not None and job.allow.shape != (self.n_vocab,):
            raise OptionError(f"The mask has shape {job.allow.shape}, but the vocabulary has {self.n_vocab} tokens.")
        if bad := [token for token in job.bias if not 0 <= token < self.n_vocab]:
            raise OptionError(f"bias names token {bad[0]}, but the vocabulary has {self.n_vocab} tokens, from 0 on.")


def cells(job: Job) -> int:
    """Cells of the cache that a job may fill: its prompt once, and the tokens of each candidate.

    A candidate that is set back to its very beginning has the prompt's last token again, for itself.
    """
    return len(job.prompt) + job.n * text_cells(job)


def text_cells(job: Job) -> int:
    """Cells that each candidate may fill: the last token of a text is never decoded."""
    return job.options.max_new_tokens - (job.keep is None)


@dataclass(slots=True)
class Candidate:
    """One text in the making."""

    seq: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None
    setbacks: int = 0
    stale: bool = False  # set back: its cache holds more than its text

    def completion(self) -> Completion:
        """What is there; unfinished means that the deadline came first."""
        finish = self.finish or "deadline"
        return Completion(tuple(self.tokens), finish, sum(self.logprobs), min(self.logprobs, default=0.0), self.setbacks)

    def set_back(self, length: int, patience: int) -> None:
        """Forget all but the first tokens; the last of them (or of the prompt) is decoded again."""
        del self.tokens[length:], self.logprobs[length:]
        self.setbacks += 1
        self.stale = True
        self.finish = "setbacks" if self.setbacks >= patience else None


class Run:
    """A job with sequences: how far its prompt is decoded and how far each candidate is written."""

    def __init__(self, job: Job, seqs: Sequence[int], decoded: int = 0, grammar: Grammar | None = None) -> None:
        """`decoded` tokens of the prompt are in the cache of `seqs` already; `grammar` is the job's, at its beginning."""
        self.job, self.decoded = job, decoded
        self.candidates = [Candidate(seq) for seq in seqs]
        wanted = 0 if job.logprobs is None and job.keep is not None else job.logprobs  # `keep` judges by them
        self._sampler = Sampler(
            job.options, job.n, job.allow, logprobs=wanted, bias=job.bias, grammar=grammar, veto=job.veto
        )

    @property
    def seqs(self) -> tuple[int, ...]:
        """Ids of its sequences."""
        return tuple(candidate.seq for candidate in self.candidates)

    @property
    def writing(self) -> bool:
        """Whether the prompt is decoded."""
        return self.decoded == len(self.job.prompt)

    @property
    def live(self) -> list[int]:
        """Indices of the candidates that are not finished."""
        return [i for i, candidate in enumerate(self.candidates) if candidate.finish is None]

    def ends_at(self, pos: int) -> bool:
        """Whether the prompt ends there."""
        return pos == len(self.job.prompt)

    def ends(self) -> list[tuple[int, int]]:
        """Each sequence in use with the position where its cache ends before the next step."""
        return [(c.seq, self.end(c) if c.tokens or c.stale else self.decoded) for c in self.candidates if c.finish is None]

    def end(self, candidate: Candidate) -> int:
        """The position of the token that a candidate decodes next: its last, or the prompt's."""
        return self.decoded + len(candidate.tokens) - 1

    @property
    def worth_keeping(self) -> Sequence[int]:
        """What is in each of its sequences that another prompt may begin with: the prompt as far as it is decoded.

        Where there is one text, it too: the next prompt of a talk goes on after it.
        """
        if self.job.n > 1 or not self.writing:
            return self.job.prompt[: self.decoded]
        return (*self.job.prompt, *self.candidates[0].tokens[:-1])

    def absorb(self, fed: int, logits: Logits) -> int:
        """Take the outcome of a step: `fed` prompt tokens, or one token of each live candidate.

        `logits` has a row for each live candidate, or one for all where the prompt ended. Returns how many tokens were written.
        """
        self.decoded += fed
        if not len(logits):
            return 0
        live = self.live
        return self._write(live, logits.repeat(len(live), axis=0) if fed else logits)

    def _write(self, live: list[int], rows: Logits) -> int:
        allowed = None
        if self.job.constraint is not None:
            offers = {i: self.job.constraint(tuple(self.candidates[i].tokens)) for i in live}
            kept = [at for at, i in enumerate(live) if offers[i]]
            for i in live:
                self.candidates[i].finish = None if offers[i] else "stop"
            live, rows = [live[at] for at in kept], rows[kept]
            allowed = [offers[i] for i in live]
        if not live:
            return 0
        texts = [self.candidates[i].tokens for i in live]
        picked = self._sampler.pick(rows, live, texts, allowed)
        written = sum(self._append(i, token) for i, token in zip(live, picked, strict=True))
        if self.job.enough and sum(c.finish == "stop" for c in self.candidates) >= self.job.enough:
            for candidate in self.candidates:
                candidate.finish = candidate.finish or "spare"
        return written

    def _append(self, i: int, token: Token | None) -> bool:
        candidate, job = self.candidates[i], self.job
        candidate.stale = False
        if token is None:  # the grammar lets nothing follow
            candidate.finish = "stop"
            return False
        candidate.logprobs.append(token.logprob or 0.0)
        stays = job.keep(candidate.tokens, token.id, candidate.logprobs) if job.keep else len(candidate.tokens) + 1
        if stays <= len(candidate.tokens):
            candidate.set_back(stays, job.patience)
            return False
        if token.id in self.job.stop_ids:
            candidate.finish = "stop"
            return False
        candidate.tokens.append(token.id)
        if len(candidate.tokens) == self.job.options.max_new_tokens:
            candidate.finish = "length"
        if job.on_token is not None and job.on_token(i, token):
            candidate.finish = "stop"
        return True


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a step: tokens of runs that write, or a stretch that prompts have in common, and its rows of the logits."""

    runs: tuple[Run, ...]
    fed: int
    """Prompt tokens; 0 while writing."""
    rows: slice


@dataclass(frozen=True, slots=True)
class Step:
    """One batch, and whose it is."""

    batch: Batch
    shares: tuple[Share, ...]
    drops: tuple[tuple[int, int], ...] = ()
    """Sequences that were set back, and the position from which their cache is forgotten first."""


def plan(runs: Iterable[Run], turn: int = 0, room: int | None = None) -> Step:
    """The next step: a token of every live candidate, then prompts in the order of the runs as far as there is room.

    Beside shoppers, batch jobs have their part in every fourth `turn` only. `room` bounds the prompt tokens.
    """
    batch, runs = Batch(), list(runs)
    shoppers = [run for run in runs if run.job.priority == "shopper"]
    up = shoppers if shoppers and turn % _BATCH_TURN else [*shoppers, *(run for run in runs if run not in shoppers)]
    writing = [run for run in up if run.writing]
    shares = [_continue(run, batch) for run in writing]
    if room is None:
        room = _SHARED if shares else _ALONE
    shares += _feed([run for run in up if not run.writing], [run for run in runs if not run.writing], batch, room)
    drops = tuple((c.seq, run.end(c)) for run in writing for c in run.candidates if c.stale and not c.finish)
    return Step(batch, tuple(shares), drops)


def _continue(run: Run, batch: Batch) -> Share:
    start = batch.wanted
    for i in run.live:
        candidate = run.candidates[i]
        last = candidate.tokens[-1] if candidate.tokens else run.job.prompt[-1]
        batch.add(last, run.end(candidate), (candidate.seq,), wanted=True)
    return Share((run,), 0, slice(start, batch.wanted))


def _feed(up: list[Run], reading: list[Run], batch: Batch, room: int) -> list[Share]:
    """Prompts of the runs that are up, in their order. What others read as well at the same place is decoded for all at once."""
    shares, at = list[Share](), {run: run.decoded for run in reading}
    for run in up:
        while room and at[run] < len(run.job.prompt):
            mates, end = _together(run, reading, at, at[run] + room)
            start, rows = at[run], batch.wanted
            room -= end - start
            seqs = tuple(seq for mate in mates for seq in mate.seqs)
            batch.extend(run.job.prompt[start : end - run.ends_at(end)], start, seqs)
            if run.ends_at(end):
                batch.add(run.job.prompt[-1], end - 1, seqs, wanted=True)
            at.update(dict.fromkeys(mates, end))
            shares.append(Share(mates, end - start, slice(rows, batch.wanted)))
    return shares


def _together(run: Run, reading: list[Run], at: dict[Run, int], most: int) -> tuple[tuple[Run, ...], int]:
    """The runs that read the same from where this one is, and how far they do. A prompt's last token is for its run alone."""
    start, prompt = at[run], run.job.prompt
    if start == len(prompt) - 1:
        return (run,), start + 1
    end, mates = min(most, len(prompt) - 1), [run]
    for other in reading:
        if other is not run and at[other] == start < len(other.job.prompt) - 1:
            common = min(common_prefix(prompt, other.job.prompt), len(other.job.prompt) - 1)
            if common > start:
                mates.append(other)
                end = min(end, common)
    return tuple(mates), end
