"""A front's side of one process of the engine: starts it, sends calls, hands answers over, notices its end, ends it.

Runs in one event loop. Knows no packs and no policy of restarts; that is `supervisor`'s.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from edgegen.errors import EdgegenError, EngineError
from edgegen.serving import messages
from edgegen.serving.calls import Ended, State, Written
from edgegen.serving.launch import Launch, Policy
from edgegen.serving.messages import SELF

COMMAND = (sys.executable, "-m", "edgegen.serving.child")
_FAULTS = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS"})
_EXIT_S = 2.0  # for a process whose connection has ended to be gone by itself


class GoneError(EngineError):
    """The process died or was ended while the call was open. Never leaves this package."""


class StartError(EngineError):
    """The process died before it was ready, or took too long: `end` says how."""

    def __init__(self, message: str, end: End) -> None:
        super().__init__(message)
        self.end = end


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended."""

    why: str
    crashed: bool = False
    """A safer setting may cure it."""
    fault: bool = False
    """Native code was at fault: the setting is not taken again."""
    hung: bool = False
    """It was ended because it made no step: what it was asked may have been the reason."""
    wanted: bool = False
    """Nobody needed it any more."""


class Process(asyncio.Protocol):
    """One process, from its start to its end."""

    def __init__(self, process: subprocess.Popen[bytes], policy: Policy) -> None:
        """Made by `start`."""
        loop = asyncio.get_running_loop()
        self._process, self._policy, self._lines = process, policy, messages.Lines()
        self._transport: asyncio.Transport | None = None
        self._open: dict[int, Callable[[Any], None]] = {}
        self._next = SELF
        self._ping: int | None = None  # the sign of life that is waited for
        self._silent = 0  # ticks without it
        self._end: End | None = None  # where it is ended by us
        self._idle = asyncio.Event()
        self._idle.set()
        self._said: asyncio.Future[State] = loop.create_future()
        self._said.add_done_callback(lambda said: said.cancelled() or said.exception())  # nobody may wait any more
        self._ended: asyncio.Future[End] = loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, launch: Launch, policy: Policy, command: Sequence[str] = COMMAND) -> Self:
        """A process that is ready. Raises the error that it tells, or StartError; then there is none."""
        ours, theirs = socket.socketpair()
        with theirs:
            one = cls(_spawned([*command, str(theirs.fileno())], theirs.fileno()), policy)
        try:
            ours.setblocking(False)
            await asyncio.get_running_loop().create_connection(lambda: one, sock=ours)
            one._send(messages.launch_to_json(launch))
            await asyncio.wait_for(asyncio.shield(one._said), policy.start_s)
        except TimeoutError:
            await one.kill("it was not ready in time", crashed=True)
            raise StartError(f"The engine's process was not ready after {policy.start_s:g} s.", await one.ended()) from None
        except BaseException:
            await one.kill("it could not start")
            raise
        one._watch = one._run(one._watch_over())
        return one

    @property
    def state(self) -> State:
        """What it said when it was ready."""
        return self._said.result()

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def stuck(self) -> bool:
        """Whether it has calls and has made no step for a while."""
        return self._silent * self._policy.tick_s >= self._policy.stuck_s

    async def ask(self, call: Mapping[str, Any]) -> Any:
        """The one answer to a call. Raises the error that is answered, or GoneError."""
        stream = self.stream(call)
        try:
            return await anext(stream)
        finally:
            await stream.aclose()

    async def stream(self, call: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The answers to a completion, the last one Ended. Raises the error that is answered, or GoneError."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        id_ = self._begin(call, queue.put_nowait)
        try:
            item: Any = None
            while not isinstance(item, Ended):
                item = await queue.get()
                if isinstance(item, EdgegenError):
                    raise item
                yield item
        finally:
            self._leave(id_)

    def _begin(self, call: Mapping[str, Any], put: Callable[[Any], None]) -> int:
        if not self.alive:
            raise GoneError("The engine's process has ended.")
        id_ = self._number()
        self._open[id_] = put
        self._idle.clear()
        self._send({"id": id_, **call})
        return id_

    def _leave(self, id_: int) -> None:
        """Forget a call; the process is told where it is still at it."""
        if self._open.pop(id_, None) is not None and self.alive:
            self._send({"id": id_, "call": "leave"})
        if not self._open:
            self._idle.set()

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _send(self, value: Any) -> None:
        assert self._transport is not None  # noqa: S101 - connected in start
        self._transport.write(messages.line(value))

    async def _watch_over(self) -> None:
        """Ask for a sign of life while there are calls, and end a process that gives none.

        Counts its own ticks: after the machine, or this loop, has slept, a clock would have run on.
        """
        while self.alive:
            await asyncio.sleep(self._policy.tick_s)
            self._silent += self._ping is not None
            if self._silent * self._policy.tick_s >= self._policy.hang_s:
                await self.kill(f"it made no step for {self._policy.hang_s:g} s", hung=True)
            elif self._ping is None and self._open and self.alive:
                self._ping = self._number()
                self._send({"id": self._ping, "call": "ping"})

    async def finish(self, limit_s: float) -> None:
        """Let it come to the end of its calls, for so many seconds, and end it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit_s)
        if self._open:
            await self.kill(f"its calls were not over after {limit_s:g} s")
        elif self._transport is not None:
            self._end = self._end or (End("it was not needed any more", wanted=True) if self.alive else None)
            self._transport.close()
        await self.ended()

    async def kill(self, why: str, *, crashed: bool = False, hung: bool = False) -> None:
        """End it at once; open calls fail with GoneError."""
        self._end = self._end or End(why, crashed, hung=hung)
        self._process.kill()
        if self._transport is not None:
            self._transport.abort()
        else:
            self.connection_lost(None)
        await self.ended()

    async def ended(self) -> End:
        """Wait until it is gone."""
        return await asyncio.shield(self._ended)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is a socket's
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand answers over to the calls that wait for them."""
        try:
            for line in self._lines.feed(data):
                self._take(*json.loads(line))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self._run(self.kill(f"it sent what is no answer: {type(error).__name__}"))

    def _take(self, id_: int, kind: str, data: Any) -> None:
        if id_ == self._ping:
            self._ping, self._silent = None, 0
        elif id_ == SELF:
            self._hear(kind, data)
        elif (put := self._open.get(id_)) is not None:
            answer = messages.answer_from_json(kind, data)
            if not isinstance(answer, Written):
                del self._open[id_]
            put(answer)

    def _hear(self, kind: str, data: Any) -> None:
        if self._said.done():
            return
        if kind == "ready":
            self._said.set_result(messages.state_from_json(data))
        elif kind == "failed":
            self._said.set_exception(messages.error_from_json(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is dead or dying: no call waits any longer."""
        del exc
        waiting, self._open = self._open, {}
        for put in waiting.values():
            put(GoneError("The engine's process died."))
        self._idle.set()
        if self._watch is not None:
            self._watch.cancel()
        self._run(self._reap())

    async def _reap(self) -> None:
        try:
            code = await asyncio.to_thread(self._process.wait, _EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = await asyncio.to_thread(self._process.wait)
        end = self._end or _ending(code)
        if not self._said.done():
            end = replace(end, crashed=end.crashed or code >= 0)
            self._said.set_exception(StartError(f"The engine's process died before it was ready: {end.why}.", end))
        if not self._ended.done():
            self._ended.set_result(end)


def _spawned(command: Sequence[str], handle: int) -> subprocess.Popen[bytes]:
    """A process with a file handle of ours, in a group of its own, so that Ctrl-C in a terminal does not reach it."""
    try:
        return subprocess.Popen(  # noqa: S603 - our own module
            command, pass_fds=[handle], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
        )
    except OSError as error:
        why = f"The engine's process cannot be started: {error}. Free some memory."
        raise StartError(why, End(str(error))) from error


def _ending(code: int) -> End:
    if code == messages.NO_GPU_MEMORY:
        return End("the GPU had no memory left", crashed=True)
    if code >= 0:
        return End(f"it ended with code {code}")
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    fault = name in _FAULTS
    return End(f"it was ended by {name}" + ", as happens where memory is short" * (name == "SIGKILL"), fault, fault)
