"""Chooses the next token of each sequence from its logits. Pure: numpy and a seed, no clock, no model.

The likeliest few tokens are found first; temperature, top-p and the draw see only those. What costs a pass over the whole
vocabulary is done only where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgegen.engine.backend import Grammar, Ids, Logits, Mask
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EngineError

Floats = npt.NDArray[np.float64]

# Tokens kept at temperature 0 where top_k does not limit them: the next ones in the running after a refusal.
_GREEDY_CANDIDATES = 40
_ANY = 1 << 30  # more than any vocabulary has
_GROUP, _MANY = 64, 8  # tokens of a group at most; times k from which on candidates are narrowed before they are sorted
_NO_NUMBERS = "The model gave logits that are not numbers. Verify the pack, and run edgegen doctor."
_COLDEST = 1e-9  # below, differences of logits overflow; only those as likely as the likeliest are left long before
_NEVER = -100.0  # a bias of so much and less forbids the token
_FEW = 8  # a mask that leaves less than one in so many tokens is cheaper to gather than to write


Constraint = Callable[[tuple[int, ...]], Sequence[int]]
"""The ids that may follow the tokens written so far; none ends the text."""

Veto = Callable[[Sequence[int], int], bool]
"""Whether a token must not follow the tokens written so far. Asked only of tokens that were drawn."""

Keep = Callable[[Sequence[int], int, Sequence[float]], int]
"""How much of a text stays, given what is written, the token drawn for it, and the log-probabilities of all these tokens.

