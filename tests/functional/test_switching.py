"""One pack in another's place under load: no call is dropped or mixed, and a bad pack changes nothing. The model is a fake."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from dataclasses import replace

import pytest

from edgegen.errors import EngineError, NotFoundError, PackError
from edgegen.serving.calls import Explain, Explained
from edgegen.serving.supervisor import Supervisor
from tests.fakes.supervised import (
    ASKED,
    QUICK,
    WAIT_S,
    children,
    long,
    supervised,
    text,
)


@pytest.mark.parametrize("other", ["second", "hang:2", "hang", "crashed"])
async def test_no_call_goes_to_another_pack_or_setting_than_it_was_made_for(other: str) -> None:
    """A process that was replaced dies with calls that have not begun: the new one has other tokens, also under the same label.

    Opened anew, the same pack takes them; after a crash it comes with a safer setting, with which the same seed writes otherwise.
    """
    async with supervised("hang", replace(QUICK, retry_s=WAIT_S, stuck_s=WAIT_S, hang_s=2 * WAIT_S)) as supervisor:
        old = supervisor.state
        waiting = [asyncio.create_task(text(supervisor)) for _ in range(3)]
        await asyncio.sleep(0.01)
        if other != "crashed":
            await supervisor.switch(other)
        os.kill(old.pid or 0, signal.SIGABRT if other == "crashed" else signal.SIGKILL)
        if other == "hang":
            async with asyncio.timeout(WAIT_S):
                while (process := supervisor._current) is None or process.state.pid == old.pid or len(process._open) < 3:
                    await asyncio.sleep(0.01)
            for task in waiting:
                task.cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert other == "hang" or all("another pack or setting" in str(one) for one in done), done


async def test_switches_packs_under_load_without_a_call_dropped_or_mixed() -> None:
    """Each answer is of one pack; what comes after the switch is of the new one."""
    packs, stop = Counter[str](), False

    async def client(supervisor: Supervisor) -> None:
        while not stop:
            said, ended = await text(supervisor, long(tokens=60))
            name = (ended.pack or "").removesuffix("@1")
            assert said == ((name + " ") * 60)[:60], (said, name)
            packs[name] += 1

    async def shopper(supervisor: Supervisor) -> None:
        while not stop:
            made: Explained = await supervisor.explain(Explain(ASKED))
            assert made.pack in ("steady@1", "second@1", "third@1") and not made.record["note"]

    async with supervised() as supervisor:
        work = [asyncio.create_task(one(supervisor)) for one in (client, client, client, shopper)]
        await asyncio.sleep(0.1)
        first = supervisor.state.pid
        await asyncio.gather(supervisor.switch("second"), supervisor.switch("third"))
        assert supervisor.state.pack is not None and supervisor.state.pack["name"] == "third"
        assert (await text(supervisor))[1].pack == "third@1" and supervisor.state.pid != first
        async with asyncio.timeout(WAIT_S):
            while packs["third"] < 3:
                await asyncio.sleep(0.01)
        stop = True
        await asyncio.gather(*work)
        assert packs["steady"] and supervisor.state.restarts == 0
        async with asyncio.timeout(WAIT_S):
            while len(children()) > 1:
                await asyncio.sleep(0.01)


async def test_a_replaced_process_that_dies_is_counted_and_one_that_ends_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """The one that serves is not touched."""
    async with supervised("hang", replace(QUICK, stuck_s=WAIT_S, hang_s=2 * WAIT_S)) as supervisor:
        old, waiting = supervisor.state.pid, asyncio.create_task(text(supervisor))
        await asyncio.sleep(0.01)
        await supervisor.switch("second")
        os.kill(old or 0, signal.SIGABRT)
        with pytest.raises(EngineError):
            await waiting
        await supervisor.switch("steady")
        async with asyncio.timeout(WAIT_S):
            while len(children()) > 1 or len(supervisor._processes) > 1:
                await asyncio.sleep(0.01)
        assert (await supervisor.figures())["engine_deaths_total"] == 1 and supervisor.state.ready
    assert "was replaced died" in caplog.text and "SIGABRT" in caplog.text


@pytest.mark.parametrize("pack", ["bad", "crash", "slow", "nowhere"])
async def test_a_bad_pack_leaves_the_old_one_serving(pack: str) -> None:
    """Whatever is wrong with it; the reason is raised."""
    async with supervised() as supervisor:
        pid, supervisor._policy = supervisor.state.pid, replace(QUICK, start_s=1.0 if pack == "slow" else WAIT_S)
        if pack == "nowhere":
            supervisor._command = (sys.executable, "-m", "edgegen.serving.child")
        with pytest.raises({"bad": PackError, "nowhere": NotFoundError}.get(pack, EngineError)):
            await supervisor.switch(pack)
        assert supervisor.state.pid == pid and supervisor.state.ready and (await text(supervisor))[1].pack == "steady@1"
        assert (await supervisor.figures())["pack_switches_failed_total"] == 1
