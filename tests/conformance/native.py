"""llama-server's bodies and answers in terms of ours. Pure: decides nothing, counts nothing, writes no text."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed", "repeat_penalty", "frequency_penalty", "presence_penalty")
_PLAIN = ("stop", "ignore_eos", "grammar", "n")
_HINTS = ("cache_prompt", "id_slot", "return_progress", "timings_per_token", "verbose", "n_keep", "backend_sampling")
"""Where a prompt is kept, and what more is told: no text depends on them."""
_DEFAULTS = {"top_k": 40, "top_p": 0.95, "min_p": 0.05}
_ADAPTIVE = {"adaptive_target": -1.0, "adaptive_decay": 0.9}  # a sampler of llama.cpp's, in its state of rest


class UnsupportedError(Exception):
    """Something of llama-server's that edgegen does not have."""


def defaults(flags: Namespace) -> dict[str, Any]:
    """The sampling that llama-server's flags set for requests that say nothing."""
    return {**_DEFAULTS, "temperature": flags.temp, **({"seed": flags.seed} if flags.seed is not None else {})}


def budget(body: Mapping[str, Any], flags: Namespace) -> int:
    """Tokens to write: what a request asks for, else what the flag says, at most what a slot holds."""
    slot = flags.ctx_size if flags.kv_unified else flags.ctx_size // flags.parallel
    asked = int(body.get("n_predict", body.get("max_tokens", -1)))
    return next(n for n in (asked, flags.n_predict, slot) if n >= 0)


def completion(body: Mapping[str, Any], prompt: Any, flags: Namespace) -> dict[str, Any]:
    """A body of /v1/completions for one of /completion. Raises UnsupportedError."""
    if body.get("post_sampling_probs"):
        raise UnsupportedError("post_sampling_probs: log-probabilities are those of the model alone")
    asked: dict[str, Any] = {**defaults(flags), "max_tokens": budget(body, flags), "prompt": prompt, "return_token_ids": True}
    asked |= {name: body[name] for name in (*SAMPLING, *_PLAIN) if body.get(name) is not None}
    if (schema := body.get("json_schema")) is not None:
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "given", "schema": schema}}
    if body.get("n_probs"):
        asked["logprobs"] = body["n_probs"]
    return {**asked, "stream": True, "stream_options": {"include_usage": True}}


def continued(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat that ends with the assistant's words goes on with them, as llama-server takes it."""
    messages, flags = body.get("messages"), {"continue_final_message", "add_generation_prompt"}
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, dict) and last.get("role") == "assistant" and not flags & set(body):
        return {**body, "continue_final_message": True}
    return dict(body)


def chat(body: Mapping[str, Any], flags: Namespace) -> dict[str, Any]:
    """A body of our /v1/chat/completions for one of llama-server's."""
    asked = {**defaults(flags), **{name: value for name, value in continued(body).items() if name not in _HINTS}}
    if (schema := asked.pop("json_schema", None)) is not None:
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "given", "schema": schema}}
    form = asked.get("response_format")
    if isinstance(form, dict) and form.get("type") == "json_object" and "schema" in form:
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "given", "schema": form["schema"]}}
    elif isinstance(form, dict) and form.get("type") == "json_schema":
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "given", **form.get("json_schema", {})}}
    if asked.get("stream"):
        asked["stream_options"] = {"include_usage": True}
    if "max_tokens" not in asked and flags.n_predict > 0:
        asked["max_tokens"] = flags.n_predict
    return asked


@dataclass(slots=True)
class Clock:
    """llama-server's timings, from when our answer's parts came and from our usage."""

    began: float = field(default_factory=time.perf_counter)
    first: float | None = None
    last: float = 0.0

    def came(self) -> None:
        """A part with text came."""
        self.last = time.perf_counter()
        self.first = self.first or self.last

    def timings(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """As llama-server tells them; the first token comes of the prompt and counts in no rate."""
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0))
        read, written = int(usage["prompt_tokens"]) - cached, int(usage["completion_tokens"])
        first = self.first or time.perf_counter()
        prompt_ms = (first - self.began) * 1000
        steps, spent_ms = max(written - 1, 0), max((self.last - first) * 1000, 1e-3)
        return {
            "cache_n": cached, "prompt_n": read, "prompt_ms": prompt_ms, "prompt_per_token_ms": prompt_ms / max(read, 1),
            "prompt_per_second": read / prompt_ms * 1000, "predicted_n": written, "predicted_ms": spent_ms,
            "predicted_per_token_ms": spent_ms / steps if steps else 0.0, "predicted_per_second": 1e3 / spent_ms * steps,
        }  # fmt: skip


def settings(body: Mapping[str, Any], flags: Namespace, ends: Sequence[int]) -> dict[str, Any]:
    """What a request was understood to ask for."""
    asked = {name: body[name] for name in SAMPLING if body.get(name) is not None}
    biases = [{"token": token, "bias": None} for token in ends] if body.get("ignore_eos") else []
    return {
        "seed": -1, **defaults(flags), **asked, **_ADAPTIVE, "n_predict": budget(body, flags), "logit_bias": biases,
        "ignore_eos": bool(body.get("ignore_eos")), "stop": body.get("stop", []), "stream": bool(body.get("stream")),
    }  # fmt: skip