One more than is written takes the token; so many or fewer set the text back to that length, to be written anew from there.
"""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was chosen, and where they were asked for its log-probability and the likeliest tokens at its place.

    Log-probabilities are the model's own, of its whole distribution: before mask, bias, penalties, temperature and top-p.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    """Ids and log-probabilities, likeliest first."""


@dataclass(slots=True)
class Outlook:
    """What may come next in each row: its likeliest tokens that are allowed, likeliest first, and their weights added up."""

    ids: Ids
    values: Floats
    totals: Floats
    logits: Logits
    """After bias and penalties."""
    own: Logits
    """As the model gave them, where the chosen token may be found."""
    log_total: Floats | None
    top: tuple[Ids, Floats] | None


class Sampler:
    """The choices of one job: its options, its mask, one random generator and one grammar for each of its sequences."""

    def __init__(
        self,
        options: SamplingOptions,
        n: int,
        allow: Mask | None = None,
        *,
        logprobs: int | None = None,
        bias: Mapping[int, float] | None = None,
        grammar: Grammar | None = None,
        veto: Veto | None = None,
    ) -> None:
        """`allow` is a mask over the vocabulary, True where a token may be chosen; `bias` is added to logits.

        A token that `veto` refuses is drawn again, without it, as long as there is another. `logprobs` asks for the chosen
        token's log-probability and those of so many of the likeliest; None asks for none and costs nothing.
        """
        self._options, self._logprobs, self._veto = options, logprobs, veto
        self._bias = np.array(list(bias or {}), dtype=np.int64), np.array(list((bias or {}).values()), dtype=np.float32)
        self._bias[1][self._bias[1] <= _NEVER] = -np.inf
        self._allow = None if allow is None or allow.all() else allow
        few = self._allow is not None and self._allow.sum() * _FEW < len(self._allow) * (_FEW - 1)
        self._among = np.flatnonzero(self._allow) if self._allow is not None and few else None
        self._blocked = np.flatnonzero(~self._allow) if self._allow is not None and not few else None
        self._generators = [np.random.Generator(np.random.PCG64((options.seed, i))) for i in range(n)]
        self._looks_back = options.looks_back
        self._grammars = [grammar, *(grammar.copy() for _ in range(n - 1))] if grammar else []
        self.common = self._common()
        """What a look depends on; equal for samplers that can look at their rows together, None where one has its own."""

    def pick(
        self,
        logits: Logits,
        rows: Sequence[int],
        written: Sequence[Sequence[int]],
        allowed: Sequence[Sequence[int]] | None = None,
    ) -> list[Token | None]:
        """One token for each row of logits, which are changed; None where the grammar lets nothing follow.

        Row i belongs to sequence rows[i], which has written[i] so far and may go on with allowed[i] only.
        """
        outlook = self.look(logits, written, allowed)
        return [self.draw(outlook, i, row, text) for i, (row, text) in enumerate(zip(rows, written, strict=True))]

    def _common(self) -> object | None:
        if self._among is not None or len(self._bias[0]) or self._looks_back:
            return None
        options = self._options
        return options.temperature, options.top_k, options.top_p, options.min_p, self._logprobs, self._width(_ANY)

    def look(self, logits: Logits, written: Sequence[Sequence[int]], allowed: Sequence[Sequence[int]] | None = None) -> Outlook:
        """The part of `pick` that needs no draw, for all rows at once; `logits` is changed.

        For a draft, row i + 1 may belong to the text of row i with one more token: draw from it if that token came.
        """
        log_total, top = self._own(logits)
        own = logits.copy() if log_total is not None and (self._looks_back or len(self._bias[0])) else logits
        if len(self._bias[0]):
            logits[:, self._bias[0]] += self._bias[1]
        for row, text in zip(logits, written, strict=True) if self._looks_back else ():
            _discourage(row, text, self._options)
        self._block(logits)
        ids, values = self._candidates(logits, allowed)
        return Outlook(ids, values, self._totals(values), logits, own, log_total, top)

    def _own(self, logits: Logits) -> tuple[Floats | None, tuple[Ids, Floats] | None]:
        """What is told of the model's own distribution."""
        if self._logprobs is None:
            return None, None
        return _log_sum_exp(logits), top_candidates(logits, self._logprobs) if self._logprobs else None

    def _block(self, logits: Logits) -> None:
        if self._blocked is not None:
            logits[:, self._blocked] = -np.inf

    def draw(self, outlook: Outlook, at: int, row: int, text: Sequence[int]) -> Token | None:
        """The token of sequence `row` in row `at` of an outlook; None where the grammar lets nothing follow `text`."""
        token = self._choose(outlook.ids[at], outlook.values[at], outlook.totals[at], row, text)
        if self._grammars:
            grammar = self._grammars[row]
            if not grammar.allows(np.array([token]))[0]:
                narrowed = self._narrowed(outlook, at, grammar)
                if narrowed is None:
                    return None
                token = self._choose(*narrowed, self._totals(narrowed[1][None])[0], row, text)
            grammar.accept(token)
        if outlook.log_total is None:
            return Token(token)
        total, top = outlook.log_total[at], outlook.top
        beside = () if top is None else tuple(zip(top[0][at].tolist(), (top[1][at] - total).tolist(), strict=True))
        return Token(token, float(outlook.own[at, token] - total), beside)

    def _choose(self, ids: Ids, values: Floats, totals: Floats, row: int, text: Sequence[int]) -> int:
        at = self._spin(totals, row)
        while self._veto and len(values) > 1 and values[1] > -np.inf and self._veto(text, int(ids[at])):
            ids, values = np.delete(ids, at), np.delete(values, at)
            at = self._spin(self._totals(values[None])[0], row)
        return int(ids[at])

    def _spin(self, totals: Floats, row: int) -> int:
        if self._options.temperature == 0:
            return 0
        point = self._generators[row].random() * totals[-1]
        # Rounding may put a point at the very end, where the weights are zero.
        return min(int(totals.searchsorted(point, "right")), int(totals.searchsorted(totals[-1], "left")))

    def _totals(self, values: Floats) -> Floats:
        options = self._options
        if options.temperature == 0:
            return values
        weights = np.exp((values - values[:, :1]) / max(options.temperature, _COLDEST))
        if options.top_p < 1:
            weights = nucleus(weights, options.top_p)
        if options.min_p:
            weights[weights < options.min_p] = 0
        result: Floats = np.cumsum(weights, axis=1)
        return result

    def _candidates(self, logits: Logits, allowed: Sequence[Sequence[int]] | None) -> tuple[Ids, Floats]:
        if allowed is not None:
            return self._within(logits, allowed)
        if self._among is not None:
            ids, values = top_candidates(logits.take(self._among, axis=1), self._width(len(self._among)))
            return self._among[ids], _checked(values)
        ids, values = top_candidates(logits, self._width(logits.shape[1]))
        return ids, _checked(values)

    def _width(self, most: int) -> int:
        """How many candidates are needed: one at temperature 0 where nothing refuses it."""
        if self._options.temperature == 0:
            return min(self._options.top_k or _GREEDY_CANDIDATES, most) if self._veto or self._grammars else 1
        return min(self._options.top_k or most, most)

    def _within(self, logits: Logits, allowed: Sequence[Sequence[int]]) -> tuple[Ids, Floats]:
        """The candidates where each row may go on with a few tokens only; rows with fewer are filled with impossible ones."""
        values = np.full((len(allowed), max(map(len, allowed))), -np.inf, dtype=np.float32)
        ids = np.zeros(values.shape, dtype=np.int64)
        for i, few in enumerate(allowed):
            ids[i, : len(few)] = few
            values[i, : len(few)] = logits[i, ids[i, : len(few)]]
        if self._allow is not None:
            values[~self._allow[ids]] = -np.inf
        order, found = top_candidates(values, self._width(values.shape[1]))
        return np.take_along_axis(ids, order, axis=1), _checked(found)

    def _narrowed(self, outlook: Outlook, at: int, grammar: Grammar) -> tuple[Ids, Floats] | None:
        """What the grammar leaves of a row's candidates; of all its tokens where it leaves none of those."""
        fitting = grammar.allows(outlook.ids[at]) & (outlook.values[at] > -np.inf)
        if fitting.any():
            return outlook.ids[at][fitting], outlook.values[at][fitting]
        row = outlook.logits[at]
        ids = np.arange(len(row)) if self._among is None else self._among
        ids = ids[np.isfinite(row[ids])]
        ids = ids[grammar.allows(ids)]
        if not len(ids):
            return None
        order, values = top_candidates(row[None, ids], self._width(len(ids)))
        return ids[order[0]], values[0]


