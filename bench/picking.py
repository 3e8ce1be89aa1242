"""What choosing tokens costs: milliseconds of processor time to pick one token for each row of random logits.

    python bench/picking.py [--rounds 60]

Processor time, so that other processes on the machine say little; the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from edgegen.engine.options import SamplingOptions
from edgegen.engine.sampling import Sampler

GREEDY = SamplingOptions(temperature=0)
WIDTHS, ROWS = (50_257, 8_352), (1, 4, 8, 16)


def samplers(rows: int, width: int) -> dict[str, Sampler]:
    """One of each kind; masks leave all but forty tokens, or three tenths of them."""
    most, few = np.arange(width) < width - 40, np.random.default_rng(1).random(width) < 0.3
    usual = SamplingOptions()
    return {
        "greedy": Sampler(GREEDY, rows),
        "sampled": Sampler(usual, rows),
        "40 barred": Sampler(usual, rows, most),
        "30 % allowed": Sampler(usual, rows, few),
        "and logprobs": Sampler(usual, rows, few, logprobs=0),
        "top 5 told": Sampler(usual, rows, logprobs=5),
    }


def milliseconds(sampler: Sampler, rows: int, width: int, rounds: int) -> float:
    """For one pick of all rows."""
    logits = 3 * np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32)
    taken = []
    for _ in range(rounds):
        given = logits.copy()
        began = time.process_time()
        sampler.pick(given, range(rows), [[1, 2, 3]] * rows)
        taken.append(time.process_time() - began)
    return 1000 * statistics.median(taken)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    print(f"{'tokens':>8}{'rows':>6}" + "".join(f"{name:>14}" for name in samplers(1, 100)))
    for width in WIDTHS:
        for rows in ROWS:
            found = [milliseconds(sampler, rows, width, rounds) for sampler in samplers(rows, width).values()]
            print(f"{width:8}{rows:6}" + "".join(f"{value:14.3f}" for value in found), flush=True)


if __name__ == "__main__":
    main()
