"""What a process of its own costs the engine: the same calls in this process and over the socket, in turn, in one run.

    python bench/process.py [--rounds 40] [--threads 1]

Both sides serve the bundled pack. Time is from a call to its end, the best and the median of all rounds; processor time is that
of all processes together, so it holds on a busy machine too. At the end the memory of a front without HTTP and of the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from edgegen import pack
from edgegen.engine.options import SamplingOptions
from edgegen.serving.calls import Complete, Part, Service
from edgegen.serving.launch import Launch
from edgegen.serving.supervisor import Supervisor

HEAD = f"{'':30}{'here, ms':>18}{'over, ms':>18}{'more, ms':>10}{'processor, ms':>16}{'a token, us':>13}"


async def finished(service: Service, tokens: int, n: int, whole: bool) -> None:
    """A completion to its end."""
    options = SamplingOptions(temperature=0, max_new_tokens=tokens)
    call = Complete((Part("The kettle"),), n=n, options=options, ignore_end=True, whole=whole)
    async for _ in service.complete(call):
        pass


def processor_s(pids: list[int]) -> float:
    """Processor time that all threads of some processes have used."""
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text("ascii").split()[0]) for thread in threads) / 1e9


async def measured(work: Callable[[], Awaitable[None]], pids: list[int]) -> tuple[float, float]:
    """Seconds by the clock and of the processors."""
    busy, began = processor_s(pids), time.perf_counter()
    await work()
    return time.perf_counter() - began, processor_s(pids) - busy


async def row(name: str, sides: list[tuple[Service, list[int]]], rounds: int, tokens: int, n: int, whole: bool) -> None:
    """Print one call on both sides."""
    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(rounds):
        for side, (service, pids) in enumerate(sides):
            times[side].append(await measured(lambda service=service: finished(service, tokens, n, whole), pids))
    (here, over), (busy, busier) = ([[round_[i] * 1e3 for round_ in side] for side in times] for i in (0, 1))
    best, processor = min(over) - min(here), min(busier) - min(busy)
    told = [f"{min(side):.2f} / {statistics.median(side):.2f}" for side in (here, over)]
    print(f"{name:30}{told[0]:>18}{told[1]:>18}{best:>10.2f}{processor:>16.2f}{processor * 1e3 / tokens / n:>13.1f}", flush=True)


def memory(pid: int) -> str:
    """Resident and proportional memory of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    found = {key: int(value.split()[0]) / 1024 for key, value in (line.split(":") for line in lines)}
    return f"{found['Rss']:.0f} MB resident, {found['Pss']:.0f} MB its share"


async def compared(rounds: int, threads: int) -> None:
    """Print all of it."""
    supervisor = Supervisor(Launch(pack="bundled", threads=threads))
    await supervisor.start()
    pids = [os.getpid(), supervisor.state.pid or 0]
    print(f"memory: front {memory(pids[0])}; engine {memory(pids[1])}; {supervisor.state.setting}")
    # Only now: a front loads no engine.
    from edgegen.engine import open_engine
    from edgegen.explain import Explainer
    from edgegen.hardware import Setting
    from edgegen.serving.local import LocalService

    with open_engine(pack.load(pack.bundled()).model, setting=Setting(threads)) as engine:
        local = LocalService(Explainer(engine), engine)
        print(HEAD)
        for name, tokens, n, whole in (
            ("1 token", 1, 1, False), ("64 tokens, streamed", 64, 1, False), ("64 tokens, whole", 64, 1, True),
            ("8 x 64 tokens, streamed", 64, 8, False),
        ):  # fmt: skip
            await row(name, [(local, pids[:1]), (supervisor, pids)], rounds, tokens, n, whole)
        local.close()
    await supervisor.drain(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    asyncio.run(compared(asked.rounds, asked.threads))
