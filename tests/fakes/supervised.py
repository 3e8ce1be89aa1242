"""A supervisor over a fake of the engine's process, and calls to it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine.options import SamplingOptions
from edgegen.serving.calls import Complete, Ended, Part
from edgegen.serving.launch import Launch, Policy
from edgegen.serving.supervisor import Supervisor

COMMAND = (sys.executable, "-m", "tests.fakes.child")
QUICK = Policy(start_s=60, first_pause_s=0.01, most_pause_s=0.1, tick_s=0.05)
WAIT_S = 60
DESK = (Fact("name", "Oak desk", Kind.TEXT), Fact("price", Decimal(120), Kind.MONEY, currency="USD"))
ASKED = Request("reason", "en", (Section("item", DESK),))
GREEDY = SamplingOptions(temperature=0, max_new_tokens=24)


@asynccontextmanager
async def supervised(pack: str = "steady", policy: Policy = QUICK) -> AsyncIterator[Supervisor]:
    """A supervisor over a fake that has started; at the end, nothing of it is left."""
    handles, threads = handle_count(), threading.active_count()
    supervisor = Supervisor(Launch(pack=pack), policy, COMMAND)
    try:
        await asyncio.wait_for(supervisor.start(), WAIT_S)
        yield supervisor
    finally:
        await asyncio.wait_for(supervisor.drain(1), WAIT_S)
        assert not children(), "a process is left"
        await asyncio.get_running_loop().shutdown_default_executor()
        assert handle_count() <= handles and threading.active_count() <= threads


def handle_count() -> int:
    """Files and sockets that are open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> list[int]:
    """The processes that this one started and that are there, zombies too."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]


async def ready(supervisor: Supervisor, restarts: int = 0) -> None:
    """Wait until it serves, after so many restarts at least."""
    async with asyncio.timeout(WAIT_S):
        while not supervisor.state.ready or supervisor.state.restarts < restarts:
            await asyncio.sleep(0.01)


async def text(supervisor: Supervisor, call: Complete | None = None) -> tuple[str, Ended]:
    """A completion's first text and its end."""
    said = ""
    async for item in supervisor.complete(call or Complete((Part("<|text|>", special=True),), options=GREEDY)):
        if isinstance(item, Ended):
            return said, item
        said += item.text
    raise AssertionError("no end")


def long(n: int = 1, tokens: int = 200) -> Complete:
    """A completion that takes a while."""
    options = replace(GREEDY, max_new_tokens=tokens)
    return Complete((Part("<|text|>", special=True),), n=n, options=options, ignore_end=True)
