"""The engine in a process of its own, which dies, hangs and is replaced under load. The model is a fake."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edgegen.errors import BusyError, EngineError, GrammarError, PackError, UnavailableError, UsageError
from edgegen.explain import ExplainOptions
from edgegen.hardware import Setting
from edgegen.serving.calls import Complete, Explain, Part, Written
from edgegen.serving.launch import Launch
from edgegen.serving.supervisor import Supervisor
from tests.fakes.supervised import (
    ASKED,
    COMMAND,
    QUICK,
    WAIT_S,
    children,
    long,
    ready,
    supervised,
    text,
)


async def test_answers_like_an_engine_of_this_process() -> None:
    """Every call goes over and back."""
    async with supervised() as supervisor:
        state = supervisor.state
        assert state.ready and state.explains and state.most_texts == 8 and state.pid in children()
        assert state.pack is not None and state.pack["label"] == "steady@1"
        said, ended = await text(supervisor)
        assert said == "steady steady steady ste" and ended.pack == "steady@1" and ended.finishes == ("length",)
        told = [w async for w in supervisor.complete(replace(long(tokens=2), logprobs=1)) if isinstance(w, Written)]
        assert told[0].tokens[0].text == "s" and told[0].tokens[0].top[0][:2] == (ord("s"), "s")
        assert [(id_, piece) for id_, piece in await supervisor.tokenize("茶")] == [
            (byte, bytes([byte]).decode("utf-8", "surrogateescape")) for byte in "茶".encode()
        ]
        assert await supervisor.detokenize(list("茶".encode())) == "茶"
        made = await supervisor.explain(Explain(ASKED))
        assert "".join(made.pieces) == made.record["text"] and made.pack == "steady@1"
        assert (await supervisor.figures())["engine_up"] == 1


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (long(n=99), UsageError),
        (replace(long(), prompt=()), UsageError),
        (replace(long(), prompt=(Part("x" * 300),)), EngineError),
        (replace(long(), grammar="root ::= ("), GrammarError),
    ],
)
async def test_the_engines_errors_come_over(call: Complete, error: type[Exception]) -> None:
    """With class and message; nothing else changes."""
    async with supervised() as supervisor:
        with pytest.raises(error):
            await text(supervisor, call)
        with pytest.raises(UsageError, match="Unknown task"):
            await supervisor.explain(Explain(replace(ASKED, task="nope")))
        with pytest.raises(UsageError, match="no token"):
            await supervisor.detokenize([99_999])
        assert supervisor.state.ready and supervisor.state.restarts == 0


async def test_killed_under_load_every_call_ends_once_and_explanations_are_answered() -> None:
    """Five times."""
    outcomes, asked, stop = Counter[str](), Counter[str](), False

    async def shopper(supervisor: Supervisor) -> None:
        while not stop:
            asked["explain"] += 1
            made = await asyncio.wait_for(supervisor.explain(Explain(ASKED)), WAIT_S)
            outcomes["explain"] += 1
            assert made.record["text"] and (made.pack is not None or made.record["note"])

    async def client(supervisor: Supervisor) -> None:
        while not stop:
            asked["complete"] += 1
            try:
                said, _ = await asyncio.wait_for(text(supervisor, long(tokens=40)), WAIT_S)
                assert said == ("steady " * 9)[:40]
                outcomes["whole"] += 1
            except EngineError:
                outcomes["failed"] += 1
                await asyncio.sleep(0.01)

    async with supervised(policy=replace(QUICK, retry_s=30)) as supervisor:
        work = [asyncio.create_task(one(supervisor)) for one in (shopper, shopper, client, client, client)]
        for kills in range(5):
            await ready(supervisor, kills)
            await asyncio.sleep(0.1)
            pid = supervisor.state.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        await ready(supervisor, 5)
        async with asyncio.timeout(WAIT_S):
            while not outcomes["whole"]:
                await asyncio.sleep(0.01)
        stop = True
        await asyncio.gather(*work)
        assert supervisor.state.restarts == 5 and (await supervisor.figures())["engine_deaths_total"] == 5
    assert outcomes["explain"] == asked["explain"] > 0 and outcomes["whole"] + outcomes["failed"] == asked["complete"]


async def test_a_completion_that_was_begun_fails_and_one_that_was_not_is_made_by_the_next_process() -> None:
    """The explanation beside them says in its record why it is the template's."""
    async with supervised(policy=replace(QUICK, retry_s=WAIT_S)) as supervisor:
        begun = supervisor.complete(long())
        assert isinstance(await anext(begun), Written)
        explaining = asyncio.create_task(supervisor.explain(Explain(ASKED)))
        waiting = [asyncio.create_task(text(supervisor, long(n=8, tokens=100))) for _ in range(4)]  # some have no sequences yet
        await asyncio.sleep(0.01)
        os.kill(supervisor.state.pid or 0, signal.SIGKILL)
        with pytest.raises(EngineError, match="died while it wrote"):
            async for _ in begun:
                pass
        assert "died" in (await explaining).record["note"]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(one, tuple) for one in done) and supervisor.state.restarts == 1


