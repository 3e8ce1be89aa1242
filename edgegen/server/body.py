"""Reads JSON bodies: within limits, of known fields, each of its type. What is wrong is refused by the field's name."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from starlette.requests import Request

from edgegen.errors import EdgegenError, NotFoundError, UsageError
from edgegen.server.settings import Limits

_OWN = frozenset({"shopper", "query"})
"""What a request may lack that has a field of its own; what else it may lack is a column of a row."""


def told(error: EdgegenError) -> str:
    """The message, and how to give what is lacking."""
    if error.lacks is None:
        return str(error)
    return f"{error} " + (f"Give it in the field {error.lacks!r}." if error.lacks in _OWN else f"Give a column {error.lacks!r}.")


def code_of(error: EdgegenError) -> str:
    """The name that programs match on: `PromptTooLongError` -> `prompt_too_long`."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class BodyError(UsageError):
    """A body that is not what the route takes. `field` names the field that is wrong, `code` what programs match on."""

    def __init__(self, message: str, field: str | None = None, code: str | None = None) -> None:
        """The message, and the field where there is one."""
        super().__init__(message, field)
        self.code = code


class ModelNotFoundError(NotFoundError):
    """A model of a name that is not served."""


class BodyTooLargeError(UsageError):
    """A body that is longer than the limit."""

    http_status = 413


class BodyTooSlowError(UsageError):
    """A body that did not arrive in time."""

    http_status = 408


@contextmanager
def about(name: str) -> Iterator[None]:
    """What goes wrong within is about a field of the body, where it names no other."""
    try:
        yield
    except EdgegenError as error:
        error.field = error.field or (error.lacks if error.lacks in _OWN else name)
        raise


async def read_body(request: Request, known: Iterable[str], limits: Limits) -> dict[str, Any]:
    """The JSON object of a request that has `known` fields only. Raises BodyError, BodyTooLargeError, BodyTooSlowError."""
    raw = await _bytes(request, limits)
    try:
        body = json.loads(raw.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        # A decoder's own message may quote the body, which must not get into a log.
        why = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise BodyError(f"The body is not JSON in UTF-8: {why}.") from None
    if not isinstance(body, dict):
        raise BodyError("The body is not a JSON object. Send one.")
    _check_shape(body, limits.json_depth)
    only(body, known)
    request.scope["edgegen.body"] = body
    return body


def only(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise BodyError for a field that is not known."""
    names = list(known)
    if strange := [name for name in given if name not in names]:
        raise BodyError(f"Unknown field {strange[0][:80]!r}. Known: {', '.join(names)}.", strange[0][:80])


def field(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """A field of a body, `default` where it is missing or null. Raises BodyError where it has another type."""
    value = body.get(name)
    if value is None:
        return default
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_KINDS[k] for k in kinds if k is not int or float not in kinds)
        raise BodyError(f"The field {name!r} must be {wanted}.", name)
    return value


def number(body: Mapping[str, Any], name: str, default: Any, low: float, high: float, *, whole: bool = False) -> Any:
    """A number of a body within [low, high]. Raises BodyError."""
    value = field(body, name, int if whole else (int, float), default)
    if value is not None and not low <= value <= high:
        raise BodyError(f"{name} must be in [{low}, {high}], got {value}", name)
    return value


_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


async def _bytes(request: Request, limits: Limits) -> bytes:
    raw = bytearray()
    try:
        async with asyncio.timeout(limits.receive_s):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > limits.body_bytes:
                    raise BodyTooLargeError(f"The body is longer than {limits.body_bytes} bytes. Send less at once.")
    except TimeoutError:
        raise BodyTooSlowError(f"The body did not arrive within {limits.receive_s:g} seconds. Send it again.") from None
    return bytes(raw)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check_shape(body: Any, depth: int) -> None:
    """Raise BodyError for what is nested too deeply, and for half characters, which no text can hold."""
    level = [body]
    for _ in range(depth):
        inner = [part for value in level for part in _parts(value)]
        if any(isinstance(part, str) and not _whole(part) for part in inner):
            raise BodyError("The body has half of a surrogate pair in a string. Send whole characters.")
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return
    raise BodyError(f"The body is nested more than {depth} deep. Send it flatter.")


def _parts(value: Any) -> Iterable[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def _whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
