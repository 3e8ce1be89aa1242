"""The lines that a front and the engine's process send each other: calls and answers as JSON and back. Pure.

A call is an object with `id`, `call` and what the call takes; `leave` drops the call of its id. An answer is a list of the call's
id, its kind and its data; id 0 is the process itself: `ready` with its state, or `failed` with an error. ASCII only, so that the
surrogate escapes of cut characters pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from edgegen import __version__, errors, wire
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EdgegenError, EngineError, UsageError
from edgegen.explain import ExplainOptions
from edgegen.serving.calls import Complete, Ended, Explain, Explained, Part, State, Token, Written
from edgegen.serving.launch import Launch

MOST_BYTES = 16 << 20
"""Of a line; what is longer ends the connection."""
SELF = 0
"""The id under which the process speaks of itself."""

NO_GPU_MEMORY = 80
"""The exit code of a process whose GPU had no memory left."""

encode = json.JSONEncoder(separators=(",", ":")).encode
"""A value as JSON in ASCII."""


def line(value: Any) -> bytes:
    """A value as a line."""
    return encode(value).encode("ascii") + b"\n"


class Lines:
    """Cuts what comes in into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; gives the lines that are whole. Raises ValueError for one that is longer than MOST_BYTES."""
        *found, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_BYTES or any(len(one) > MOST_BYTES for one in found):
            raise ValueError(f"a line is longer than {MOST_BYTES} bytes")
        return found


def launch_to_json(launch: Launch) -> dict[str, Any]:
    """What the first line says."""
    return {"version": __version__, "launch": asdict(launch)}


def launch_from_json(raw: Mapping[str, Any]) -> Launch:
    """What the first line said. Raises UsageError where the front is of another version than this file."""
    if raw["version"] != __version__:
        raise UsageError(f"edgegen was changed from {raw['version']} to {__version__} while it served. Start the server again.")
    return Launch(**{**raw["launch"], "faulted": tuple(raw["launch"]["faulted"])})


def explain_to_json(call: Explain) -> dict[str, Any]:
    """A call as the fields of its line."""
    options = {one.name: getattr(call.options, one.name) for one in fields(ExplainOptions)}
    return {"call": "explain", "request": wire.request_to_json(call.request), "options": options, "priority": call.priority}


def explain_from_json(raw: Mapping[str, Any]) -> Explain:
    """The call of a line. Raises UsageError or DataError, or what a value of another type raises."""
    return Explain(wire.request_from_json(raw["request"]), ExplainOptions(**raw["options"]), raw["priority"])


_PLAIN = ("n", "logprobs", "grammar", "ignore_end", "write_controls", "whole", "deadline_s", "priority", "fresh", "fair")


def complete_to_json(call: Complete) -> dict[str, Any]:
    """A call as the fields of its line."""
    options = {one.name: getattr(call.options, one.name) for one in fields(SamplingOptions)}
    prompt = [[part.text, part.special, part.ids] for part in call.prompt]
    rest = {name: getattr(call, name) for name in _PLAIN}
    mine = {"prompt": prompt, "options": options, "stops": call.stops, "bias": list(call.bias.items())}
    return {"call": "complete", **mine, **rest}


def complete_from_json(raw: Mapping[str, Any]) -> Complete:
    """The call of a line. Raises OptionError, or what a value of another type raises."""
    prompt = tuple(Part(text, special, tuple(ids)) for text, special, ids in raw["prompt"])
    bias = {int(id_): float(value) for id_, value in raw["bias"]}
    rest = {name: raw[name] for name in _PLAIN}
    return Complete(prompt, options=SamplingOptions(**raw["options"]), stops=tuple(raw["stops"]), bias=bias, **rest)


def answer_to_json(answer: Any) -> list[Any]:
    """Kind and data of an answer."""
    if isinstance(answer, Written):
        return ["written", [answer.index, answer.text, [_token_to_json(token) for token in answer.tokens]]]
    if isinstance(answer, Ended):
        return ["ended", {one.name: getattr(answer, one.name) for one in fields(Ended)}]
    if isinstance(answer, Explained):
        read = answer.prompt_tokens, answer.reused_tokens
        return ["explained", [answer.record, list(answer.pieces), answer.pack, answer.slotted, *read]]
    if isinstance(answer, EdgegenError):
        return ["error", error_to_json(answer)]
    return ["plain", answer]


def answer_from_json(kind: str, data: Any) -> Any:
    """The answer of a kind and its data, an error as one that can be raised. Raises ValueError for an unknown kind."""
    if kind == "written":
        return Written(data[0], data[1], tuple(map(_token_from_json, data[2])))
    if kind == "ended":
        tuples = {name: tuple(data[name]) for name in ("finishes", "stops")}
        return Ended(**{**data, **tuples})
    if kind == "explained":
        return Explained(*data)
    if kind == "error":
        return error_from_json(data)
    if kind == "plain":
        return data
    raise ValueError(f"unknown kind of answer {kind!r}")


def _token_to_json(token: Token) -> list[Any]:
    return [token.id, token.text] if token.logprob is None else [token.id, token.text, token.logprob, token.top]


def _token_from_json(raw: list[Any]) -> Token:
    return Token(raw[0], raw[1]) if len(raw) == 2 else Token(raw[0], raw[1], raw[2], tuple((a, b, c) for a, b, c in raw[3]))


def state_to_json(state: State) -> dict[str, Any]:
    """A state as a JSON object."""
    return {**asdict(state), "controls": sorted(state.controls)}


def state_from_json(raw: Mapping[str, Any]) -> State:
    """The state of a JSON object."""
    return State(**{**raw, "controls": frozenset(raw["controls"])})


def error_to_json(error: EdgegenError) -> list[str | None]:
    """An error's class, message, field and what it lacks."""
    return [type(error).__name__, str(error), error.field, error.lacks]


def error_from_json(raw: Any) -> EdgegenError:
    """The error of a class, a message, a field and what is lacking; one that this front does not know is an EngineError."""
    name, message, field, lacks = raw
    found = getattr(errors, str(name), None)
    known = isinstance(found, type) and issubclass(found, EdgegenError)
    return found(message, field, lacks) if known and found else EngineError(str(message), field, lacks)


def malformed(error: Exception) -> UsageError:
    """What a call that cannot be read is answered with."""
    return UsageError(f"The call cannot be read: {type(error).__name__}. Front and engine must be of one version.")
