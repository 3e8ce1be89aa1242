"""What a command costs, and steps one after another."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_LAUNCH = Path(__file__).parent / "launch.py"


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall and processor seconds, peak memory in MiB (VmHWM as the kernel reports it for the child)."""

    seconds: float
    cpu: float
    peak: float

    def __add__(self, other: Cost) -> Cost:
        """The cost of one after the other."""
        return Cost(self.seconds + other.seconds, self.cpu + other.cpu, max(self.peak, other.peak))


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ran: its cost, exit status (negative: a signal) and what it said."""

    cost: Cost
    code: int
    said: str

    @property
    def last(self) -> str:
        """The last line that says something."""
        return next((line.strip() for line in reversed(self.said.splitlines()) if line.strip()), "nothing said")


def run(*command: str | Path) -> Done:
    """Run a command in a fresh process."""
    with tempfile.NamedTemporaryFile() as log:
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), log.name, *map(str, command)]
        found = json.loads(subprocess.run(launch, capture_output=True, text=True, check=True).stdout)  # noqa: S603 - ours
        said = Path(log.name).read_text("utf-8", "replace")
    return Done(Cost(found["seconds"], found["cpu"], found["peak"]), found["code"], said)


def must(*command: str | Path) -> Cost:
    """The cost of a command that has to succeed. Raises RuntimeError with what it said."""
    done = run(*command)
    if done.code:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} ... ended with {done.code}:\n{done.said[-2000:]}")
    return done.cost


def middle(costs: list[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(median(c.seconds for c in costs), median(c.cpu for c in costs), median(c.peak for c in costs))
