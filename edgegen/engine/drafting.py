"""Guesses the next tokens of a text, and says how many guesses are worth a place in the next step. Pure: no clock, no model.

The scheduler decodes guesses beside the token that is due, samples at each place as always, and goes on while the sample is
the guess: the text is the same as without. After Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, with guesses that
cost nothing: from the prompt (https://github.com/apoorvumang/prompt-lookup-decoding) and from a table of n-grams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgegen.engine.ngrams import LEVELS, LONGEST, NGrams

MOST = 12
"""Tokens that are guessed of one text at most."""
_UNLIKELY = 0.1  # a guess that comes so seldom is worth no place on any machine
_CERTAIN = 0.985
_PAIR = 2  # tokens of the end of a text that have to stand elsewhere for a look-up
_PLACES = 4  # where they stand last are looked at
_LONG = 8  # tokens in common that say all that more would
_SPIKE = 1.5  # a step counts as at most so many times slower or faster than the known ones
_SLOWLY, _ENOUGH = 0.1, 2  # the part of a later measurement that counts, and how many make a cost known
_STALE = 500  # steps after which a cost is measured anew
_DEAR, _CHEAP = 0.9, 0.2  # of its share, what a row costs where nobody has measured: believed, and hoped when there is a trial
_REFRESH = 64  # steps after which the estimates are made anew
_GAIN, _TRIAL = 1.03, 1.1  # times the rate without guesses, from which on they are made, or tried
_PATIENCE, _LONGEST_REST = 8, 64  # times without a guess after which a text rests, and the longest rest

Bucket = tuple[str, int]
"""Where a guess comes from, and how sure that is: the table's level, or how many tokens the places have in common."""


