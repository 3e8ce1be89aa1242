"""The boundary of the server: turns every error into one shape, that of the OpenAI API:
{"error": {"message": "...", "type": "invalid_request_error", "param": null, "code": "usage"}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from edgegen.errors import EdgegenError, UnavailableError
from edgegen.server.body import BodyError, code_of, told

CLIENT_LEFT = 499
"""The status of a request whose client left; nobody reads it but the log."""
_CODES = {404: "not_found", 405: "method_not_allowed"}
_TYPES = {401: "invalid_request_error", 429: "rate_limit_error"}


class ClientLeftError(Exception):
    """The client closed its connection before the answer was there."""


def error_json(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """An error as a JSON object."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(message: str, status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as an answer. 429 and 503 say when to come again."""
    return JSONResponse(error_json(message, status, code), status, {**again(status), **(headers or {})})


def again(status: int, retry_s: float = 1.0) -> dict[str, str]:
    """The header that says in how many seconds a client may try again, where waiting helps."""
    return {"Retry-After": str(math.ceil(retry_s))} if status in (429, 503) else {}


def as_json(error: EdgegenError) -> dict[str, Any]:
    """One of our errors as a JSON object."""
    code = error.code if isinstance(error, BodyError) else None
    return error_json(told(error), error.http_status, code or code_of(error), error.field)


def _edgegen(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, EdgegenError)  # noqa: S101 - it is registered for these only
    retry_s = error.retry_s if isinstance(error, UnavailableError) else 1.0
    return JSONResponse(as_json(error), error.http_status, again(error.http_status, retry_s))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these only
    message = f"{request.method} {request.url.path}: {error.detail}. GET /docs lists the routes."
    code = _CODES.get(error.status_code, "http")
    return JSONResponse(error_json(message, error.status_code, code), error.status_code, error.headers)


def _left(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=CLIENT_LEFT)


HANDLERS: Mapping[Any, Any] = {EdgegenError: _edgegen, HTTPException: _http, ClientLeftError: _left, ClientDisconnect: _left}
"""Starlette's exception handlers. What is unexpected is handled where the log is written."""
