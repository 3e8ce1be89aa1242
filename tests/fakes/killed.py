"""Installs and activates a pack and kills itself at a chosen step: `python -m tests.fakes.killed PACK STEP`.

A step is a call that opens, makes, renames or removes something, one that brings a file to the disk, and each piece that
is copied. Prints the number of steps where it was not killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from edgegen import folders
from edgegen.pack import source, trust
from edgegen.pack.archive import Place
from edgegen.pack.installed import Installed

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock")


def main(path: Path, stop: int) -> int:
    """Run up to a step; 0 runs to the end."""
    trust.keys(folders.data() / "trust")  # imports what is needed, so that the steps are those of the installation
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, read = os.fsync, source._read

    def synced(handle: int) -> None:
        step()
        fsync(handle)

    def pieces(place: Place) -> Iterator[bytes]:
        for chunk in read(place):
            step()
            yield chunk

    os.fsync, source._read, source._CHUNK = synced, pieces, 1 << 17  # type: ignore[assignment]
    sys.addaudithook(lambda event, _: step() if event in EVENTS else None)
    installed = Installed(try_model=lambda _: None)
    made = installed.install(path)
    installed.activate(made.manifest.label)
    return steps


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]), int(sys.argv[2]))}\n")