class Odds:
    """How often guesses of each kind come true, learnt while an engine runs; shared by all of its drafters."""

    def __init__(self) -> None:
        """Begin with what corpora say."""
        self._hits: dict[Bucket, float] = {}
        self._tries: dict[Bucket, float] = {}
        for level in range(LEVELS):
            self._begin(("table", level), (level + 0.5) / LEVELS)
        for length in range(_PAIR, _LONG + 1):
            self._begin(("prompt", length), length**2 / (length**2 + 30))

    def _begin(self, bucket: Bucket, chance: float) -> None:
        self._hits[bucket], self._tries[bucket] = 8 * chance, 8.0

    def of(self, bucket: Bucket) -> float:
        """The chance of a guess of this kind."""
        return self._hits[bucket] / self._tries[bucket]

    def saw(self, bucket: Bucket, came: bool) -> None:
        """A guess came true or not. What is long ago counts less."""
        self._hits[bucket] += came
        self._tries[bucket] += 1
        if self._tries[bucket] > 400:
            self._hits[bucket] /= 2
            self._tries[bucket] /= 2


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next, and for each the chance that it and all before it come."""

    tokens: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()


class Drafter:
    """Guesses for one text of a job."""

    def __init__(
        self,
        prompt: Sequence[int],
        table: NGrams | None,
        odds: Odds,
        allowed: Callable[[int], bool] = lambda _: True,
        ends: frozenset[int] = frozenset(),
    ) -> None:
        """`allowed` says whether a token may be written at all; nothing is guessed that would come after one of `ends`."""
        self._ids, self._start, self._table, self._odds = list(prompt), len(prompt), table, odds
        self._allowed, self._ends = allowed, ends
        self._pairs: dict[tuple[int, ...], list[int]] = {}
        self._indexed = _PAIR
        self._last: tuple[int, list[int], list[Bucket]] = (0, [], [])
        self._hits = self._hoped = 3.0
        self._vain = self._rest = 0

    def propose(self, text: Sequence[int], most: int = MOST, least: float = _UNLIKELY) -> Draft:
        """At most `most` tokens that may follow what is written, as long as the chance of all of them is `least`.

        Call it before each step of the text, also where no guess will be used: it learns from what came.
        """
        if self._rest:
            self._rest -= 1
            return Draft()
        self._take_in(text)
        ids, tokens, chances, buckets = self._ids[-LONGEST:], list[int](), list[float](), list[Bucket]()
        place, common = self._find()
        chance, scale = 1.0, self._hits / self._hoped
        while len(chances) < min(most, MOST) and (guess := self._guess(ids, place, common)) is not None:
            token, bucket = guess
            if token in self._ends or not self._allowed(token):
                break
            tokens.append(token)
            buckets.append(bucket)
            chance *= min(self._odds.of(bucket) * scale, _CERTAIN)
            if chance < least:
                break
            chances.append(chance)
            ids.append(token)
            goes_on = 0 < place < len(self._ids) and self._ids[place] == token
            place, common = (place + 1, common + 1) if goes_on else (0, 0)
        self._last = len(self._ids), tokens, buckets
        self._vain = 0 if tokens else self._vain + 1
        self._rest = min(self._vain, _LONGEST_REST) if self._vain >= _PATIENCE else 0
        return Draft(tuple(tokens[: len(chances)]), tuple(chances))

    def _guess(self, ids: Sequence[int], place: int, common: int) -> tuple[int, Bucket] | None:
        """The likelier of what the table says and what stands at a place."""
        found = self._table.guess(ids) if self._table is not None else None
        told = None if found is None else (found.token, ("table", found.level))
        if not 0 < place < len(self._ids):
            return told
        there = self._ids[place], ("prompt", min(common, _LONG))
        return told if told is not None and self._odds.of(told[1]) >= self._odds.of(there[1]) else there

    def _take_in(self, text: Sequence[int]) -> None:
        """Bring the copy up to the text, which may have been set back; see which guesses came true; index the new pairs."""
        ids, start = self._ids, self._start
        known = min(len(ids) - start, len(text))
        if ids[start : start + known] != list(text[:known]):
            known = next(at for at in range(known) if ids[start + at] != text[at])
        at, tokens, buckets = self._last
        self._last = 0, [], []
        for token, bucket, came in zip(tokens, buckets, text[at - start :] if at else (), strict=False):
            self._saw(bucket, came == token)
            if came != token:
                break
        del ids[start + known :]
        ids += text[known:]
        for place in range(max(_PAIR, min(self._indexed, start + known)), len(ids)):
            self._pairs.setdefault((ids[place - 2], ids[place - 1]), []).append(place)
        self._indexed = max(_PAIR, len(ids))

    def _saw(self, bucket: Bucket, came: bool) -> None:
        self._hoped = 0.95 * self._hoped + self._odds.of(bucket)
        self._hits = 0.95 * self._hits + came
        self._odds.saw(bucket, came)

    def _find(self) -> tuple[int, int]:
        """The latest place after which the text may go on as it did there, of those that have most in common; 0 for none."""
        ids, best = self._ids, (0, 0)
        for place in reversed(self._pairs.get(tuple(ids[-_PAIR:]), ())[-_PLACES:]):
            common = 0
            while place < len(ids) and common < min(_LONG, place) and ids[place - 1 - common] == ids[-1 - common]:
                common += 1
            if common > max(best[1], _PAIR - 1):
                best = place, common
        return best


@dataclass(slots=True)
class _Point:
    """The cost of a step of some rows, how often it was measured since it was last forgotten, and in which step last."""

    cost: float
    count: int = 0
    step: int = 0


class Costs:
    """What steps take by their rows, beside each other: measured, and between and beyond what was measured estimated."""

    def __init__(self, most_rows: int) -> None:
        self._points: dict[int, _Point] = {}
        self._speed, self._steps, self._until = 1.0, 0, 0
        self.dear = self.cheap = [float(rows) for rows in range(most_rows + 1)]
        """For each number of rows: as believed, and as hoped for where nobody has measured."""
        self.known = [False] * (most_rows + 1)
        """Whether steps of about so many rows were measured lately."""

    def observe(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long. One slow step says little; when all become slower, none does beside the others."""
        self._steps += 1
        point = self._points.setdefault(rows, _Point(seconds / self._speed))
        if self._steps - point.step > _STALE:
            point.cost, point.count = seconds / self._speed, 0
        ratio = min(max(seconds / (self._speed * point.cost), 1 / _SPIKE), _SPIKE)
        point.count, point.step = point.count + 1, self._steps
        if point.count <= _ENOUGH:  # the first step of a size is slow: llama.cpp makes its graph for it
            point.cost = min(point.cost, seconds / self._speed)
        else:
            point.cost *= ratio ** max(_SLOWLY, 1 / point.count)
        if point.count > _ENOUGH:
            self._speed *= ratio**_SLOWLY
        if self._steps >= self._until or point.count <= _ENOUGH:
            self._refresh()

    def _refresh(self) -> None:
        self._until = self._steps + _REFRESH
        lately = [
            rows for rows, point in self._points.items() if point.count >= _ENOUGH and self._steps - point.step <= _STALE
        ]
        self.dear, self.cheap = self._all(self._points, _DEAR), self._all(lately, _CHEAP)
        self.known = [any(abs(at - rows) <= rows // 8 for at in lately) for rows in range(len(self.known))]

    def _all(self, measured: Iterable[int], slope: float) -> list[float]:
        points = sorted((rows, self._points[rows].cost) for rows in measured)
        found = [0.0]
        for rows in range(1, len(self.known)):
            below = max((point for point in points if point[0] <= rows), default=None)
            above = min((point for point in points if point[0] >= rows), default=None)
            found.append(_between(rows, below, above, slope))
        return found


def _between(rows: int, below: tuple[int, float] | None, above: tuple[int, float] | None, slope: float) -> float:
    if below is None or above is None:
        at, cost = below or above or (rows, float(rows))
        return cost * (1 + slope * (rows - at) / at)
    part = (rows - below[0]) / max(above[0] - below[0], 1)
    return below[1] + part * (above[1] - below[1])


class Pace:
    """How many guesses go into a step: as many as make tokens come faster, by what steps are seen to cost and guesses to win.

    Shared by all texts of an engine. Where nothing pays it takes none; what was not measured lately it tries.
    """

    def __init__(self, most_rows: int = 64) -> None:
        """A step has at most `most_rows` rows."""
        self.odds = Odds()
        self._most_rows, self._costs = most_rows, Costs(most_rows)

    def observe(self, rows: int, seconds: float) -> None:
        """A step of so many rows and no prompt tokens took so long, from planning it to its last sample."""
        if 0 < rows <= self._most_rows and seconds > 0:
            self._costs.observe(rows, seconds)

    def least(self, rows: int) -> float:
        """The lowest chance with which a guess may pay for its place beside `rows` rows; above 1 where none can."""
        cheap = self._costs.cheap
        if not 0 < rows < self._most_rows or not self._costs.known[rows]:
            return 2.0
        steps = (add for add in (1, 2, 4, 8) if rows + add <= self._most_rows)
        return max(_UNLIKELY, min((cheap[rows + add] - cheap[rows]) / add for add in steps) * rows / cheap[rows])

    def choose(self, rows: int, chances: Sequence[Sequence[float]]) -> list[int]:
        """How many guesses of each text to add to a step of `rows` rows, given their chances (`Draft.chances`)."""
        lengths = [0] * len(chances)
        if not 0 < rows < self._most_rows or not self._costs.known[rows]:
            return lengths
        ranked = sorted(((chance, i) for i, found in enumerate(chances) for chance in found), reverse=True)
        ranked = ranked[: self._most_rows - rows]
        for _, i in ranked[: self._best(rows, [chance for chance, _ in ranked])]:
            lengths[i] += 1
        return lengths

    def _best(self, rows: int, chances: Sequence[float]) -> int:
        """How many of these chances, highest first, give most tokens a second; 0 where it is hardly more than without."""
        costs, tokens = self._costs, float(rows)
        rate = rows / costs.dear[rows]
        best, taken, hope, trial = rate * _GAIN, 0, rate * _TRIAL, 0
        for total, chance in enumerate(chances, rows + 1):
            tokens += chance
            if costs.known[total]:
                if tokens / costs.dear[total] > best:
                    best, taken = tokens / costs.dear[total], total - rows
            elif tokens / costs.cheap[total] > hope:
                hope, trial = tokens / costs.cheap[total], total - rows
        return trial if hope > max(best, rate * _TRIAL) else taken
