"""Decides what the next step decodes. Pure: no clock, no thread, no backend.

Each step mixes one token of every text that is written, and what is drafted to follow it, with chunks of new prompts. The
candidates of a job share the prompt's cells in the cache, and so do jobs whose prompts begin alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgegen.engine.backend import Batch
from edgegen.engine.cache import common_prefix
from edgegen.engine.drafting import Pace
from edgegen.engine.options import BATCH
from edgegen.engine.run import Part, Run

LEAST, BESIDE = 16, 64
"""Prompt tokens in a step that others wait for: at least, and at most."""
_BATCH_TURN = 4  # beside shoppers, batch jobs have a part in one of so many steps


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a step: tokens of a run that writes, or a stretch that prompts have in common, and its rows of the logits."""

    runs: tuple[Run, ...]
    fed: int
    """Prompt tokens; 0 while writing."""
    rows: slice
    parts: tuple[Part, ...] = ()
    """Whose the rows are."""


@dataclass(frozen=True, slots=True)
class Step:
    """One batch, and whose it is. Shares that can be looked at together stand together."""

    batch: Batch
    shares: tuple[Share, ...]
    drops: tuple[tuple[int, int], ...] = ()
    """Sequences whose cache holds more than their text, and the position from which it is forgotten first."""
    drafted: int = 0


def plan(
    runs: Iterable[Run],
    turn: int = 0,
    *,
    room: int | None = None,
    beside: int = BESIDE,
    alone: int = BATCH,
    pace: Pace | None = None,
) -> Step:
    """The next step: a token of every live candidate, then prompts in the order of the runs as far as there is room.

    Beside shoppers, batch jobs have their part in every fourth `turn` only. `room` bounds the prompt tokens, `beside`
    those in a step that others wait for, `alone` those in one that nobody waits for; `pace` says how many tokens are drafted,
    none without it.
    """
    batch, runs = Batch(), list(runs)
    shoppers = [run for run in runs if run.job.priority == "shopper"]
    up = shoppers if shoppers and turn % _BATCH_TURN else [*shoppers, *(run for run in runs if run.job.priority != "shopper")]
    writing = _together_first([run for run in up if run.writing])
    drafts = _drafts(writing, pace) if pace else {}
    shares = [_continue(run, batch, drafts) for run in writing]
    if room is None:
        room = beside if shares else alone
    shares += _feed([run for run in up if not run.writing], [run for run in runs if not run.writing], batch, room)
    drops = [(c.seq, run.end(c)) for run in writing for c in run.candidates if c.stale and not c.finish]
    return Step(batch, tuple(shares), tuple(drops), sum(map(len, drafts.values())))


def _drafts(runs: Sequence[Run], pace: Pace) -> dict[int, tuple[int, ...]]:
    """What is drafted, by the sequence it is for."""
    texts = [(run, i) for run in runs for i in run.live]
    least = pace.least(len(texts))
    if least > 1:
        return {}
    found = [run.draft(i, least) for run, i in texts]
    lengths = pace.choose(len(texts), [draft.chances for draft in found])
    chosen = zip(texts, found, lengths, strict=True)
    return {run.candidates[i].seq: draft.tokens[:length] for (run, i), draft, length in chosen if length}


def _together_first(runs: Sequence[Run]) -> list[Run]:
    """Runs that can be looked at together, side by side; else as they came."""
    groups = dict[object, list[Run]]()
    for run in runs:
        groups.setdefault(run.common or run, []).append(run)
    return [run for group in groups.values() for run in group]


def _continue(run: Run, batch: Batch, drafts: Mapping[int, tuple[int, ...]]) -> Share:
    start, parts = len(batch), list[Part]()
    first = batch.wanted
    for i in run.live:
        candidate = run.candidates[i]
        last = candidate.tokens[-1] if candidate.tokens else run.job.prompt[-1]
        parts.append(Part(i, len(batch) - start, drafts.get(candidate.seq, ())))
        for pos, token in enumerate((last, *parts[-1].draft), run.end(candidate)):
            batch.add(token, pos, (candidate.seq,), wanted=True)
    return Share((run,), 0, slice(first, first + len(batch) - start), tuple(parts))


def _feed(up: list[Run], reading: list[Run], batch: Batch, room: int) -> list[Share]:
    """Prompts of the runs that are up, in their order. What others read as well at the same place is decoded for all at once."""
    shares, at = list[Share](), {run: run.decoded for run in reading}
    for run in up:
        while room and at[run] < len(run.job.prompt):
            mates, end = _together(run, reading, at, at[run] + room)
            start, rows = at[run], batch.wanted
            room -= end - start
            seqs = tuple(seq for mate in mates for seq in mate.seqs)
            batch.extend(run.job.prompt[start : end - run.ends_at(end)], start, seqs)
            parts = list[Part]()
            if run.ends_at(end):
                batch.add(run.job.prompt[-1], end - 1, seqs, wanted=True)
                parts = [Part(i, 0) for i in run.live]
            at.update(dict.fromkeys(mates, end))
            shares.append(Share(mates, end - start, slice(rows, rows + bool(parts)), tuple(parts)))
    return shares


def _together(run: Run, reading: list[Run], at: dict[Run, int], most: int) -> tuple[tuple[Run, ...], int]:
    """The runs that read the same from where this one is, and how far they do. A prompt's last token is for its run alone."""
    start, prompt = at[run], run.job.prompt
    if start == len(prompt) - 1:
        return (run,), start + 1
    end, mates = min(most, len(prompt) - 1), [run]
    for other in reading:
        if other is not run and at[other] == start < len(other.job.prompt) - 1:
            common = min(common_prefix(prompt, other.job.prompt), len(other.job.prompt) - 1)
            if common > start:
                mates.append(other)
                end = min(end, common)
    return tuple(mates), end
