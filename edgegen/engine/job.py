"""What is asked of the engine, what comes of it, and whether a model can hold it. Knows no steps and no backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgegen.engine.backend import Mask
from edgegen.engine.options import Priority, SamplingOptions
from edgegen.engine.sampling import Constraint, Keep, Token, Veto
from edgegen.errors import OptionError, PromptTooLongError, RoomError

Finish = Literal["stop", "length", "deadline", "setbacks", "spare"]
_SHARE, _LEAST_SHARE = 4, 8
"""A fair share of the cache is a quarter, prompt included; behind a longer prompt the texts still get an eighth."""


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
    """The job ends when so many candidates have stopped by themselves, those with fewest tokens; None waits for all."""
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
    fresh: bool = False
    """Nothing is shared with the prompts before, and a cache that nobody else uses is emptied first. Without drafts too, a job
    that runs alone then makes the very same calls each time: the same seed gives the same text to the last bit."""

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
        holds = min(self.n_ctx, self.n_cells)
        if tokens + new > holds:
            raise PromptTooLongError(
                f"The prompt has {tokens} tokens and {new} new ones may follow, but the context holds {holds}. "
                "Give fewer facts or products, or lower max_new_tokens."
            )
        if job.n > self.sequences:
            raise OptionError(f"n must be at most {self.sequences}, got {job.n}", "n")
        if cells(job) > self.n_cells:
            raise RoomError(
                f"{job.n} candidates of {new} tokens need {cells(job)} cells of {self.n_cells}. "
                "Lower n or max_new_tokens, or use more n_cells."
            )
        if job.allow is not None and job.allow.shape != (self.n_vocab,):
            raise OptionError(f"The mask has shape {job.allow.shape}, but the vocabulary has {self.n_vocab} tokens.")
        if bad := [token for token in job.bias if not 0 <= token < self.n_vocab]:
            raise OptionError(f"bias names token {bad[0]}, but the vocabulary has {self.n_vocab} tokens, from 0 on.", "bias")

    def fair(self, prompt: int, n: int) -> int:
        """Tokens that each of `n` texts after a prompt of so many may have, so that several such jobs run at once. At least 1."""
        share = max(self.n_cells // _SHARE - prompt, self.n_cells // _LEAST_SHARE)
        return max(1, min(share, self.n_cells - prompt) // n)


def cells(job: Job) -> int:
    """Cells of the cache that a job may fill: its prompt once, and the tokens of each candidate.

    A candidate that is set back to its very beginning has the prompt's last token again, for itself.
    """
    return len(job.prompt) + job.n * text_cells(job)


def text_cells(job: Job) -> int:
    """Cells that each candidate may fill: the last token of a text is never decoded."""
    return job.options.max_new_tokens - (job.keep is None)
