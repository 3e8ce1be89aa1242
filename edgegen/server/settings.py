"""What a server allows and whom it lets in: plain data, each default in one place. Knows no HTTP."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields

from edgegen.errors import OptionError
from edgegen.server.keys import Keys

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names under which only this machine reaches itself."""
LOCAL_PAGES = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
"""Origins of pages that a server of this machine gave, at any port."""

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?/?")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")
_PORTS = {"http": "80", "https": "443"}


def origin(text: str) -> str:
    """A site as browsers name it in `Origin`, or `localhost`, from what an operator writes. Raises OptionError."""
    found = _ORIGIN.fullmatch(text.lower())
    if text.lower() == "localhost":
        return "localhost"
    if found is None:
        raise OptionError(
            f"--allow-origin {text}: write scheme, host and port of the site's pages and no more, such as https://shop.example "
            "or http://10.0.0.7:3000; localhost stands for all servers of this machine."
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _PORTS.get(scheme) else "")


def host_name(text: str) -> str:
    """A name or IP address as the guard compares it, from what an operator writes. Raises OptionError."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(text.strip("[]")))
    if not _NAME.fullmatch(text.lower()):
        raise OptionError(f"--allow-host {text}: write the name alone, without scheme, port and path, such as kiosk.local.")
    return text.lower().removesuffix(".")


@dataclass(frozen=True)
class Limits:
    """How much a client may ask for and how long it may take; `--limit NAME=VALUE` sets each of them."""

    body_bytes: int = 1 << 20
    """Bytes of a request's body."""
    header_bytes: int = 16384
    """Bytes of a request's head."""
    json_depth: int = 32
    """Objects and lists within each other in a body."""
    prompt_chars: int = 200_000
    """Characters of a prompt, or of a chat's messages together."""
    prompts: int = 16
    """Prompts of one call of /v1/completions."""
    requests: int = 64
    """Texts of one call of /v1/explanations."""
    together: int = 4
    """Of those, so many at a time go to the engine."""
    new_tokens: int = 4096
    """Tokens that a text may have."""
    open_calls: int = 64
    """Calls at work or in the engine's queue; more get 429."""
    connections: int = 256
    """Open connections; more get 503."""
    receive_s: float = 10.0
    """Seconds in which a request must have arrived."""
    stalled_s: float = 20.0
    """Seconds for which a client may leave its answer unread."""
    idle_s: float = 15.0
    """Seconds for which a connection stays open between two requests."""
    generation_s: float = 120.0
    """Seconds after which a completion ends with what it has."""

    def __post_init__(self) -> None:
        """Each is a number above 0. Raises OptionError."""
        for one in fields(self):
            if not 0 < getattr(self, one.name) < math.inf:
                raise OptionError(f"--limit {one.name}: it must be above 0, got {getattr(self, one.name)}")

    @classmethod
    def parsed(cls, pairs: Sequence[str]) -> Limits:
        """From `NAME=VALUE` texts. Raises OptionError."""
        kinds: dict[str, type[int] | type[float]] = {one.name: int if one.type == "int" else float for one in fields(cls)}
        given: dict[str, float] = {}
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name not in kinds:
                raise OptionError(f"--limit {pair}: there is no limit {name!r}. Known: {', '.join(kinds)}.")
            try:
                given[name] = kinds[name](value)
            except ValueError:
                kind = "whole number" if kinds[name] is int else "number"
                raise OptionError(f"--limit {pair}: {name} must be a {kind} above 0") from None
        return cls(**given)  # type: ignore[arg-type] # each value has its field's own type


@dataclass(frozen=True)
class Access:
    """Who is let in."""

    hosts: frozenset[str] = LOOPBACK
    """Names under which the server may be called. A page of another site that points a name at this machine calls by its own."""
    addresses: bool = False
    """Any IP address is such a name too: for a server that listens on all of them."""
    origins: frozenset[str] = frozenset()
    """Other sites whose pages may call, as `https://shop.example`; `localhost` stands for all servers of this machine."""
    keys: Keys | None = None
    """Who has one of these keys; None lets in everybody who reaches the server."""

    @property
    def pattern(self) -> str | None:
        """A pattern of further origins that may call."""
        return LOCAL_PAGES if "localhost" in self.origins else None

    def lets(self, origin: str) -> bool:
        """Whether the pages of a site may call."""
        return origin in self.origins or bool(self.pattern and re.fullmatch(self.pattern, origin))


@dataclass(frozen=True)
class Settings:
    """All that the application is told."""

    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    access_log: bool = False
    """A line of JSON on stderr for each request."""
    log_prompts: bool = False
    """With what was asked in it."""
