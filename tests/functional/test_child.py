"""The engine's real process on real packs of a tiny model: what it imports, how it ends, and how packs are switched."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from edgegen import hardware
from edgegen.engine import open_engine
from edgegen.errors import EngineError, NotFoundError, PackError
from edgegen.explain import Explainer
from edgegen.hardware import Hardware, Setting
from edgegen.pack.installed import Installed
from edgegen.serving.calls import Explain
from edgegen.serving.launch import Launch
from edgegen.serving.local import LocalService
from edgegen.serving.supervisor import Supervisor
from edgegen.serving.templates import TemplateService
from edgegen.serving.watch import Watch, following
from tests.fakes import packs
from tests.fakes.supervised import ASKED, WAIT_S, long, ready, text
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.functional.test_local import collect


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """tiny@1."""
    return packs.make(tmp_path / "tiny")


async def started(pack: Path | None = None, model: str | None = None) -> Supervisor:
    """A supervisor that serves."""
    supervisor = Supervisor(Launch(pack=str(pack) if pack else None, model=model, threads=1))
    await asyncio.wait_for(supervisor.start(), WAIT_S)
    return supervisor


async def test_serves_a_pack_like_an_engine_of_this_process(pack: Path) -> None:
    """The same greedy text; an explanation through the model, which fails its check with these weights."""
    supervisor = await started(pack)
    try:
        state = supervisor.state
        assert state.ready and state.explains and (state.n_ctx, state.specials["eos"]) == (256, "<|end|>")
        assert state.pack is not None and (state.pack["label"], state.pack["path"]) == ("tiny@1", str(pack))
        said, ended = await text(supervisor, long(tokens=20))
        made = await supervisor.explain(Explain(ASKED))
        assert made.record["tokens"] > 0 and made.record["note"] is None
        with open_engine(pack / "model.gguf") as engine:
            local = LocalService(Explainer(engine), engine)
            texts, there, _ = await collect(local, long(tokens=20))
            local.close()
        assert texts == [said] and there.completion_tokens == ended.completion_tokens == 20
    finally:
        await supervisor.drain(1)


async def test_serves_a_bare_model_for_completions(tmp_path: Path) -> None:
    """Explanations come from templates, and the record says why."""
    supervisor = await started(model=str(write_tiny_gguf(tmp_path / "some.gguf")))
    try:
        assert not supervisor.state.explains and supervisor.state.pack is not None and supervisor.state.pack["label"] == "some"
        assert (await text(supervisor))[1].pack == "some"
        assert "plain text only" in (await supervisor.explain(Explain(ASKED))).record["note"]
    finally:
        await supervisor.drain(1)


@pytest.mark.parametrize("what", ["missing", "damaged"])
async def test_a_pack_that_cannot_be_used_is_said_at_the_start(pack: Path, what: str) -> None:
    """With its own error."""
    if what == "damaged":
        (pack / "model.gguf").write_bytes((pack / "model.gguf").read_bytes()[:-1])
    with pytest.raises(NotFoundError if what == "missing" else PackError):
        await started(pack.parent / "nowhere" if what == "missing" else pack)


async def test_switches_real_packs_and_keeps_the_old_one_where_the_new_one_is_damaged(pack: Path, tmp_path: Path) -> None:
    """Killed afterwards, the one that was switched to comes back."""
    other, bad = packs.make(tmp_path / "other", "other", seed=1), packs.make(tmp_path / "bad", "bad")
    (bad / "model.gguf").write_bytes(b"GGUF")
    supervisor = await started(pack)
    try:
        first, _ = await text(supervisor, long(tokens=20))
        with pytest.raises(PackError):
            await supervisor.switch(bad)
        assert (await text(supervisor, long(tokens=20)))[0] == first
        await supervisor.switch(other)
        second, ended = await text(supervisor, long(tokens=20))
        assert second != first and ended.pack == "other@1"
        os.kill(supervisor.state.pid or 0, signal.SIGKILL)
        await ready(supervisor, 1)
        assert (await text(supervisor, long(tokens=20)))[0] == second
    finally:
        await supervisor.drain(1)


async def test_what_crashed_is_not_taken_again(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the next process nor by the next server; what was killed from outside is."""
    monkeypatch.setenv("EDGEGEN_CACHE", str(tmp_path / "cache"))
    model, probed, old = pack / "model.gguf", Setting(1, repacked=True), Setting(2)
    hardware._keep(model, Hardware(probed, "probed", avoided=(old,)))
    supervisor = Supervisor(Launch(pack=str(pack)))
    await asyncio.wait_for(supervisor.start(), WAIT_S)
    try:
        for kills in (1, 2):
            os.kill(supervisor.state.pid or 0, signal.SIGKILL)
            await ready(supervisor, kills)
            assert supervisor.state.setting == str(probed) and hardware.known(model).avoided == (old,)
        os.kill(supervisor.state.pid or 0, signal.SIGSEGV)
        await ready(supervisor, 3)
        assert supervisor.state.setting == str(Setting(1)) and hardware.known(model).avoided == (old, probed)
        await supervisor.switch(pack)
        assert supervisor.state.setting == str(Setting(1)) == str(hardware.known(model).setting)
    finally:
        await supervisor.drain(1)


