"""Counters and gauges of the engine. Written by its one thread; a copy may be taken from any other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

ENDS = ("stop", "length", "deadline", "setbacks", "cancelled", "failed")
"""Why jobs end."""


@dataclass(slots=True)
class Figures:
    """What the engine did since it started, and what it does now."""

    cells: int = 0
    sequences: int = 0
    waiting: int = 0
    running: int = 0
    busy: int = 0
    used: int = 0
    kept: int = 0
    threads: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    last_batch: int = 0
    decoded: int = 0
    written: int = 0
    prompt_tokens: int = 0
    reused: int = 0
    drafted: int = 0
    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def step(self, tokens: int, seconds: float) -> None:
        """A batch of so many tokens was decoded."""
        self.steps += 1
        self.step_seconds += seconds
        self.last_batch = tokens
        self.decoded += tokens

    def end(self, why: str) -> None:
        """A job ended."""
        self.ends[why] += 1

    def as_metrics(self) -> dict[str, float]:
        """By the names of metrics: counters end in `_total`, sizes are in tokens, cells or sequences, times in seconds."""
        return {
            "jobs_waiting": self.waiting,
            "jobs_running": self.running,
            "sequences": self.sequences,
            "sequences_in_use": self.busy,
            "cells": self.cells,
            "cells_in_use": self.used,
            "prompts_kept": self.kept,
            "threads": self.threads,
            "batch_tokens": self.last_batch,
            "steps_total": self.steps,
            "step_seconds_total": self.step_seconds,
            "tokens_decoded_total": self.decoded,
            "tokens_written_total": self.written,
            "prompt_tokens_total": self.prompt_tokens,
            "prompt_tokens_reused_total": self.reused,
            "tokens_drafted_total": self.drafted,
            "tokens_accepted_total": self.accepted,
            **{f"jobs_{why}_total": self.ends[why] for why in ENDS},
        }
