"""The engine's process: opens a pack, proves that it generates, then answers the calls that come over a socket.

`python -m edgegen.serving.child FD`, started by `edgegen.serving.process` with a socket as file FD; the first line says what to
open. Ends when the socket closes, whatever it is doing, so that a front that died leaves no orphan. Nothing of a prompt, a fact
or a text is written to stderr.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from edgegen.errors import BusyError, EdgegenError, EngineError, GpuMemoryError, UsageError
from edgegen.serving import messages
from edgegen.serving.calls import State, Written
from edgegen.serving.launch import Launch
from edgegen.serving.messages import SELF
from edgegen.serving.opening import opened
from edgegen.serving.outbox import Outbox
from edgegen.serving.runner import Leave, Runner, Tell

_MOST_OPEN = 1024  # calls; more are answered with BusyError
_CHUNK = 1 << 16
_LAST_WORDS_S = 0.5  # for a thread that is ending to tell its fault


class Desk:
    """The open calls."""

    def __init__(self, runner: Runner, put: Callable[[int, Any, bool], None]) -> None:
        """`put` sends an answer to a call, and is told whether it is urgent: what goes on with a text is not."""
        self._runner, self._put = runner, put
        self._open: dict[int, Leave | None] = {}
        self._begun: set[int] = set()
        self._lock = threading.Lock()

    def take(self, line: bytes) -> None:
        """Begin the call of a line, or leave one. What cannot be read is answered with an error."""
        try:
            raw = json.loads(line)
            id_, name = int(raw["id"]), str(raw["call"])
        except (ValueError, TypeError, LookupError) as error:
            self._put(SELF, messages.malformed(error), True)
            return
        if name == "leave":
            self._leave(id_)
        elif name == "ping":
            self._ping(id_)
        else:
            self._begin(id_, name, raw)

    def _begin(self, id_: int, name: str, raw: dict[str, Any]) -> None:
        with self._lock:
            busy = len(self._open) >= _MOST_OPEN
            if not busy:
                self._open[id_] = None
        if busy:
            self._put(id_, BusyError(f"{_MOST_OPEN} calls are open already. Try again in a few seconds."), True)
            return
        try:
            leave = self._call(name, raw, lambda answer: self._tell(id_, answer))
        except EdgegenError as error:
            self._tell(id_, error)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self._tell(id_, messages.malformed(error))
        else:
            with self._lock:
                if id_ in self._open:
                    self._open[id_] = leave

    def _call(self, name: str, raw: dict[str, Any], tell: Tell) -> Leave | None:
        if name == "complete":
            return self._runner.complete(messages.complete_from_json(raw), tell)
        if name == "explain":
            return self._runner.explain(messages.explain_from_json(raw), tell)
        if name == "tokenize":
            return self._runner.tokenize(raw["text"], raw["special"], tell)
        if name == "detokenize":
            return self._runner.detokenize(raw["ids"], tell)
        if name == "figures":
            tell(self._runner.figures())
            return None
        raise UsageError(f"There is no call {name!r}. Front and engine must be of one version.")

    def _tell(self, id_: int, answer: Any) -> None:
        goes_on = isinstance(answer, Written)
        with self._lock:
            if id_ not in self._open:
                return  # it was left
            urgent = not goes_on or id_ not in self._begun
            if goes_on:
                self._begun.add(id_)
            else:
                self._forget(id_)
        self._put(id_, answer, urgent)

    def _forget(self, id_: int) -> Leave | None:
        self._begun.discard(id_)
        return self._open.pop(id_, None)

    def _leave(self, id_: int) -> None:
        with self._lock:
            leave = self._forget(id_)
        if leave is not None:
            leave()

    def _ping(self, id_: int) -> None:
        # Answered by the engine's thread between two steps: the sign of life that counts.
        try:
            self._runner.engine.post(lambda _: None).add_done_callback(lambda _: self._put(id_, None, True))
        except EngineError:
            time.sleep(_LAST_WORDS_S)  # its own fault says where it was, and ends the process
            _die("the engine's thread has ended")


def _lines(link: socket.socket) -> Iterator[bytes]:
    """What comes in, line by line, as long as the connection stands."""
    cut = messages.Lines()
    with suppress(OSError, ValueError):
        while data := link.recv(_CHUNK):
            yield from cut.feed(data)


def _guard(link: socket.socket) -> None:
    """End with the front while the pack is being opened: nothing but the end can come before `ready` is said."""
    if not link.recv(1, socket.MSG_PEEK):
        os._exit(0)


def main(handle: int, opened: Callable[[Launch, Callable[[str], object]], tuple[Runner, State]] = opened) -> NoReturn:
    """Open what the first line says and serve until the connection ends."""
    _be_a_child()
    link = socket.socket(fileno=handle)
    lines = _lines(link)
    first = next(lines, None)
    if first is None:
        os._exit(0)
    threading.Thread(target=_guard, args=(link,), daemon=True).start()
    outbox = Outbox(link)
    try:
        runner, state = opened(messages.launch_from_json(json.loads(first)), _say)
    except EdgegenError as error:
        link.sendall(messages.line([SELF, "failed", messages.error_to_json(error)]))
        os._exit(error.exit_code)
    link.sendall(messages.line([SELF, "ready", messages.state_to_json(replace(state, pid=os.getpid()))]))
    desk = Desk(runner, outbox.put)
    for line in lines:
        desk.take(line)
    os._exit(0)


def _be_a_child() -> None:
    """Leave Ctrl-C and SIGTERM to the front, which ends this process by the socket; be what goes first where memory is short.

    A fault is told by where it is, never by what was being written; one in a thread ends the process, for calls would wait.
    """
    faulthandler.enable()
    os.environ["GGML_NO_BACKTRACE"] = "1"  # would start a debugger, which shows arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = lambda kind, _, trace: _die(_fault(kind, trace))
    threading.excepthook = _end_of_thread
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")


def _end_of_thread(args: threading.ExceptHookArgs) -> NoReturn:
    if issubclass(args.exc_type, GpuMemoryError):
        _die(str(args.exc_value), messages.NO_GPU_MEMORY)
    _die(_fault(args.exc_type, args.exc_traceback))


def _fault(kind: type[BaseException], trace: TracebackType | None) -> str:
    where = traceback.extract_tb(trace)[-4:]
    return f"{kind.__name__} at " + ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in where)


def _say(text: str) -> None:
    sys.stderr.write(f"edgegen's engine: {text}\n")


def _die(why: str, code: int = 1) -> NoReturn:
    _say(why)
    os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
