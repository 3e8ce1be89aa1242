"""Binds, serves and stops: the socket, uvicorn, the service manager. Knows no routes."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from edgegen.errors import UsageError
from edgegen.server.keys import Keys
from edgegen.server.settings import LOOPBACK, Access, Limits, host_name, origin

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LOG = logging.getLogger(__name__)
_BACKLOG = 128


def address(host: str) -> Address:
    """The IP address of a --host. Raises UsageError for a name: it would be looked up, and may lead anywhere."""
    with suppress(ValueError):
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    raise UsageError(f"--host {host}: give an IP address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0, or localhost.")


def access(host: str, names: list[str], origins: list[str], keys: Keys | None, *, insecure: bool) -> Access:
    """Who is let in where a server binds `host`; `names` are further ones it is called by. Raises UsageError where keys lack."""
    at = address(host)
    if not (at.is_loopback or keys or insecure):
        raise UsageError(
            f"--host {host}: other machines reach this address, so callers need keys. Make one with `edgegen key add NAME "
            "--keys FILE` and give --keys FILE; --insecure serves everybody who reaches it."
        )
    known = LOOPBACK | {str(at)} | (frozenset() if at.is_loopback else {socket.gethostname().lower()})
    return Access(known | set(map(host_name, names)), at.is_unspecified, frozenset(map(origin, origins)), keys)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError for a port that is taken or an address that is not this machine's."""
    at = address(host)
    if not 0 <= port <= 65535:
        raise UsageError(f"--port must be in [0, 65535], got {port}")
    # asyncio turns Nagle off only where a socket names its protocol; with Nagle, a first token waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET6 if at.version == 6 else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(at), port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        why = "is in use already" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise UsageError(f"Port {port} of {host} {why}. Choose another with --port.") from None
    return listener


def url(listener: socket.socket) -> str:
    """Where a socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(
    app: Any,
    listener: socket.socket,
    limits: Limits,
    drain_s: float,
    started: Callable[[], None],
    up: Callable[[], Awaitable[None]],
) -> None:
    """Serve until SIGTERM or SIGINT, then let open answers end for `drain_s` seconds. `started` is called once it answers.

    The service manager is told once `up` is done. What that raises ends the server, and is raised.
    """
    import uvicorn

    from edgegen.server.notify import alive, notify, starting
    from edgegen.server.protocol import connections

    async def rise(server: Server) -> None:
        try:
            async with starting():
                await up()
            notify("READY=1")
        except Exception:
            server.should_exit = True
            raise

    class Server(uvicorn.Server):
        """Tells the service manager, and who reads the log, where it stands."""

        rising: asyncio.Task[None] | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Begin to answer."""
            await super().startup(sockets)
            started()
            self.rising = asyncio.create_task(rise(self))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Take no more calls, let the open ones end."""
            notify("STOPPING=1")
            await super().shutdown(sockets)
            if cut := len(self.server_state.tasks):
                LOG.warning("%d calls were cut off: they did not end within %g s", cut, drain_s)

    config = uvicorn.Config(
        app, http=connections(limits, app.state.refused), ws="none", lifespan="off", log_config=None, log_level="critical",
        access_log=False, server_header=False, proxy_headers=False, h11_max_incomplete_event_size=limits.header_bytes,
    )  # fmt: skip
    config.timeout_keep_alive, config.timeout_graceful_shutdown = limits.idle_s, drain_s  # type: ignore[assignment] # typed int
    server = Server(config)
    async with alive():
        # uvicorn raises the signal again once it has shut down; what is open is closed on the way out.
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            await server.serve(sockets=[listener])
    if server.rising is not None:
        server.rising.cancel()
        with suppress(asyncio.CancelledError):
            await server.rising
