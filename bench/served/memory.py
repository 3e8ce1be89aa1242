"""What a process and its children hold, as Linux tells it. Knows no server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Held:
    """MiB, threads and open files of a process and all that it started.

    `pss` counts a page that several processes share in parts, `rss` once for each.
    """

    pss: float
    rss: float
    threads: int
    files: int


def tree(pid: int) -> list[int]:
    """A process and its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            parent = int(entry.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def held(pid: int) -> Held:
    """What the tree of a process holds now; what ends meanwhile counts as nothing."""
    pss = rss = threads = files = 0
    for one in tree(pid):
        with suppress(OSError, IndexError):
            text = Path(f"/proc/{one}/smaps_rollup").read_text("ascii", "replace")
            sizes = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
            pss, rss = pss + int(sizes["Pss"]), rss + int(sizes["Rss"])
            threads += sum(1 for _ in Path(f"/proc/{one}/task").iterdir())
            files += sum(1 for _ in Path(f"/proc/{one}/fd").iterdir())
    return Held(pss / 1024, rss / 1024, threads, files)


def processor_s(pid: int) -> float:
    """Processor seconds that the tree of a process has used."""
    ticks = 0
    for one in tree(pid):
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{one}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Peak:
    """The highest that was seen, MiB, and processor seconds from begin to end."""

    pss: float = 0.0
    rss: float = 0.0
    cpu: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Look at a tree four times a second."""
    peak = Peak()

    def look() -> None:
        while True:
            now = held(pid)
            peak.pss, peak.rss = max(peak.pss, now.pss), max(peak.rss, now.rss)
            if peak._stop.wait(_EVERY_S):
                return

    thread = threading.Thread(target=look)
    thread.start()
    before = processor_s(pid)
    try:
        yield peak
    finally:
        peak.cpu = processor_s(pid) - before
        peak._stop.set()
        thread.join()