def probabilities(choice: Mapping[str, Any], ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The tokens of a choice with their log-probabilities; `ids` are the ids of tokens by their text."""
    told = choice.get("logprobs")
    if not told:
        return []
    rows = zip(choice["token_ids"], told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
    return [
        {**_entry(id_, text, logprob), "top_logprobs": [_entry(ids.get(one, 0), one, value) for one, value in top.items()]}
        for id_, text, logprob, top in rows
    ]


def _entry(id_: int, text: str, logprob: float) -> dict[str, Any]:
    return {"id": id_, "token": text, "bytes": list(text.encode("utf-8", "replace")), "logprob": logprob}


@dataclass(slots=True)
class Gathered:
    """The parts of one of our streamed completions, put together."""

    clock: Clock = field(default_factory=Clock)
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    probabilities: list[dict[str, Any]] = field(default_factory=list)
    finish: str = "length"
    usage: Mapping[str, Any] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0})

    def add(self, event: Mapping[str, Any], ids: Mapping[str, int]) -> list[dict[str, Any]]:
        """Take an event of ours; the parts that llama-server would stream for it."""
        self.usage = event.get("usage") or self.usage
        parts = []
        for choice in event.get("choices") or ():
            self.finish = choice.get("finish_reason") or self.finish
            tokens = list(choice.get("token_ids") or ())
            if not choice["text"] and not tokens:
                continue
            self.clock.came()
            found = probabilities(choice, ids)
            self.text, self.tokens, self.probabilities = (
                self.text + choice["text"],
                self.tokens + tokens,
                self.probabilities + found,
            )
            part = {"index": 0, "content": choice["text"], "tokens": tokens, "stop": False, "id_slot": -1}
            if found:
                part["completion_probabilities"] = found
            parts.append(part)
        return parts

    def whole(self, body: Mapping[str, Any], settings: Mapping[str, Any], prompt: str, *, streamed: bool) -> dict[str, Any]:
        """llama-server's answer, or the last event of its stream."""
        timings = self.clock.timings(self.usage)
        answer = {
            "index": 0, "content": "" if streamed else self.text, "id_slot": -1, "stop": True, "model": settings.get("model", ""),
            "tokens": self.tokens if body.get("return_tokens") and not streamed else [], "prompt": prompt, "truncated": False,
            "tokens_predicted": self.usage["completion_tokens"], "tokens_evaluated": self.usage["prompt_tokens"],
            "generation_settings": dict(settings), "has_new_line": "\n" in self.text, "stopping_word": "",
            "stop_type": "limit" if self.finish == "length" else "eos", "tokens_cached": timings["cache_n"], "timings": timings,
        }  # fmt: skip
        if body.get("n_probs") and not streamed:
            answer["completion_probabilities"] = self.probabilities
        if wanted := body.get("response_fields"):
            return {path: found for path in wanted if (found := _at(answer, path)) is not None}
        return answer


def _at(answer: Any, path: str) -> Any:
    for name in path.split("/"):
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


METRICS = {
    "prompt_tokens_total": ("counter", "Prompt tokens processed"),
    "prompt_tokens_cached_total": ("counter", "Prompt tokens found in the cache"),
    "prompt_seconds_total": ("counter", "Seconds of prompts"),
    "tokens_predicted_total": ("counter", "Tokens written"),
    "tokens_predicted_seconds_total": ("counter", "Seconds of writing"),
    "n_decode_total": ("counter", "Calls of decode"),
    "n_tokens_max": ("counter", "Most tokens of a call"),
    "spec_decode_num_draft_tokens_total": ("counter", "Drafted tokens"),
    "spec_decode_num_accepted_tokens_total": ("counter", "Drafted tokens that were right"),
    "spec_decode_num_drafts_total": ("counter", "Drafts"),
    "prompt_tokens_seconds": ("gauge", "Prompt tokens a second"),
    "predicted_tokens_seconds": ("gauge", "Written tokens a second"),
    "requests_processing": ("gauge", "Requests at work"),
    "requests_deferred": ("gauge", "Requests that wait"),
    "n_busy_slots_per_decode": ("gauge", "Sequences of a call"),
}
"""llama-server's metrics: kind and help."""


def metrics(values: Mapping[str, float]) -> str:
    """llama-server's text of metrics; what edgegen does not count is 0."""
    lines = []
    for name, (kind, about) in METRICS.items():
        lines += [
            f"# HELP llamacpp:{name} {about}.",
            f"# TYPE llamacpp:{name} {kind}",
            f"llamacpp:{name} {values.get(name, 0.0):g}",
        ]
    return "\n".join([*lines, ""])


def ours(text: str) -> dict[str, float]:
    """The samples of our /metrics by name and labels as they stand."""
    rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def figure(found: Mapping[str, float], name: str) -> float:
    """One of the engine's figures."""
    return found.get(f"edgegen_engine_{name}", found.get(f"edgegen_{name}", 0.0))
