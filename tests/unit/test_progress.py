"""The progress display: what a log is told, what a terminal shows, and the time that is left, by a clock that the test moves."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from edgegen.progress import Display, spell


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def log(clock: Clock) -> tuple[Display, io.StringIO]:
    """A display whose console is a file."""
    file = io.StringIO()
    return Display(Console(file=file, width=40), clock), file


def test_a_log_is_told_what_is_new() -> None:
    """A line for a new note, one once in a while where the same goes on, one at the end; the pace gives the time left."""
    clock = Clock()
    display, file = log(clock)
    with display:
        tell = display.stage("[2/5] tune")
        for step, note in ((100, "loss 2.1"), (110, "loss 2.0"), (111, "loss 2.0"), (120, "loss 1.9"), (400, "loss 1.2")):
            tell("step", step, 400, note)
            clock.now += 5
        tell("merge", 0, 1)
        display.say("[2/5] tune: loss 1.2 on pairs held out")
    assert file.getvalue().splitlines() == [
        "[2/5] tune: step 100 of 400, loss 2.1",
        "[2/5] tune: step 110 of 400, loss 2.0, about 2 min left",
        "[2/5] tune: step 120 of 400, loss 1.9, about 4 min left",
        "[2/5] tune: step 400 of 400, loss 1.2",
        "[2/5] tune: merge",
        "[2/5] tune: loss 1.2 on pairs held out",
    ]


def test_what_goes_on_is_told_once_in_a_while() -> None:
    """Of a hundred pieces, one every ten seconds and the last."""
    clock = Clock()
    display, file = log(clock)
    tell = display.stage("convert")
    for done in range(101):
        tell("compare", done, 100)
        clock.now += 1
    lines = file.getvalue().splitlines()
    assert len(lines) == 11 and lines[1] == "convert: compare 10 of 100, about 2 min left"


def test_a_terminal_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn over; what others write to stderr meanwhile stands above it."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    console = Console(file=file, force_terminal=True, width=50, legacy_windows=False)
    with Display(console, Clock()) as display:
        tell = display.stage("[1/2] write")
        tell("page", 1, 900)
        sys.stderr.write("something else\n")
        tell("page", 2, 900, "a note that is longer than the terminal is wide")
    shown = file.getvalue()
    assert shown.index("page 1 of 900") < shown.index("something else") < shown.index("page 2 of 900")
    assert "\x1b[2K" in shown and "…" in shown and "is wide" not in shown


def test_what_is_finished_is_told_once() -> None:
    """A piece of work that says so in its own way and in its caller's is not told twice."""
    clock = Clock()
    display, file = log(clock)
    tell = display.stage("convert")
    for what, done, total in (("write", 0, 1), ("write", 28, 28), ("write", 1, 1), ("pack", 0, 1), ("pack", 1, 1)):
        tell(what, done, total)
        clock.now += 60
    assert file.getvalue().splitlines() == ["convert: write", "convert: pack"]


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (89, "89 s"), (150, "2 min"), (9000, "2.5 h")])
def test_times_have_the_unit_that_suits_them(seconds: float, said: str) -> None:
    """Nobody counts thousands of seconds."""
    assert spell(seconds) == said