async def test_follows_the_active_pack(tmp_path: Path) -> None:
    """Activated, it is served; damaged, or its name unreadable, what was served stays."""
    installed = Installed(try_model=lambda _: None)
    for name in ("one", "two", "worse"):
        installed.install(packs.make(tmp_path / name, name, seed=len(name)), allow_unsigned=True)
    installed.activate("one")
    supervisor = Supervisor(Launch(threads=1))
    watch = Watch(supervisor, installed)
    start = asyncio.create_task(supervisor.start())
    await asyncio.sleep(0)
    await asyncio.gather(start, watch.look(again=True))  # a switch waits for the start
    looking = asyncio.create_task(watch.follow(0.02))
    try:
        assert supervisor.state.pack is not None and supervisor.state.pack["label"] == "one@1"
        installed.activate("two")
        await label(supervisor, "two@1")
        installed.activate("worse")
        (installed.folder_of("worse@1") / "model.gguf").write_bytes(b"GGUF")
        installed.state_file.write_text("{", "ascii")
        await asyncio.sleep(0.3)
        assert supervisor.state.ready
        os.kill(supervisor.state.pid or 0, signal.SIGKILL)
        await ready(supervisor, 1)
        assert supervisor.state.pack["label"] == "two@1"  # what has worked comes back, not what is active
        installed.state_file.unlink()
        installed.activate("one")
        await label(supervisor, "one@1")
        pid = supervisor.state.pid
        await watch.look()
        assert supervisor.state.pid == pid
        await watch.look(again=True)
        assert supervisor.state.pid != pid
        pid = supervisor.state.pid
        async with following(supervisor, active=False):
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(WAIT_S):
                while supervisor.state.pid == pid:
                    await asyncio.sleep(0.01)
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await supervisor.drain(1)


async def label(supervisor: Supervisor, wanted: str) -> None:
    """Wait until a pack is served."""
    async with asyncio.timeout(WAIT_S):
        while supervisor.state.pack is None or supervisor.state.pack["label"] != wanted:
            await asyncio.sleep(0.01)


_FRONT = """
import asyncio, sys
from edgegen.serving.launch import Launch
from edgegen.serving.supervisor import Supervisor
from edgegen.serving.watch import Watch, following

async def main():
    supervisor = Supervisor(Launch(pack=sys.argv[1]))
    await supervisor.start()
    heavy = [name for name in ("numpy", "llama_cpp", "starlette", "cryptography") if name in sys.modules]
    print(supervisor.state.pid, heavy, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_front_that_dies_leaves_no_orphan_and_loads_no_engine(pack: Path) -> None:
    """Ctrl-C and SIGTERM are the front's; the process ends when the connection does."""
    with subprocess.Popen([sys.executable, "-c", _FRONT, str(pack)], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        pid, _, heavy = front.stdout.readline().partition(" ")
        assert heavy.strip() == "[]"
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(pid), number)
        time.sleep(0.1)
        assert not gone(int(pid))
        front.kill()
        front.wait()
    until = time.monotonic() + WAIT_S
    while not gone(int(pid)):
        assert time.monotonic() < until
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be collected has."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return True


def test_the_engines_process_loads_no_server() -> None:
    """Its memory is the model's."""
    names = ("starlette", "uvicorn", "asyncio", "cryptography")
    code = f"import sys, edgegen.serving.child; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_templates_alone() -> None:
    """Explanations, and nothing else."""
    service = TemplateService()
    assert service.state.ready and not await service.figures()
    assert (await service.explain(Explain(ASKED))).record["source"] == "template"
    for call in (text(service, long()), service.tokenize("x"), service.detokenize([1])):  # type: ignore[arg-type]
        with pytest.raises(EngineError, match="No model is loaded"):
            await call
