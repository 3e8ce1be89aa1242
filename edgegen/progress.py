"""How far a long piece of work has come: one line that changes on a terminal, a line an update in a log. Knows no work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

_PAUSE_S = 10.0  # a log hears no more often that the same goes on


class Progress(Protocol):
    """Is told what is being done, how much of it is done, of how much, and what else there is to say."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> None:
        """Once in a while."""


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Progress that nobody watches."""


def plain(what: str, done: int, total: int, note: str = "") -> None:
    """A line on stderr, each time."""
    sys.stderr.write(f"{_count(what, done, total)}: {note}\n")


class Display:
    """Shows the progress of stages on a console, with the time that is left."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`console` is stderr by default; `clock` counts seconds."""
        self._console, self._clock = console or Console(stderr=True), clock
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()  # what others write to stderr stands above the line from now on
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.update("")
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stage(self, label: str) -> Progress:
        """The progress of a stage; every line of it begins with `label`."""
        return _Stage(label, self._show, self._clock)

    def _show(self, line: str, due: bool) -> None:
        if self._live is not None:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif due:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Stage:
    """One stage: since when it has done what, and what was said of it last."""

    def __init__(self, label: str, show: Callable[[str, bool], None], clock: Callable[[], float]) -> None:
        self._label, self._show, self._clock = label, show, clock
        self._what, self._note, self._finished = "", "", False
        self._start, self._from, self._said = 0.0, 0, 0.0

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show it; a log hears what is new, once that it is finished, and once in a while that the same goes on."""
        now, new = self._clock(), what != self._what
        if new:
            self._start, self._from, self._finished = now, done, total == 1  # of one piece there is no more to say
        ends = done == total and not self._finished
        due = new or note != self._note or ends or (done < total and now - self._said >= _PAUSE_S)
        self._finished |= ends
        self._what, self._note, self._said = what, note, now if due else self._said
        parts = [_count(what, done, total), note, self._left(done, total, now)]
        self._show(f"{self._label}: {', '.join(filter(None, parts))}", due)

    def _left(self, done: int, total: int, now: float) -> str:
        """The time that is left at the pace so far; nothing where no pace is known yet."""
        if not self._from < done < total or now <= self._start:
            return ""
        return f"about {spell((now - self._start) / (done - self._from) * (total - done))} left"


def spell(seconds: float) -> str:
    """A time in the unit that suits it: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _count(what: str, done: int, total: int) -> str:
    return what if total == 1 else f"{what} {done} of {total}"
