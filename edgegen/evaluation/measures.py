"""A score as sums over cases, so that its interval and a test of two systems come from the same sums. Pure, vectorised.

Intervals: the percentile bootstrap over cases (Efron, Tibshirani: "An Introduction to the Bootstrap", 1993; Koehn:
"Statistical Significance Tests for Machine Translation Evaluation", 2004). Differences: approximate randomisation (Noreen, 1989;
Riezler, Maxwell: "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT", 2005), which finds fewer
differences that are none than a test by bootstrap does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
_SEED = 12345
_LEVEL = 95.0  # per cent
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """What each case adds, float64 [cases, k], and the score of such sums: [n, k] -> [n]."""

    stats: Floats
    score: Callable[[Floats], Floats]

    @property
    def value(self) -> float:
        """The score of all cases."""
        return float(self.score(self.stats.sum(0, keepdims=True))[0])


@dataclass(frozen=True, slots=True)
class Figure:
    """A score and its 95 % interval; None where it has none, because a resample repeats cases and would count as less varied."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float]:
        """As a JSON object, without what is None, in six digits."""
        return {key: float(f"{value:.6g}") for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first system's score less the second's, its 95 % interval by paired bootstrap, and p by approximate randomisation."""

    difference: float
    low: float
    high: float
    p: float

    def to_json(self) -> dict[str, float]:
        """As a JSON object."""
        return asdict(self)


def mean(values: Sequence[float], scale: float = 1.0) -> Measure:
    """The mean of a value of each case, times `scale`."""
    return ratio(values, [1.0] * len(values), scale)


def ratio(over: Sequence[float], under: Sequence[float], scale: float = 1.0) -> Measure:
    """The sum of one value over the sum of another, times `scale`; 0 where that is 0."""
    stats = np.array([over, under], dtype=np.float64).T.reshape(-1, 2)
    return Measure(stats, lambda sums: scale * _divided(sums))


def perplexity(losses: Sequence[tuple[float, int]]) -> Measure:
    """Exp of the summed losses over the summed tokens."""
    return Measure(np.array(losses, dtype=np.float64).reshape(-1, 2), lambda sums: np.exp(_divided(sums)))


def _divided(sums: Floats) -> Floats:
    none = sums[:, 1] == 0
    result: Floats = np.where(none, 0.0, sums[:, 0] / np.where(none, 1.0, sums[:, 1]))
    return result


def figure(measure: Measure) -> Figure:
    """The score with its interval; the same measure always gives the same one."""
    scores = measure.score(_resampled(len(measure.stats)) @ measure.stats)
    return Figure(measure.value, *_interval(scores))


def compare(one: Measure, other: Measure) -> Difference:
    """Two systems on the same cases, case by case."""
    n, found = len(one.stats), one.value - other.value
    counts = _resampled(n)
    spread = one.score(counts @ one.stats) - other.score(counts @ other.stats)
    # Each trial swaps the two systems' texts in half of the cases, as if it were all one whose they are.
    swapped = np.random.default_rng(_SEED).integers(0, 2, (RESAMPLES, n)).astype(np.float64)
    moved = swapped @ (other.stats - one.stats)
    trials = one.score(one.stats.sum(0) + moved) - other.score(other.stats.sum(0) - moved)
    beyond = int((np.abs(trials) >= abs(found) - 1e-12).sum())
    return Difference(found, *_interval(spread), (beyond + 1) / (RESAMPLES + 1))


def _resampled(n: int) -> Floats:
    """How often each case is in each resample, [resamples, n]."""
    return np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def _interval(scores: Floats) -> tuple[float, float]:
    low, high = np.percentile(scores, [50 - _LEVEL / 2, 50 + _LEVEL / 2])
    return float(low), float(high)


def as_json(figures: dict[str, dict[str, Figure]]) -> dict[str, Any]:
    """Figures by score and system as a JSON object."""
    return {name: {system: found.to_json() for system, found in by.items()} for name, by in figures.items()}
