"""What a run of the load shows, and tables of it. Knows no server."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = (
    "clients", "server", "requests/s", "tokens/s", "first token p50 / p95, ms", "total p50 / p95, ms", "processor, ms a request",
    "peak PSS / RSS, MiB",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """A run: rates per second, seconds, MiB, processor seconds of a request, and how many requests failed."""

    requests: float
    tokens: float
    first: float
    first95: float
    total: float
    total95: float
    pss: float
    rss: float
    cpu: float
    failed: int = 0
    why: str = ""

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]], pss: float, rss: float, cpu: float) -> Figures:
        """From the records of `load.py`; requests that failed count in no rate."""
        good = [record for record in records if not record["error"]]
        wrong = [record["error"] for record in records if record["error"]]
        if not good:
            raise RuntimeError(f"every request failed: {wrong[0]}")
        span = max(r["ended"] for r in good) - min(r["began"] for r in good)
        first = [(r["first"] if r["first"] is not None else r["ended"]) - r["began"] for r in good]
        total = [r["ended"] - r["began"] for r in good]
        tokens = sum(r["tokens"] for r in good)
        return cls(
            len(good) / span, tokens / span, statistics.median(first), late(first), statistics.median(total), late(total),
            pss, rss, cpu / len(records), len(wrong), wrong[0] if wrong else "",
        )  # fmt: skip

    def __str__(self) -> str:
        """In a line."""
        failed = f", {self.failed} failed: {self.why}" if self.failed else ""
        return f"{self.requests:.2f} requests/s, {self.tokens:.0f} tokens/s, total p50 {self.total * 1000:.0f} ms{failed}"


def late(values: Sequence[float]) -> float:
    """The 95th percentile: the smallest value that at least 95 % do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def middle(runs: Sequence[Figures]) -> Figures:
    """The median of each figure; failures are added up."""
    names = ("requests", "tokens", "first", "first95", "total", "total95", "pss", "rss", "cpu")
    return Figures(
        **{name: statistics.median(getattr(run, name) for run in runs) for name in names}, failed=sum(run.failed for run in runs)
    )


def table(cells: Mapping[int, Mapping[str, Sequence[Figures]]]) -> str:
    """A row for each number of clients and server."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    for clients, found in cells.items():
        for name, runs in found.items():
            one = middle(runs)
            failed = f" ({one.failed} failed)" if one.failed else ""
            times = (f"{a * 1000:.0f} / {b * 1000:.0f}" for a, b in ((one.first, one.first95), (one.total, one.total95)))
            costs = (f"{one.cpu * 1000:.1f}", f"{one.pss:.0f} / {one.rss:.0f}")
            rows.append((str(clients), f"{name}{failed}", f"{one.requests:.2f}", f"{one.tokens:.0f}", *times, *costs))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
