"""Tells systemd that the service is ready, alive, or stopping. Does nothing where no NOTIFY_SOCKET is given.

The protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html; a datagram, for which no package is needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

_MICRO = 1e-6
_PATIENCE_S = 20.0


def notify(message: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send a message. A service manager that does not listen is none of our errors."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.connect("\0" + address[1:] if address.startswith("@") else address)
        link.send(message.encode())


@asynccontextmanager
async def alive(environment: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Give a sign of life twice in each period of the watchdog, as long as the event loop turns."""
    period_s = float(environment.get("WATCHDOG_USEC") or 0) * _MICRO / 2
    wanted = period_s > 0 and environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    async with _repeated("WATCHDOG=1", period_s if wanted else 0, environment):
        yield


@asynccontextmanager
async def starting(environment: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Ask for more time while the model is not there yet: the server answers already, and to end it would end that too."""
    async with _repeated(f"EXTEND_TIMEOUT_USEC={round(3 * _PATIENCE_S / _MICRO)}", _PATIENCE_S, environment):
        yield


@asynccontextmanager
async def _repeated(message: str, period_s: float, environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Send a message again and again; never where the period is 0."""
    task = asyncio.create_task(_beat(message, period_s, environment)) if period_s else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _beat(message: str, period_s: float, environment: Mapping[str, str]) -> None:
    while True:
        notify(message, environment)
        await asyncio.sleep(period_s)
