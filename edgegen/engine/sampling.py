"""Chooses the next token of each sequence from its logits. Pure: numpy and a seed, no clock, no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgegen.engine.backend import Logits, Mask
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EngineError

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Tokens kept at temperature 0 where top_k does not limit them: the next ones in the running after a veto.
_GREEDY_CANDIDATES = 40


Constraint = Callable[[tuple[int, ...]], Sequence[int]]
"""The ids that may follow the tokens written so far; none ends the text."""

Veto = Callable[[Sequence[int], int], bool]
"""Whether a token must not follow the tokens written so far. Asked only of tokens that were drawn."""

Keep = Callable[[Sequence[int], int, Sequence[float]], int]
"""How much of a text stays, given what is written, the token drawn for it, and the log-probabilities of all these tokens.

One more than is written takes the token; so many or fewer set the text back to that length, to be written anew from there.
"""


class Sampler:
    """The choices of one job: its options, its mask and one random generator for each of its sequences."""

    def __init__(self, options: SamplingOptions, n: int, allow: Mask | None = None) -> None:
        """`allow` is a mask over the vocabulary, True where a token may be chosen."""
        self._options = options
        self._blocked = None if allow is None or allow.all() else ~allow
        self._generators = [np.random.Generator(np.random.PCG64((options.seed, i))) for i in range(n)]

    def pick(
        self,
        logits: Logits,
        rows: Sequence[int],
        written: Sequence[Sequence[int]],
        allowed: Sequence[Sequence[int]] | None = None,
        veto: Veto | None = None,
    ) -> tuple[Ids, Floats]:
        """One token and its log-probability for each row of logits; `logits` is changed.

        Row i belongs to sequence rows[i], which has written[i] so far and may go on with allowed[i] only. A token that
        `veto` refuses is drawn again, without it, as long as there is another. The log-probability is the model's own, of
        its whole distribution: before the mask, the constraint, temperature and top-p.
        """
        total = _log_sum_exp(logits)
        if self._blocked is not None:
            np.copyto(logits, -np.inf, where=self._blocked)
        for i, text in enumerate(written):
            _discourage(logits[i], text, self._options)
        if allowed is not None:
            for i, next_ids in enumerate(allowed):
                _keep_only(logits[i], next_ids)
        ids, values = top_candidates(logits, self._options.top_k or self._width(logits))
        chosen = self._draw(values, rows)
        for i, row in enumerate(rows if veto else ()):
            while veto and np.isfinite(values[i, 1:2]).all() and veto(written[i], int(ids[i, chosen[i]])):
                for array in (ids, values):
                    array[i] = _at_the_end(array[i], int(chosen[i]))
                values[i, -1] = -np.inf
                chosen[i] = self._draw(values[i : i + 1], [row])[0]
        at = np.arange(len(rows))
        return ids[at, chosen], values[at, chosen] - total

    def _width(self, logits: Logits) -> int:
        return _GREEDY_CANDIDATES if self._options.temperature == 0 else int(logits.shape[1])

    def _draw(self, values: Floats, rows: Sequence[int]) -> Ids:
        if self._options.temperature == 0:
            return np.zeros(len(rows), dtype=np.int64)
        weights = np.exp(_log_softmax(values / self._options.temperature))
        weights = nucleus(weights, self._options.top_p)
        points = np.array([self._generators[row].random() for row in rows])
        total = np.cumsum(weights, axis=1)
        chosen = (total <= (points * total[:, -1])[:, None]).sum(axis=1)
        # Rounding may put a point at the very end, where the weights are zero.
        last = (weights > 0).sum(axis=1) - 1
        result: Ids = np.minimum(chosen, last)
        return result


def top_candidates(logits: Logits, k: int) -> tuple[Ids, Floats]:
    """The `k` likeliest tokens of each row, likeliest first and the lower id first among equals: ids and logits."""
    width = logits.shape[1]
    if k < width:
        ids = np.sort(np.argpartition(logits, width - k, axis=1)[:, width - k :], axis=1)
    else:
        ids = np.broadcast_to(np.arange(width), logits.shape)
    values = np.take_along_axis(logits, ids, axis=1).astype(np.float64)
    if not np.isfinite(values).any(axis=1).all():
        raise EngineError("No token may be chosen: the mask or the constraint forbids all of them. Widen it.")
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1).astype(np.int64), np.take_along_axis(values, order, axis=1)


def nucleus(weights: Floats, top_p: float) -> Floats:
    """Rows of descending probabilities with zeros after those that reach `top_p` together."""
    if top_p >= 1:
        return weights
    before = np.cumsum(weights, axis=1) - weights
    kept: Floats = np.where(before < top_p, weights, 0.0)
    return kept


def _at_the_end(row: npt.NDArray[Any], at: int) -> npt.NDArray[Any]:
    return np.append(np.delete(row, at), row[at])


def _log_sum_exp(logits: Logits) -> Floats:
    highest = logits.max(axis=1)
    result: Floats = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1, dtype=np.float64))
    return result


def _log_softmax(values: Floats) -> Floats:
    shifted = values - values.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _discourage(row: npt.NDArray[np.float32], text: Sequence[int], options: SamplingOptions) -> None:
    if options.repeat_penalty != 1 and text:
        seen = np.unique(np.asarray(text, dtype=np.int64))
        values = row[seen]
        row[seen] = np.where(values > 0, values / options.repeat_penalty, values * options.repeat_penalty)
    if options.no_repeat_ngram:
        row[_repeats(text, options.no_repeat_ngram)] = -np.inf


def _repeats(text: Sequence[int], n: int) -> list[int]:
    tail = tuple(text[len(text) - n + 1 :]) if n > 1 else ()
    if len(text) < n:
        return []
    return [text[i + n - 1] for i in range(len(text) - n + 1) if tuple(text[i : i + n - 1]) == tail]


def _keep_only(row: npt.NDArray[np.float32], ids: Sequence[int]) -> None:
    at = np.asarray(ids, dtype=np.int64)
    values = row[at]
    row[:] = -np.inf
    row[at] = values
