"""What the fields that completions and chats share ask of the engine. What is not supported is refused by its name."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgegen.engine.options import SamplingOptions
from edgegen.errors import GrammarError, OptionError, PromptTooLongError, UnavailableError
from edgegen.server import schema_grammar
from edgegen.server.body import BodyError, code_of, field, number, only
from edgegen.server.settings import Limits
from edgegen.serving.calls import Complete, Part, State

SHARED = (
    "model", "n", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "logit_bias", "frequency_penalty",
    "presence_penalty", "response_format", "user",
)  # fmt: skip
"""Fields of the OpenAI API that both routes take."""
EXTENSIONS = (
    "top_k", "min_p", "repeat_penalty", "no_repeat_ngram", "ignore_eos", "write_controls", "grammar", "priority",
    "return_token_ids",
)  # fmt: skip
"""Fields of edgegen's own that both routes take."""
_MOST_STOPS = 4
_MOST_BIASES = 1024
_SMALLEST_TOP_P = 1e-9  # the API allows 0, which leaves the likeliest token alone
_ANY_JSON: Mapping[str, Any] = {"type": "object"}


def refuse(body: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse each field that is not supported, unless its value is a `neutral` one, which asks for nothing."""
    for name, values in neutral.items():
        if name in body and not any(body[name] == value and type(body[name]) is type(value) for value in values):
            known = ", ".join(repr(value) for value in values if value is not None)
            hint = f" Leave it out{f', or give {known}' if known else ''}."
            raise BodyError(f"The field {name!r} is not supported with that value.{hint}", name, "unsupported_parameter")


def complete(
    body: Mapping[str, Any], prompt: tuple[Part, ...], new: Length, logprobs: int | None, state: State, limits: Limits
) -> Complete:
    """The call that a body asks for. Raises BodyError."""
    most = max(state.most_texts, 1)
    options = _sampling(body, new.tokens)
    return Complete(
        prompt,
        n=number(body, "n", 1, 1, most, whole=True),
        options=options,
        fair=not new.given,
        stops=_stops(body),
        logprobs=logprobs,
        bias=_bias(body, state.n_vocab),
        grammar=_grammar(body),
        ignore_end=field(body, "ignore_eos", bool, False),
        write_controls=field(body, "write_controls", bool, False),
        whole=not field(body, "stream", bool, False),
        deadline_s=limits.generation_s,
        priority=priority(body, "shopper"),
        fresh=body.get("seed") is not None and options.temperature > 0,
    )  # fmt: skip


def priority(body: Mapping[str, Any], default: str) -> Any:
    """Whose turn it is first. Raises BodyError."""
    wanted = field(body, "priority", str, default)
    if wanted not in ("shopper", "batch"):
        raise BodyError(f"The field 'priority' must be 'shopper' or 'batch', got {wanted!r}", "priority")
    return wanted


def streamed(body: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether to stream, and whether the stream ends with the usage. Raises BodyError."""
    stream, options = field(body, "stream", bool, False), field(body, "stream_options", dict, None)
    if options is None:
        return stream, False
    if not stream:
        raise BodyError("The field 'stream_options' goes with 'stream': true only.", "stream_options")
    only(options, ("include_usage", "include_obfuscation"))
    refuse(options, {"include_obfuscation": (None, False)})
    return stream, field(options, "include_usage", bool, False)


@dataclass(frozen=True, slots=True)
class Fields:
    """By which fields of a body a call asks for what the engine may refuse."""

    prompt: str
    length: str
    grammar: str = "grammar"

    def named(self, error: OptionError) -> BodyError:
        """An error of the engine's that is about one of them."""
        if isinstance(error, GrammarError):
            return BodyError(str(error), self.grammar, "invalid_grammar")
        names = {"tokens": self.prompt, "bias": "logit_bias"}
        return BodyError(str(error), names.get(error.field or "", error.field), code_of(error))


def by_fields(body: Mapping[str, Any], prompt: str, new: Length) -> Fields:
    """The fields of a body whose grammar may come from a schema."""
    return Fields(prompt, new.field, "grammar" if body.get("grammar") is not None else "response_format")


@dataclass(frozen=True, slots=True)
class Length:
    """How many tokens a text may have."""

    tokens: int
    field: str
    """The field that says so."""
    given: bool
    """Whether it does; where not, there may be fewer, so that others find room too."""


def length(body: Mapping[str, Any], names: Sequence[str], default: int, limits: Limits) -> Length:
    """How many tokens a text may have, by the first of some fields that is given. Raises BodyError."""
    for name in names:
        if body.get(name) is not None:
            return Length(number(body, name, None, 1, limits.new_tokens, whole=True), name, given=True)
    return Length(max(1, min(default, limits.new_tokens)), names[0], given=False)


def need_model(state: State) -> None:
    """Raise UnavailableError where no model can write."""
    if state.pack is None:
        why = state.why or "Start the server with a pack."
        raise UnavailableError(f"There is no model to write with at the moment. {why}", retry_s=state.retry_s)


def too_long(error: PromptTooLongError, param: str) -> BodyError:
    """The error of a prompt that does not fit, as the OpenAI API puts it."""
    return BodyError(str(error), param, "context_length_exceeded")


def too_much(call: Complete, length: str, state: State) -> BodyError:
    """The error of texts that the cache cannot hold together; `length` is the field that says how long a text may be."""
    return BodyError(
        f"{call.n} texts of up to {call.options.max_new_tokens} tokens and the prompt do not fit the cache, which has room for "
        f"{state.n_cells} tokens. Lower n or {length}, or start the server with more --cells.",
        "n",
    )


def _sampling(body: Mapping[str, Any], new: int) -> SamplingOptions:
    defaults = SamplingOptions(temperature=1.0, top_p=1.0)
    seed = field(body, "seed", int, None)
    return SamplingOptions(
        temperature=number(body, "temperature", defaults.temperature, 0, 2),
        top_k=number(body, "top_k", defaults.top_k, 0, 1_000_000, whole=True),
        top_p=max(number(body, "top_p", defaults.top_p, 0, 1), _SMALLEST_TOP_P),
        min_p=number(body, "min_p", defaults.min_p, 0, 1),
        repeat_penalty=number(body, "repeat_penalty", defaults.repeat_penalty, 0.1, 10),
        frequency_penalty=number(body, "frequency_penalty", defaults.frequency_penalty, -2, 2),
        presence_penalty=number(body, "presence_penalty", defaults.presence_penalty, -2, 2),
        no_repeat_ngram=number(body, "no_repeat_ngram", defaults.no_repeat_ngram, 0, 32, whole=True),
        max_new_tokens=new,
        seed=secrets.randbits(63) if seed is None else seed % 2**63,
    )


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = field(body, "stop", (str, list), [])
    stops = [given] if isinstance(given, str) else given
    if len(stops) > _MOST_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise BodyError(f"The field 'stop' must be a string or a list of at most {_MOST_STOPS} strings, none empty.", "stop")
    return tuple(stops)


def _bias(body: Mapping[str, Any], n_vocab: int) -> dict[int, float]:
    found: dict[int, float] = {}
    given = field(body, "logit_bias", dict, {})
    if len(given) > _MOST_BIASES:
        raise BodyError(f"The field 'logit_bias' may name {_MOST_BIASES} tokens at most, got {len(given)}.", "logit_bias")
    for token, value in given.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10 and int(token) < n_vocab):
            raise BodyError(f"The field 'logit_bias' names {token[:20]!r}, which is no token's number.", "logit_bias")
        if isinstance(value, bool) or not isinstance(value, int | float) or not -100 <= value <= 100:
            raise BodyError(f"The bias of token {token} must be a number in [-100, 100].", "logit_bias")
        found[int(token)] = float(value)
    return found


def _grammar(body: Mapping[str, Any]) -> str | None:
    grammar: str | None = field(body, "grammar", str, None)
    wanted: dict[str, Any] | None = field(body, "response_format", dict, None)
    if wanted is None:
        return grammar
    kind = wanted.get("type")
    if kind == "text":
        only(wanted, ("type",))
        return grammar
    if grammar is not None:
        raise BodyError("The fields 'grammar' and 'response_format' both say what is written. Give one.", "grammar")
    if kind == "json_object":
        only(wanted, ("type",))
        return schema_grammar.grammar(_ANY_JSON)
    if kind == "json_schema":
        return schema_grammar.grammar(_schema(wanted))
    raise BodyError("The field 'response_format' must have type 'text', 'json_object' or 'json_schema'.", "response_format")


def _schema(wanted: Mapping[str, Any]) -> Any:
    only(wanted, ("type", "json_schema"))
    given = field(wanted, "json_schema", dict, None)
    if given is None or "schema" not in given:
        raise BodyError("The field 'response_format' lacks json_schema.schema.", "response_format")
    only(given, ("name", "description", "schema", "strict"))
    return given["schema"]
