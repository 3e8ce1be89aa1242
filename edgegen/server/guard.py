"""Who may call: names and origins against pages of other sites, keys, and how many calls at once. Knows no route's meaning.

A page of another site must not reach the API through a visitor's browser: neither under a name of its own that points to
this machine (the Host header gives it away) nor by a plain request from its page (the Origin header does).
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from edgegen.server.errors import refusal
from edgegen.server.settings import Access, Limits

PUBLIC = frozenset({"/health", "/ready", "/docs", "/openapi.json"})
"""Paths that need no key: they tell nothing but whether the server works, and what can be looked up anyway."""


class Guard:
    """Refuses before any route sees the request."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits) -> None:
        """Of the limits, `open_calls` and `header_bytes` are watched over here."""
        self._app, self._access, self._limits, self._open = app, access, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is not None:
            scope["edgegen.refused"] = True
            await refused(scope, receive, send)
            return
        counts = scope["method"] == "POST"
        self._open += counts
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= counts

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if _size(scope) > self._limits.header_bytes:
            # What comes bit by bit is refused by the connection; this came in one go.
            return refusal(f"The request's head is longer than {self._limits.header_bytes} bytes.", 431, "head")
        if not self._known_host(host):
            return refusal("This server is not called by that name. Start it with --allow-host NAME to add one.", 400, "host")
        if origin is not None and not (self._access.lets(origin) or _same(origin, host)):
            return refusal("Pages of that site may not call. Start the server with --allow-origin to let them.", 403, "origin")
        if self._access.keys is not None and scope["path"] not in PUBLIC:
            scope["edgegen.key"] = self._access.keys.name(_secret(headers))
            if scope["edgegen.key"] is None:
                message = "No valid key. Send one as `Authorization: Bearer ...`; `edgegen key add` makes them."
                return refusal(message, 401, "invalid_api_key", {"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST" and self._open >= self._limits.open_calls:
            return refusal(f"{self._open} calls are open already. Try again in a few seconds.", 429, "busy")
        return None

    def _known_host(self, host: str) -> bool:
        name = _name(host)
        if name in self._access.hosts:
            return True
        with suppress(ValueError):
            return self._access.addresses and bool(ipaddress.ip_address(name))
        return False


def _size(scope: Scope) -> int:
    """Bytes of a request's head, but for a few."""
    lines = [(scope["raw_path"], scope["query_string"]), *scope["headers"]]
    return sum(len(name) + len(value) + len(": \r\n") for name, value in lines)


def _name(host: str) -> str:
    """The name in a Host header, without port, brackets and the dot at the end."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _same(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host}", f"https://{host}")


def _secret(headers: Headers) -> str:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""
