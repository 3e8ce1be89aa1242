"""A server process on a service that writes words at its own pace; for what only a real connection shows.

`python -m tests.fakes.served DRAIN_S [LIMIT=VALUE ...]`: a prompt is `COUNT SIZE PAUSE_S`, and so many pieces of that size are
written with that pause. Says on stdout where it is, then `whole` or `left` for each text.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from types import FrameType

from edgegen.server import Limits, Settings, listening, make_app
from edgegen.serving.calls import Complete, Ended, State, Written
from edgegen.serving.templates import TemplateService


class Paced(TemplateService):
    """Writes what the prompt says."""

    @property
    def state(self) -> State:
        """Of a model."""
        return State(True, pack={"name": "paced", "label": "paced"}, n_ctx=4096, n_vocab=300, most_texts=4)

    def complete(self, call: Complete) -> AsyncGenerator[Written | Ended, None]:
        """Pieces of a size, with a pause after each."""
        count, size, pause_s = call.prompt[0].text.split()
        return _paced(int(count), int(size), float(pause_s))


async def _paced(count: int, size: int, pause_s: float) -> AsyncGenerator[Written | Ended, None]:
    how = "left"
    try:
        for _ in range(count):
            yield Written(0, "w" * size)
            await asyncio.sleep(pause_s)
        yield Ended(("stop",), 1, count)
        how = "whole"
    finally:
        _say(how)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _main(drain_s: float, pairs: list[str]) -> None:
    limits = Limits.parsed(pairs)
    with listening.bound("127.0.0.1", 0) as listener:
        app = make_app(Paced(), settings=Settings(limits))
        await listening.serve(app, listener, limits, drain_s, lambda: _say(str(listener.getsockname()[1])), _up)


async def _up() -> None:
    """Nothing is waited for."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    asyncio.run(_main(float(sys.argv[1]), sys.argv[2:]))
