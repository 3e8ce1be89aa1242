"""Sends a process's answers from a thread of its own, several at one go where that makes nobody wait who would notice."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from edgegen.serving import messages
from edgegen.serving.calls import Written

_GAP_S = 0.016  # between two pieces of a text: a screen's picture; each wake takes a core from threads that wait for each other


class Outbox:
    """Sends what is urgent at once, and with it all that has come by then; the rest after a gap at most."""

    def __init__(self, link: socket.socket, gap_s: float = _GAP_S) -> None:
        """Starts the thread, which ends the process when nobody listens any more."""
        self._link, self._gap_s = link, gap_s
        self._waiting, self._wake, self._idle = deque[tuple[int, Any]](), threading.Event(), True
        threading.Thread(target=self._main, name="edgegen-outbox", daemon=True).start()

    def put(self, id_: int, answer: Any, urgent: bool = True) -> None:
        """Queue an answer. Never waits."""
        self._waiting.append((id_, answer))
        if urgent or self._idle:
            self._wake.set()

    def _main(self) -> None:
        while True:
            self._idle = True  # before the look, so that what comes after the look wakes this thread
            if not self._waiting:
                self._wake.wait()
            self._idle = False
            self._wake.clear()
            together = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                self._link.sendall(b"".join(messages.line([id_, *messages.answer_to_json(one)]) for id_, one in joined(together)))
            except OSError:
                os._exit(0)  # the front is gone
            self._wake.wait(self._gap_s)


def joined(answers: Iterable[tuple[int, Any]]) -> Iterable[tuple[int, Any]]:
    """The same answers, with all that is new of one text in one piece, where the first of it stands."""
    found: dict[tuple[int, int], tuple[int, Any]] = {}
    for number, (id_, answer) in enumerate(answers):
        if not isinstance(answer, Written):
            found[-1, number] = id_, answer
            continue
        _, before = found.get((id_, answer.index), (id_, Written(answer.index, "")))
        found[id_, answer.index] = id_, Written(answer.index, before.text + answer.text, before.tokens + answer.tokens)
    return found.values()
