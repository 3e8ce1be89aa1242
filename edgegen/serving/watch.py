"""Follows the active pack of this machine: where `edgegen pack activate` or `rollback` changes it, the supervisor switches."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from edgegen.errors import EdgegenError
from edgegen.pack.installed import Installed
from edgegen.serving.supervisor import Supervisor

LOG = logging.getLogger(__name__)
_EVERY_S = 1.0


@asynccontextmanager
async def following(supervisor: Supervisor, *, active: bool) -> AsyncIterator[None]:
    """Follow the active pack where `active`; in any case open what is served anew on SIGHUP, as after it was repaired.

    To be entered before the supervisor starts, so that a pack that becomes active meanwhile is not missed.
    """
    watch, loop = Watch(supervisor) if active else None, asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def run(work: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, lambda: run(watch.look(again=True) if watch else _reopen(supervisor)))
    if watch:
        run(watch.follow())
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _reopen(supervisor: Supervisor) -> None:
    with suppress(EdgegenError):  # said by the supervisor
        await supervisor.switch()


class Watch:
    """Knows which pack was active when it last looked."""

    def __init__(self, supervisor: Supervisor, installed: Installed | None = None) -> None:
        """What is active now counts as served already."""
        self._supervisor, self._installed = supervisor, installed or Installed()
        self._seen, self._tried = self._stamp(), self._active()

    async def follow(self, every_s: float = _EVERY_S) -> None:
        """Look from time to time, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                await self.look()

    async def look(self, *, again: bool = False) -> None:
        """Switch to the active pack where it is another one than before, or in any case where `again`.

        What cannot be used, or read, leaves everything as it is; the log has the reason.
        """
        active = self._active()
        if active is None or (active == self._tried and not again):
            return
        self._tried = active
        with suppress(EdgegenError):  # said by the supervisor
            await self._supervisor.switch(active)

    def _active(self) -> Path | None:
        try:
            return self._installed.folder_of(self._installed.state().active)
        except (EdgegenError, OSError) as error:
            LOG.error("the active pack is not known, the one before it goes on serving: %s", error)
            return None

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            about = self._installed.state_file.stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_size, about.st_ino


