"""What Prometheus is told: the server's own counts and times, and the engine's figures as they are at the moment.

The library writes the format and keeps the buckets: 0.7 MB on the disk, 1.4 MB of memory, no dependencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edgegen.serving.calls import Explained, State

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_REFUSALS = (401, 403, 408, 413, 429, 503)
_PROBE = "/ready"  # says with its status whether there is an engine; nobody is refused
_ABOUT: Mapping[str, str] = {
    "ready": "Whether the model answers",
    "engine_up": "Whether the engine's process answers",
    "engine_pid": "The engine's process, 0 without one",
    "engine_restarts_total": "Times the engine was started again after it died",
    "engine_deaths_total": "Engines that died, also while they started or after they were replaced",
    "explanations_without_engine_total": "Explanations from templates because the engine did not answer",
    "pack_switches_total": "Times another pack was taken, or the same one opened anew",
    "pack_switches_failed_total": "Packs that could not be taken",
    "explanations_waiting": "Explanations that wait for a thread of the engine's process",
    "explanations_running": "Explanations under way in the engine's process",
    "jobs_waiting": "Texts and their candidates that wait for room in the cache",
    "jobs_running": "Texts and their candidates that are written",
    "sequences": "Candidates that there is room for",
    "sequences_in_use": "Candidates that are written, and prompts that are kept",
    "cells": "Tokens that the cache has room for",
    "cells_in_use": "Tokens that the cache is held for",
    "prompts_kept": "Prompts that are kept for others that begin so",
    "threads": "Threads that the next step uses",
    "batch_tokens": "Tokens of the last step",
    "steps_total": "Steps of the engine",
    "step_seconds_total": "Seconds that the steps took",
    "tokens_decoded_total": "Tokens decoded, of prompts, texts and drafts",
    "tokens_written_total": "Tokens written",
    "prompt_tokens_total": "Tokens of prompts",
    "prompt_tokens_reused_total": "Of these, tokens that were in the cache already",
    "tokens_drafted_total": "Tokens guessed ahead",
    "tokens_accepted_total": "Of these, tokens that were right",
}
"""What the figures are; the names of the rest say it."""


class Metrics:
    """One application's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, of when it began, which nobody asked for
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("edgegen_http_requests", "Requests by route and status", ["route", "status"], registry=registry)
        self._rejections = Counter("edgegen_rejections", "Requests refused, by status", ["status"], registry=registry)
        self._seconds = Histogram(
            "edgegen_request_seconds", "From a request to its whole answer", ["route"], buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "edgegen_first_token_seconds", "From a call to its first token", ["route"], buckets=_SECONDS, registry=registry
        )
        self._texts = Counter("edgegen_texts", "Explanations by where their text is from", ["source", "task"], registry=registry)
        self._tokens = Counter("edgegen_tokens", "Tokens read, of these reused, and written", ["kind"], registry=registry)
        for source in ("model", "template"):
            self._texts.labels(source, "reason")
        for kind in ("prompt", "reused", "completion"):
            self._tokens.labels(kind)

    def request(self, route: str, status: int, seconds: float, *, refused: bool = False) -> None:
        """A request has ended; `refused` where no route saw it."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if refused or (status in _REFUSALS and route != _PROBE):
            self.refused(status)

    def refused(self, status: int) -> None:
        """A request was refused."""
        self._rejections.labels(str(status)).inc()

    def explained(self, answer: Explained) -> None:
        """A text has been made."""
        record = answer.record
        self._texts.labels(record["source"], record["task"]).inc()
        self.completed(answer.prompt_tokens, answer.reused_tokens, record["tokens"])
        if first := record["timings"].get("first_token_s"):
            self._first.labels("/v1/explanations").observe(first)

    def first_token(self, route: str, seconds: float) -> None:
        """A completion has begun."""
        self._first.labels(route).observe(seconds)

    def completed(self, prompt: int, reused: int, written: int) -> None:
        """A text has ended; counts of tokens."""
        for kind, count in (("prompt", prompt), ("reused", reused), ("completion", written)):
            self._tokens.labels(kind).inc(count)

    def text(self, figures: Mapping[str, float], state: State) -> bytes:
        """All of it in Prometheus's format."""
        now = CollectorRegistry()
        now.register(_Now({"ready": float(state.ready), "engine_restarts_total": float(state.restarts), **figures}))
        return generate_latest(self._registry) + generate_latest(now)


class _Now:
    """Figures as a collector: what ends in `_total` is a counter."""

    def __init__(self, figures: Mapping[str, float]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Each figure as a metric."""
        for name, value in self._figures.items():
            about = _ABOUT.get(name) or name.removesuffix("_total").replace("_", " ").capitalize()
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"edgegen_{name}", about, value=value)
