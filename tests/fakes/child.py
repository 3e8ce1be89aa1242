"""The engine's process with a fake model, that starts fast and fails as it is told: `python -m tests.fakes.child FD`.

The name of the pack says what it does: `bad` is refused, `crash` dies before it is ready, `slow` never is; `hang` stops in
its first step, `faulty` fails there, `gpu` too until it has a safer setting; `flaky:FILE` dies at its start until FILE has three
lines. All others write their name; `NAME:DIGEST` are further packs of that name.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgegen.engine.backend import Batch, Logits
from edgegen.engine.loop import Engine
from edgegen.errors import GpuMemoryError, PackError
from edgegen.explain import Explainer
from edgegen.hardware import Setting, ladder
from edgegen.serving.calls import State
from edgegen.serving.child import main
from edgegen.serving.launch import Launch
from edgegen.serving.runner import Runner, describe
from tests.fakes.backend import FakeBackend, scripted

STEP_S = 0.001
LENGTH = 40
"""Characters of a whole text."""


class Paced(FakeBackend):
    """A fake that takes its time for a step, or for ever."""

    def __init__(self, name: str) -> None:
        """Writes its name over and over."""
        super().__init__(scripted((name + " ") * LENGTH), n_cells=2048)
        self._name = name

    def decode(self, batch: Batch) -> Logits:
        """Wait, then decode."""
        time.sleep(3600 if self._name == "hang" else STEP_S)
        assert self._name != "faulty", "a secret prompt"
        if self._name == "full":
            raise GpuMemoryError("The GPU has no memory left.")
        return super().decode(batch)


def opened(launch: Launch, say: Callable[[str], object]) -> tuple[Runner, State]:
    """What the pack's name says."""
    name, _, file = (launch.pack or "steady").partition(":")
    if name == "bad":
        raise PackError("The pack is bad.")
    if name == "slow":
        time.sleep(3600)
    if name == "crash" or (name == "flaky" and _died(Path(file))):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    engine = Engine(lambda: Paced("full" if name == "gpu" and not launch.caution else name))
    info = {"name": name, "label": f"{name}@1", "version": "1", "languages": ["en", "zh"], "path": launch.pack, "digest": file}
    rungs = ladder(Path("none"), Setting(threads=2, repacked=True))
    at = min(launch.caution, len(rungs) - 1)
    state = describe(engine, info, explains=True, setting=str(rungs[at]), caution=at)
    return Runner(Explainer(engine), engine, f"{name}@1"), state


def _died(file: Path) -> bool:
    lines = file.read_text("ascii") if file.exists() else ""
    file.write_text(lines + ".\n", "ascii")
    return lines.count("\n") < 3


if __name__ == "__main__":
    main(int(sys.argv[1]), opened)
