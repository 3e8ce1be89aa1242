"""The engine without HTTP beside `llama-batched-bench`: tokens a second while so many sequences are written.

    python batched.py MODEL THREADS SEQUENCES

Runs the engine once in a process of its own and prints the rate. The engine samples (top-k 40, top-p 0.95); the other does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

SEQUENCES = (1, 8, 16)
BAR = 0.9
_PROMPT, _WRITTEN, _PER_SEQUENCE = 16, 96, 256
_TRIES = 5


def compare(
    binary: Path, model: Path, threads: int, rounds: int, more: tuple[str, ...], cache: Path
) -> dict[int, tuple[list[float], list[float]]]:
    """Rates of both by the number of sequences, in turn; `cache` holds the setting that edgegen's probe found."""
    found: dict[int, tuple[list[float], list[float]]] = {n: ([], []) for n in SEQUENCES}
    for _ in range(rounds):
        for n, (mine, other) in found.items():
            mine.append(_ours(model, threads, n, cache))
            other.append(_theirs(binary, model, threads, n, more))
    return found


def _ours(model: Path, threads: int, n: int, cache: Path) -> float:
    command = [sys.executable, __file__, str(model), str(threads), str(n)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent), "EDGEGEN_CACHE": str(cache)}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout)  # noqa: S603 - our own file


def _theirs(binary: Path, model: Path, threads: int, n: int, more: tuple[str, ...]) -> float:
    command = [str(binary), "-m", str(model), "-c", str(n * _PER_SEQUENCE), "-t", str(threads), "--output-format", "jsonl"]
    command += ["-npp", str(_PROMPT), "-ntg", str(_WRITTEN), "-npl", str(n), *more]
    for _ in range(_TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - llama.cpp's program
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if rows:  # its log's thread does not always come to writing the line before the process ends
            return float(rows[0]["speed_tg"])
    raise RuntimeError(f"llama-batched-bench said nothing of {n} sequences in {_TRIES} runs: {done.stderr[-300:]}")


def rate(model: Path, threads: int, n: int) -> float:
    """Tokens a second from when the last sequence has its first token until the first one ends."""
    from edgegen import hardware
    from edgegen.engine import open_engine
    from edgegen.engine.job import Job
    from edgegen.engine.sampling import SamplingOptions

    stamps: list[list[float]] = [[] for _ in range(n)]
    with open_engine(model, setting=replace(hardware.known(model).setting, threads=threads)) as engine:
        for _ in range(2):  # the first time warms up
            jobs = []
            for i, mine in enumerate(stamps):
                mine.clear()
                prompt = [(31 * i + 7 * k) % 1000 + 10 for k in range(_PROMPT)]
                options = SamplingOptions(temperature=0.8, max_new_tokens=_WRITTEN, seed=i)
                jobs.append(
                    engine.submit(Job(prompt, 1, options, on_token=lambda *_, mine=mine: mine.append(time.perf_counter())))
                )  # type: ignore[misc]
            for job in jobs:
                job.result()
    begin, end = max(mine[0] for mine in stamps), min(mine[-1] for mine in stamps)
    return sum(begin < stamp <= end for mine in stamps for stamp in mine) / (end - begin)


if __name__ == "__main__":
    print(rate(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