async def test_says_that_it_is_not_ready_and_refuses_completions_meanwhile() -> None:
    """Explanations come from templates; the reason stands in the state and in the record."""
    async with supervised(policy=replace(QUICK, first_pause_s=3, most_pause_s=3)) as supervisor:
        os.kill(supervisor.state.pid or 0, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            while supervisor.state.ready or "SIGKILL" not in supervisor.state.why:
                await asyncio.sleep(0.01)
        assert supervisor.state.pid is None and supervisor.state.pack is not None
        made = await supervisor.explain(Explain(ASKED))
        assert made.record["source"] == "template" and "SIGKILL" in made.record["note"] and made.pack is None
        for call in (text(supervisor), supervisor.tokenize("x")):
            with pytest.raises(UnavailableError, match="SIGKILL"):
                await call
        assert (await supervisor.figures())["engine_up"] == 0


async def test_a_kill_from_outside_says_nothing_about_the_setting() -> None:
    """However often; a fault does, and is told to the next process."""
    async with supervised() as supervisor:
        for kills in (1, 2, 3):
            os.kill(supervisor.state.pid or 0, signal.SIGKILL)
            await ready(supervisor, kills)
            assert supervisor.state.setting == str(Setting(2, repacked=True))
        os.kill(supervisor.state.pid or 0, signal.SIGABRT)
        await ready(supervisor, 4)
        assert supervisor.state.setting == str(Setting(2)) and supervisor._faulted == (0,)


async def test_a_gpu_without_memory_is_started_again_with_a_safer_setting() -> None:
    """The setting is not held against later starts, for memory comes and goes."""
    async with supervised("gpu", replace(QUICK, retry_s=WAIT_S)) as supervisor:
        with suppress(EngineError):  # it is told, or the call is made by the next process
            await text(supervisor)
        await ready(supervisor, 1)
        assert supervisor.state.caution == 1 and supervisor._faulted == ()
        assert (await text(supervisor))[0].startswith("gpu")


async def test_a_crash_at_the_start_is_tried_again_with_safer_settings(tmp_path: Path) -> None:
    """Templates answer until it works."""
    async with supervised(f"flaky:{tmp_path / 'deaths'}") as supervisor:
        assert not supervisor.state.ready and "SIGSEGV" in supervisor.state.why
        assert (await supervisor.explain(Explain(ASKED))).record["source"] == "template"
        await ready(supervisor)
        assert supervisor.state.setting == str(Setting(1))
        assert (await supervisor.figures())["engine_deaths_total"] == 3


@pytest.mark.parametrize("pack", ["bad", "crash"])
async def test_what_cannot_start(pack: str) -> None:
    """A bad pack is said at once; who dies is tried again, ever more slowly, and does not keep the end waiting."""
    supervisor = Supervisor(Launch(pack=pack), QUICK, COMMAND)
    if pack == "bad":
        with pytest.raises(PackError, match="is bad"):
            await supervisor.start()
    else:
        await supervisor.start()
        assert (await supervisor.explain(Explain(ASKED))).record["source"] == "template"
    assert not supervisor.state.ready
    await asyncio.wait_for(supervisor.drain(1), WAIT_S)
    assert not children()
    with pytest.raises(UnavailableError):
        await supervisor.explain(Explain(ASKED))


async def test_a_fault_of_the_engines_thread_ends_the_process_and_quotes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The calls end, the next process comes, and the log has the place alone."""
    async with supervised("faulty", replace(QUICK, retry_s=0.1)) as supervisor:
        waiting = asyncio.create_task(text(supervisor))
        made = await supervisor.explain(Explain(ASKED))
        assert made.record["source"] == "template" and made.record["note"]
        with pytest.raises(EngineError):
            await waiting
        await ready(supervisor, 1)
    said = capfd.readouterr().err
    assert "AssertionError at" in said and "child.py:" in said and "secret" not in said


async def test_a_process_that_hangs_is_ended() -> None:
    """Its calls do not wait for ever, and the next ones do not either."""
    async with supervised("hang", replace(QUICK, hang_s=0.3, grace_s=30, retry_s=0.1)) as supervisor:
        waiting = asyncio.create_task(text(supervisor))
        made = await asyncio.wait_for(supervisor.explain(Explain(ASKED)), WAIT_S)
        assert made.record["source"] == "template" and "died" in made.record["note"]
        with pytest.raises(EngineError):
            await waiting
        async with asyncio.timeout(WAIT_S):
            while "no step" not in supervisor.state.why and supervisor.state.restarts == 0:
                await asyncio.sleep(0.01)


async def test_what_a_process_hung_on_is_not_sent_again_and_changes_no_setting() -> None:
    """The next process would hang too; a call must not cost the machine its best setting."""
    async with supervised("hang", replace(QUICK, hang_s=0.3, stuck_s=30, retry_s=WAIT_S)) as supervisor:
        before = supervisor.state.setting
        for deaths in (1, 2):
            done = await asyncio.gather(*(text(supervisor) for _ in range(3)), return_exceptions=True)
            assert all("hung" in str(one) for one in done), done
            await ready(supervisor, deaths)
        await asyncio.sleep(0.5)  # longer than it takes to find a process that hangs
        assert supervisor.state.restarts == 2 and (await supervisor.figures())["engine_deaths_total"] == 2
        assert supervisor.state.setting == before


async def test_a_process_that_is_stuck_is_not_asked_for_more() -> None:
    """Nobody waits for it until it is ended, and the state says why."""
    async with supervised("hang", replace(QUICK, stuck_s=0.2)) as supervisor:
        waiting = asyncio.create_task(text(supervisor))
        async with asyncio.timeout(WAIT_S):
            while supervisor.state.ready:
                await asyncio.sleep(0.01)
        assert "no step" in supervisor.state.why and supervisor.state.pid
        made = await supervisor.explain(Explain(ASKED))
        assert made.record["source"] == "template" and "no step" in made.record["note"]
        with pytest.raises(UnavailableError, match="no step"):
            await text(supervisor)
        waiting.cancel()


async def test_an_explanation_does_not_wait_beyond_its_deadline() -> None:
    """The engine is stuck, but not for long enough to be ended."""
    async with supervised("hang", replace(QUICK, grace_s=0.1)) as supervisor:
        made = await supervisor.explain(Explain(ASKED, ExplainOptions(deadline_s=0.1)))
        assert made.record["source"] == "template" and "in time" in made.record["note"]


async def test_leaving_a_call_frees_its_sequences() -> None:
    """All eight are taken by one that is left; the next one has them."""
    async with supervised() as supervisor:
        for _ in range(3):
            left = supervisor.complete(long(n=8, tokens=200))
            await anext(left)
            await left.aclose()
            task = asyncio.create_task(supervisor.explain(Explain(ASKED)))
            await asyncio.sleep(0.005)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        _, ended = await text(supervisor, long(n=8, tokens=4))
        figures = await supervisor.figures()
        assert ended.completion_tokens == 32 and figures["jobs_waiting"] == figures["sequences_in_use"] == 0
        assert figures["jobs_cancelled_total"] >= 3


async def test_too_many_calls_are_refused() -> None:
    """With BusyError, and those that were taken are made."""
    async with supervised() as supervisor:
        done = await asyncio.gather(*(text(supervisor, long(n=8, tokens=20)) for _ in range(60)), return_exceptions=True)
        assert {type(one) for one in done} == {tuple, BusyError} and sum(isinstance(one, tuple) for one in done) >= 32


async def test_says_in_how_many_seconds_it_may_be_back() -> None:
    """After the pause and a start, and never less than one."""
    async with supervised(policy=replace(QUICK, first_pause_s=20, most_pause_s=20)) as supervisor:
        assert supervisor.state.retry_s == 1
        os.kill(supervisor.state.pid or 0, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            while supervisor.state.ready or "SIGKILL" not in supervisor.state.why:
                await asyncio.sleep(0.01)
        assert supervisor.state.retry_s > 15
        with pytest.raises(UnavailableError) as refused:
            await text(supervisor)
        assert refused.value.retry_s > 15


async def test_drains() -> None:
    """Open calls end as they would have; those that take too long are cut off; nothing new is taken."""
    async with supervised() as supervisor:
        short, endless = asyncio.create_task(text(supervisor, long(tokens=20))), supervisor.complete(long())
        await anext(endless)
        draining = asyncio.create_task(supervisor.drain(30))
        await asyncio.sleep(0)
        assert not supervisor.state.ready and "stopping" in supervisor.state.why
        with pytest.raises(UnavailableError, match="stopping"):
            await text(supervisor)
        assert (await short)[1].completion_tokens == 20
        await supervisor.drain(0.01)
        with pytest.raises(EngineError):
            async for _ in endless:
                pass
        await draining
