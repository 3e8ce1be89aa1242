"""`edgegen serve` for long at twice its capacity, with clients that leave and clients that read slowly; then its engine killed.

    python bench/soak.py [--minutes 20] [--clients 128] [--kills 20] [--seed 7]

Every accepted request must end exactly once, every refusal must say when to come again; memory, threads and open files are
looked at while nothing is asked, after the warm-up and at the end. Then the engine's process gets SIGKILL again and again while
the load goes on: the API must answer throughout. Exit code 1 where something is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from served import memory, servers, visits
from served.memory import Held
from served.servers import Running

GROWTH = 0.05
_WARM = 0.2  # of the time, a minute at least
_QUIET_S = 6.0  # idle connections and the last answers are gone by then
_HEALTH_S = 1.0


@dataclass(slots=True)
class Book:
    """What happened to the requests, by route and outcome; and what must not happen."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_health: float = 0.0

    def note(self, route: str, outcome: str) -> None:
        """Count an outcome; one that begins with FAULT is kept as it is."""
        self.counts[route, outcome.partition(":")[0]] += 1
        if outcome.startswith("FAULT"):
            self.faults.append(f"{route}: {outcome}")

    def table(self) -> str:
        """Routes by outcomes."""
        outcomes = sorted({outcome for _, outcome in self.counts})
        rows = [
            [route, *(str(self.counts[route, outcome]) for outcome in outcomes)] for route in sorted({r for r, _ in self.counts})
        ]
        lines = [f"| {' | '.join(row)} |" for row in [["route", *outcomes], *rows]]
        return "\n".join([lines[0], f"|---|{'---|' * len(outcomes)}", *lines[1:]])


async def clients(port: int, count: int, until: float, rng: random.Random, book: Book) -> None:
    """So many clients, one request after the other until the time is over."""

    async def one(own: random.Random) -> None:
        while time.monotonic() < until:
            visit = visits.drawn(own)
            outcome = await visits.made(port, visit, own)
            book.note(visit.route, outcome)
            await asyncio.sleep(own.uniform(0.5, 1.5) if outcome in ("429", "503") else own.choice((0, 0, 0.02, 0.2)))

    await asyncio.gather(*(one(random.Random(rng.random())) for _ in range(count)))


async def watched(port: int, until: float, book: Book) -> None:
    """/health must answer at once whatever goes on."""
    while time.monotonic() < until:
        began = time.monotonic()
        status, _ = await asyncio.to_thread(servers.ask, port, "/health", None, 10)
        spent = time.monotonic() - began
        book.slowest_health = max(book.slowest_health, spent)
        if status != 200 or spent > _HEALTH_S:
            book.faults.append(f"/health: FAULT: status {status} after {spent:.2f} s")
        await asyncio.sleep(0.2)


async def soaked(running: Running, seconds: float, count: int, rng: random.Random) -> tuple[Book, list[Held]]:
    """Load for so long; what happened, and what was held after the warm-up and at the end, with nothing asked."""
    book, found = Book(), []
    for part in (max(seconds * _WARM, min(60.0, seconds / 2)), seconds * (1 - _WARM)):
        until = time.monotonic() + part
        await asyncio.gather(clients(running.port, count, until, rng, book), watched(running.port, until, book))
        await asyncio.sleep(_QUIET_S)
        found.append(await asyncio.to_thread(memory.held, running.pid))
        say(f"{sum(book.counts.values())} requests, {len(book.faults)} faults, {found[-1]}")
    return book, found


async def killed(running: Running, kills: int, count: int, rng: random.Random) -> tuple[Book, list[float]]:
    """SIGKILL to the engine's process under load; what happened, and the seconds until it was ready again."""
    book, back = Book(), list[float]()
    stop = asyncio.Event()
    load = asyncio.create_task(_until(stop, running.port, count, rng, book))
    for number in range(kills):
        await asyncio.sleep(1 + rng.random())
        began, before = time.monotonic(), await restarts(running)
        os.kill(engine(running.pid), signal.SIGKILL)
        while not await again(running, before):
            if time.monotonic() - began > 120:
                book.faults.append(f"kill {number + 1}: FAULT: not ready again after 120 s")
                break
            await asyncio.sleep(0.05)
        back.append(time.monotonic() - began)
        say(f"kill {number + 1}: ready again after {back[-1]:.2f} s; {len(book.faults)} faults")
    stop.set()
    await load
    return book, back


async def restarts(running: Running) -> int:
    """How often the engine's process was started again."""
    _, told = await asyncio.to_thread(servers.ask, running.port, "/ready", None, 10)
    return int(told["restarts"])


async def again(running: Running, before: int) -> bool:
    """Whether the model answers after one more start."""
    status, told = await asyncio.to_thread(servers.ask, running.port, "/ready", None, 10)
    return status == 200 and told["restarts"] > before


async def _until(stop: asyncio.Event, port: int, count: int, rng: random.Random, book: Book) -> None:
    while not stop.is_set():
        until = time.monotonic() + 1
        await asyncio.gather(clients(port, count, until, rng, book), watched(port, until, book))


def engine(front: int) -> int:
    """The process of a server that holds the model: the largest that it started."""
    return max(memory.tree(front)[1:], key=lambda pid: memory.held(pid).pss)


def verdicts(after: Held, end: Held) -> list[tuple[str, bool]]:
    """What grew, and whether it may."""
    growth = end.pss / after.pss - 1
    return [
        (f"memory (PSS) {after.pss:.1f} MiB after the warm-up, {end.pss:.1f} MiB at the end: {growth:+.1%}", growth <= GROWTH),
        (f"threads {after.threads}, {end.threads} at the end", end.threads <= after.threads),
        (f"open files {after.files}, {end.files} at the end", end.files <= after.files),
    ]


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Soak, then kill; print what happened."""
    servers.stoppable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument(
        "--clients", type=int, default=32, help="at once; default: %(default)s, twice what the engine writes at once"
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name, servers.started(servers.pack("bundled"), Path(name) / "log") as running:
        checks = list[tuple[str, bool]]()
        if args.minutes:
            book, (after, end) = asyncio.run(soaked(running, args.minutes * 60, args.clients, rng))
            print(f"\n### {args.minutes:g} minutes, {args.clients} clients\n\n{book.table()}\n")
            checks += verdicts(after, end)
            checks += [("every accepted request ended exactly once, every refusal said when to come again", not book.faults)]
            checks += [(f"slowest /health {book.slowest_health:.2f} s", book.slowest_health <= _HEALTH_S)]
            print("\n".join(f"- {fault}" for fault in book.faults[:20]))
        if args.kills:
            book, back = asyncio.run(killed(running, args.kills, args.clients // 2, rng))
            print(f"\n### SIGKILL to the engine {args.kills} times, {args.clients // 2} clients\n\n{book.table()}\n")
            print("\n".join(f"- {fault}" for fault in book.faults[:20]))
            checks += [(f"the API answered throughout; slowest /health {book.slowest_health:.2f} s", not book.faults)]
            checks += [(f"ready again after {min(back):.1f} to {max(back):.1f} s", max(back) < 120)]
        print("\n" + "\n".join(f"- {what}: {'yes' if met else 'NO'}" for what, met in checks))
        sys.exit(not all(met for _, met in checks))


if __name__ == "__main__":
    main()
