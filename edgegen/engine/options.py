"""How tokens are chosen, as plain data: a process that loads no model needs no numpy to ask for a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgegen.errors import OptionError

BATCH = 256
"""Tokens of prompts that are decoded at once where no probe found a better number."""

Priority = Literal["shopper", "batch"]
"""Whose turn it is first: somebody who waits before a screen, or a job that nobody waits for."""


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How tokens are chosen. Every default of the engine's generation lives here."""

    temperature: float = 0.7
    """Sharpness of the distribution: 0 takes the likeliest token, 1 the model's own distribution. 0 to 5."""
    top_k: int = 40
    """Only so many of the likeliest tokens are considered; 0 considers all, which is several times slower."""
    top_p: float = 0.95
    """Of those, the likeliest that together have this probability at this temperature. Above 0, at most 1."""
    min_p: float = 0.0
    """And only those at least so many times as likely as the likeliest, at this temperature; 0 is off. 0 to 1."""
    repeat_penalty: float = 1.0
    """Divides the logits of tokens the text already has; 1 is off. 0.1 to 10."""
    frequency_penalty: float = 0.0
    """Taken from the logit of a token for each time that the text already has it, as OpenAI defines it. -2 to 2."""
    presence_penalty: float = 0.0
    """Taken once from the logit of each token that the text already has. -2 to 2."""
    no_repeat_ngram: int = 0
    """Forbids a run of so many tokens to occur twice in a text; 0 is off. 0 to 32."""
    max_new_tokens: int = 96
    """A text ends after so many tokens. 1 to 4096."""
    seed: int = 0
    """Start of the random numbers: the same seed gives the same text, alone or in a batch. 0 to 2**63 - 1."""

    def __post_init__(self) -> None:
        """Check every range. Raises OptionError."""
        _within("temperature", self.temperature, 0, 5)
        _within("top_k", self.top_k, 0, 1_000_000)
        if not 0 < self.top_p <= 1:
            raise OptionError(f"top_p must be in (0, 1], got {self.top_p}")
        _within("min_p", self.min_p, 0, 1)
        _within("repeat_penalty", self.repeat_penalty, 0.1, 10)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        _within("no_repeat_ngram", self.no_repeat_ngram, 0, 32)
        _within("max_new_tokens", self.max_new_tokens, 1, 4096)
        _within("seed", self.seed, 0, 2**63 - 1)

    @property
    def looks_back(self) -> bool:
        """Whether what is written changes the logits."""
        return self != SamplingOptions(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p,
            max_new_tokens=self.max_new_tokens, seed=self.seed,
        )  # fmt: skip


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise OptionError(f"{name} must be in [{low}, {high}], got {value}")