def look_together(samplers: Sequence[tuple[Sampler, slice]], logits: Logits) -> Outlook:
    """One look for samplers whose `common` is equal, each with its rows; `logits` is changed."""
    lead = samplers[0][0]
    log_total, top = lead._own(logits)
    for sampler, rows in samplers:
        sampler._block(logits[rows])
    ids, values = lead._candidates(logits, None)
    return Outlook(ids, values, lead._totals(values), logits, logits, log_total, top)


def top_candidates(logits: Logits, k: int) -> tuple[Ids, Floats]:
    """The `k` likeliest tokens of each row, likeliest first and the lower id first among equals: ids and logits.

    The highest of each of many small groups come first: k of those reach the k-th highest of them, so the k likeliest do.
    """
    n, width = logits.shape
    k = min(k, width)
    if k == 1:
        first = logits.argmax(axis=1)[:, None]
        return first, np.take_along_axis(logits, first, axis=1).astype(np.float64)
    ids, values = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    size = max(1, min(_GROUP, width // (2 * k)))
    groups = width // size
    best = logits[:, : groups * size].reshape(n, size, groups).max(axis=1)  # group j: j, j + groups, ...: whole lines of memory
    best.partition(groups - k, axis=1)
    for i, row in enumerate(logits):  # row by row, because indexing along an axis costs more than the work itself
        among = np.flatnonzero(row >= best[i, groups - k])
        if len(among) < k:
            raise EngineError(_NO_NUMBERS)
        found = row[among]
        if len(among) > _MANY * k:  # many are equal
            found_at = np.flatnonzero(found >= np.partition(found, len(found) - k)[len(found) - k])
            among, found = among[found_at], found[found_at]
        order = np.lexsort((among, -found))[:k]
        ids[i], values[i] = among[order], found[order]
    return ids, values


def _checked(values: Floats) -> Floats:
    if not (values[:, 0] > -np.inf).all() or not (values < np.inf).all():
        if np.isnan(values).any() or (values == np.inf).any():
            raise EngineError(_NO_NUMBERS)
        raise EngineError("No token may be chosen: the mask or the constraint forbids all of them. Widen it.")
    return values


def nucleus(weights: Floats, top_p: float) -> Floats:
    """Rows of descending weights with zeros after those that reach `top_p` of their sum together."""
    if top_p >= 1:
        return weights
    totals = np.cumsum(weights, axis=1)
    kept: Floats = np.where(totals - weights < top_p * totals[:, -1:], weights, 0.0)
    return kept


def _log_sum_exp(logits: Logits) -> Floats:
    """One row after another, because a row stays in the processor's cache."""
    result = np.empty(len(logits))
    room = np.empty(logits.shape[1], dtype=np.float32)
    for i, row in enumerate(logits):
        highest = row.max()
        np.exp(np.subtract(row, highest, out=room), out=room)
        result[i] = highest + math.log(room.sum())
    return result


def _discourage(row: npt.NDArray[np.float32], text: Sequence[int], options: SamplingOptions) -> None:
    if not text:
        return
    seen, counts = np.unique(np.asarray(text, dtype=np.int64), return_counts=True)
    values = row[seen]
    values = np.where(values > 0, values / options.repeat_penalty, values * options.repeat_penalty)
    row[seen] = values - counts * options.frequency_penalty - options.presence_penalty
    if options.no_repeat_ngram:
        row[_repeats(text, options.no_repeat_ngram)] = -np.inf


def _repeats(text: Sequence[int], n: int) -> list[int]:
    tail = tuple(text[len(text) - n + 1 :]) if n > 1 else ()
    if len(text) < n:
        return []
    return [text[i + n - 1] for i in range(len(text) - n + 1) if tuple(text[i : i + n - 1]) == tail]
