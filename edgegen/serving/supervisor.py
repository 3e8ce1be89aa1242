"""The service over an engine in a process of its own, which may die: restarts it, and answers from templates meanwhile.

Owns which process is the current one, how the next is started, and the switch from one pack to another. A pack becomes current
only after a real generation with it; calls stay with the process that they began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from os import PathLike
from typing import Any

from edgegen.errors import EdgegenError, EngineError, MissingExtraError, NotFoundError, PackError, UnavailableError, UsageError
from edgegen.serving import messages
from edgegen.serving.calls import Complete, Ended, Explain, Explained, State, Written
from edgegen.serving.launch import Launch, Policy
from edgegen.serving.process import COMMAND, End, GoneError, Process, StartError
from edgegen.serving.templates import explained

LOG = logging.getLogger(__name__)
_FIGURES_S = 2.0  # for the engine to tell its figures
_START_S = 2.0  # that a start may take, until one is known
_HOPELESS = (PackError, NotFoundError, UsageError, MissingExtraError)
"""What no restart cures."""


_COUNTS = (
    "engine_restarts_total", "engine_deaths_total", "explanations_without_engine_total", "pack_switches_total",
    "pack_switches_failed_total",
)  # fmt: skip


class Supervisor:
    """Implements `calls.Service`. To be started once, and closed by `drain`."""

    def __init__(self, launch: Launch, policy: Policy | None = None, command: Sequence[str] = COMMAND) -> None:
        """Starts nothing yet. `command` starts a process; the number of its socket becomes the last argument."""
        self._launch = self._proven = launch  # what is asked for, and what a process is started with after one died
        self._policy, self._command = policy or Policy(), command
        self._current: Process | None = None
        self._known = State(False, "The engine is starting")
        self._changed, self._switching = asyncio.Condition(), asyncio.Lock()
        self._revival: asyncio.Task[None] | None = None
        self._starts: set[asyncio.Task[Process]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._processes: set[Process] = set()
        self._closing = False
        self._next_s, self._took_s = 0.0, _START_S
        self._deaths, self._caution, self._since_s = 0, 0, 0.0
        self._faulted: tuple[int, ...] = ()
        self.counts = Counter[str](dict.fromkeys(_COUNTS, 0))

    @property
    def state(self) -> State:
        """What answers at the moment."""
        process, restarts = self._usable(), self.counts["engine_restarts_total"]
        if process is not None and not self._closing:
            return replace(process.state, restarts=restarts)
        pid = process.state.pid if (process := self._current) and process.alive else None
        return replace(self._known, ready=False, why=self._why(), restarts=restarts, pid=pid, retry_s=self._retry_s())

    def _retry_s(self) -> float:
        """In how many seconds the next process may be there: after the pause, and what the last one took to start."""
        return max(self._next_s - asyncio.get_running_loop().time(), 1.0)

    def _usable(self) -> Process | None:
        process = self._current
        return process if process is not None and process.alive and not process.stuck else None

    def _why(self) -> str:
        if self._closing:
            return "The server is stopping"
        if self._current is not None and self._current.alive and self._current.stuck:
            return "The engine makes no step"
        return self._known.why or "The engine has just died"

    async def start(self) -> None:
        """Start the engine and wait for it. Raises what no restart cures; after a crash returns, and goes on trying."""
        async with self._switching:
            try:
                await self._install(self._launch)
            except _HOPELESS as error:
                self._known = State(False, str(error).rstrip("."))
                raise
            except EngineError as error:
                self._fail(str(error), _end(error))
                self._revive()

    async def up(self) -> None:
        """`start`, and wait until there is an engine that has generated. Raises what no restart cures."""
        await self.start()
        async with self._changed:
            await self._changed.wait_for(lambda: self._usable() is not None)

    async def explain(self, call: Explain) -> Explained:
        """A checked text; from the template where the engine is not there, dies, or does not answer in time."""
        self._refuse_if_closing()
        process, why = self._usable(), self._why()
        if process is not None:
            try:
                async with asyncio.timeout(call.options.deadline_s + self._policy.grace_s):
                    answer: Explained = await process.ask(messages.explain_to_json(call))
                    return answer
            except GoneError:
                why = "The engine died while it wrote"
            except TimeoutError:
                why = "The engine did not answer in time"
        self.counts["explanations_without_engine_total"] += 1
        return await explained(call, why)

    def complete(self, call: Complete) -> AsyncGenerator[Written | Ended, None]:
        """The texts as they are written. A call whose process dies before anything is written goes to the next one, once.

        Not so where the process hung: it may have been for this call, and the next one would hang too. And only to one with the
        same pack and setting: ids, biases and chat template are of the old one, and the answer names who writes.
        """
        return self._complete(call, self._usable())

    async def _complete(self, call: Complete, process: Process | None) -> AsyncGenerator[Written | Ended, None]:
        self._refuse_if_closing()
        if process is None:
            raise self._unavailable()
        begun, last = False, False
        while True:
            try:
                async with aclosing(process.stream(messages.complete_to_json(call))) as stream:
                    async for item in stream:
                        begun = True
                        yield item
                return
            except GoneError:
                if (await process.ended()).hung:
                    raise EngineError("The engine hung while it had this call, which is not sent to it again.") from None
                if begun or last:
                    raise EngineError("The engine died while it wrote. Try again in a few seconds.") from None
            process, last = await self._successor(process, call), True

    async def _successor(self, dead: Process, call: Complete) -> Process:
        """The process after one that died, if it comes in time. Raises UnavailableError."""

        def there() -> bool:
            return self._usable() not in (None, dead)

        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._policy.retry_s, call.deadline_s or self._policy.retry_s)), self._changed:
                await self._changed.wait_for(there)
        if (process := self._usable()) is None or process is dead:
            raise self._unavailable()
        if process.state.writer != dead.state.writer:
            raise UnavailableError("The engine died, and another pack or setting took its place. Try again.")
        return process

    async def tokenize(self, text: str, *, special: bool = False) -> list[tuple[int, str]]:
        """Tokens of a text."""
        return [(id_, piece) for id_, piece in await self._ask({"call": "tokenize", "text": text, "special": special})]

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        answer: str = await self._ask({"call": "detokenize", "ids": list(ids)})
        return answer

    async def figures(self) -> Mapping[str, float]:
        """Counters and gauges: the supervisor's, and the engine's where it answers."""
        state = self.state
        own = {"engine_up": float(state.ready), "engine_pid": float(state.pid or 0), **self.counts}
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_FIGURES_S):
                return {**await self._ask({"call": "figures"}), **own}
        return own

    async def _ask(self, call: Mapping[str, Any]) -> Any:
        if (process := self._usable()) is None:
            raise self._unavailable()
        try:
            return await process.ask(call)
        except GoneError:
            raise self._unavailable() from None

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise self._unavailable()

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(f"{self._why()}. Try again in a few seconds.", retry_s=self._retry_s())

    async def switch(self, pack: str | PathLike[str] | None = None) -> None:
        """Serve another pack from now on: what is open ends with the old one, what comes goes to the new one.

        None opens the same one anew.

        Raises why the new one cannot be used (PackError, NotFoundError, EngineError, ...); then nothing has changed.
        """
        async with self._switching:
            self._refuse_if_closing()
            launch = replace(self._launch, pack=str(pack), model=None) if pack else self._launch
            try:
                await self._install(launch)
            except asyncio.CancelledError:
                self._refuse_if_closing()
                raise
            except EdgegenError as error:
                self.counts["pack_switches_failed_total"] += 1
                LOG.error("%s is not used, what was served before still is: %s", launch.what, error)
                raise
            self._launch, self._deaths, self._faulted = launch, 0, ()
            if self._revival is not None:
                self._revival.cancel()
            self.counts["pack_switches_total"] += 1
            LOG.warning("pack %s is served now", self.state.pack and self.state.pack["label"])

    async def _install(self, launch: Launch) -> None:
        """Start a process, make it the current one once it is ready, and let the one before finish. Raises why it cannot."""
        began = asyncio.get_running_loop().time()
        self._next_s = began + self._took_s
        start = asyncio.create_task(Process.start(launch, self._policy, self._command))
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)
        try:
            process = await start
        except asyncio.CancelledError:
            start.cancel()
            await asyncio.wait([start])
            if not start.cancelled() and start.exception() is None:
                await start.result().kill("it is not wanted any more")
            raise
        self._processes.add(process)
        self._run(self._mourn(process))
        old, self._current = self._current, process
        self._known, self._since_s = process.state, asyncio.get_running_loop().time()
        self._took_s = self._since_s - began
        self._caution = process.state.caution
        # What has worked is what comes back, whichever pack is active by then.
        path = (process.state.pack or {}).get("path")
        self._proven = launch if launch.model else replace(launch, pack=path)
        async with self._changed:
            self._changed.notify_all()
        if old is not None:
            self._run(old.finish(self._policy.retire_s))

    async def _mourn(self, process: Process) -> None:
        """When a process ends that was the current one: say so, and start the next."""
        end = await process.ended()
        self._processes.discard(process)
        if self._closing:
            return
        if process is not self._current:
            if not end.wanted:
                self.counts["engine_deaths_total"] += 1
                LOG.error("the engine that was replaced died, its calls end with an error: %s", end.why)
            return
        self._current = None
        if asyncio.get_running_loop().time() - self._since_s >= self._policy.good_s:
            self._deaths = 0
        self._fail(f"The engine died: {end.why}", end)
        self._revive()

    def _fail(self, why: str, end: End) -> None:
        """Note a death. What crashed is started with a safer setting; a kill from outside says nothing about the setting.

        Nor does a hang: what is asked may make a process hang, and must not cost the machine its best setting.
        """
        self._deaths += 1
        self._next_s = asyncio.get_running_loop().time() + self._policy.pause_s(self._deaths) + self._took_s
        self._faulted += (self._caution,) * end.fault
        self._caution += end.crashed
        self.counts["engine_deaths_total"] += 1
        self._known = replace(self._known, ready=False, why=why.rstrip("."))
        LOG.error("%s. Explanations come from templates until it is back", why.rstrip("."))

    def _revive(self) -> None:
        self._revival = asyncio.get_running_loop().create_task(self._bring_back())

    async def _bring_back(self) -> None:
        while True:
            await asyncio.sleep(self._policy.pause_s(self._deaths))
            try:
                await self._install(replace(self._proven, caution=self._caution, faulted=self._faulted))
            except _HOPELESS as error:
                self._fail(f"The engine cannot start: {error}", End(str(error)))
                self._proven = self._launch  # the folder that it was in may be gone
            except EngineError as error:
                self._fail(str(error), _end(error))
            else:
                self.counts["engine_restarts_total"] += 1
                LOG.warning("the engine is back at attempt %d: %s", self._deaths, self._known.setting)
                return

    async def drain(self, limit_s: float) -> None:
        """Take no more calls, let the open ones end within so many seconds, and end every process. May be called again."""
        self._closing = True
        for task in filter(None, (self._revival, *self._starts)):
            task.cancel()
            await asyncio.wait([task])
        await asyncio.gather(*(process.finish(limit_s) for process in self._processes))
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _end(error: EngineError) -> End:
    """How a start ended."""
    return error.end if isinstance(error, StartError) else End(str(error), crashed=True)
