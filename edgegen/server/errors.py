"""The boundary of the server: reads JSON bodies, and turns every error into one shape, that of the OpenAI API:
{"error": {"message": "...", "type": "invalid_request_error", "param": null, "code": "usage"}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgegen.errors import BusyError, EdgegenError, UsageError

MAX_BODY = 1 << 20
"""Bytes of a request's body that are read at most."""
_RETRY_S = "2"
_CODES = {404: "not_found", 405: "method_not_allowed"}


class BodyError(UsageError):
    """A body that is not what the route takes. `param` names the field that is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        """The message, and the field where there is one."""
        super().__init__(message)
        self.param = param


class BodyTooLargeError(UsageError):
    """A body that is longer than MAX_BODY."""

    http_status = 413


async def read_body(request: Request, known: Iterable[str]) -> dict[str, Any]:
    """The JSON object of a request that has `known` fields only. Raises BodyError or BodyTooLargeError."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise BodyTooLargeError(f"The body is longer than {MAX_BODY} bytes. Send fewer products at once.")
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BodyError(f"The body is not JSON in UTF-8: {error}.") from None
    if not isinstance(body, dict):
        raise BodyError("The body is not a JSON object. Send one.")
    names = list(known)
    if strange := [name for name in body if name not in names]:
        raise BodyError(f"Unknown field {strange[0]!r}. Known: {', '.join(names)}.", strange[0])
    return body


def error_json(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """An error as a JSON object."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def code_of(error: EdgegenError) -> str:
    """The name that programs match on: `PromptTooLongError` -> `prompt_too_long`."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def as_json(error: EdgegenError) -> dict[str, Any]:
    """One of our errors as a JSON object."""
    param = error.param if isinstance(error, BodyError) else None
    return error_json(str(error), error.http_status, code_of(error), param)


def _edgegen(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, EdgegenError)  # noqa: S101 - it is registered for these only
    headers = {"Retry-After": _RETRY_S} if isinstance(error, BusyError) else None
    return JSONResponse(as_json(error), error.http_status, headers)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these only
    message = f"{request.method} {request.url.path}: {error.detail}. The routes are listed in the documentation of the API."
    code = _CODES.get(error.status_code, "http")
    return JSONResponse(error_json(message, error.status_code, code), error.status_code, error.headers)


def _unexpected(request: Request, error: Exception) -> Response:
    message = f"edgegen failed on {request.url.path}: {type(error).__name__}. The server's log has the details."
    return JSONResponse(error_json(message, 500, "internal"), 500)


HANDLERS: Mapping[Any, Any] = {EdgegenError: _edgegen, HTTPException: _http, Exception: _unexpected}
"""Starlette's exception handlers."""
