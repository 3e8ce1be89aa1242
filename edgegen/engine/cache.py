"""Accounts for the cells and sequences of the cache: who holds which tokens, what is shared, what a new job may still have.

Pure: it changes only its own books, and says which calls make the backend's cache agree with them. A job is admitted only
when the cells for all that it may ever hold are sure; prompts that are kept for later give way, the longest unused first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from edgegen.engine.backend import Backend

_KEPT = 8  # what is kept takes one in so many cells: each step of all others looks at them too
_LEFT_BY_BATCH = 4  # a batch job leaves one in so many sequences and cells to shoppers


@dataclass(frozen=True, slots=True)
class Fork:
    """Let an empty sequence share the first tokens of another."""

    src: int
    dst: int
    upto: int

    def apply(self, backend: Backend) -> None:
        """Do it."""
        backend.fork(self.src, self.dst, self.upto)


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget a sequence's tokens from a position on."""

    seq: int
    from_pos: int = 0

    def apply(self, backend: Backend) -> None:
        """Do it."""
        backend.drop(self.seq, self.from_pos)


Call = Fork | Drop


@dataclass(eq=False, slots=True)
class Lease:
    """What one run, or one prompt that is kept, holds of the cache."""

    tokens: Sequence[int]
    """The prompt, from the first position on."""
    spans: tuple[tuple[int, int], ...]
    """Whose cells the tokens are in: a writer and the position where its cells end, from the first to its own."""
    seqs: list[int]
    each: int = 0
    """Cells that each sequence may fill beyond the tokens."""
    ready: int = 0
    """So many of the tokens are decoded."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A lease for a new run, and the calls that give it to the run, in order."""

    lease: Lease
    shared: int
    """Tokens of the prompt that it need not decode alone. Those after `lease.ready` are of a run that decodes them now."""
    calls: tuple[Call, ...]


@dataclass(slots=True)
class Cache:
    """The books of a cache of `cells` cells and `sequences` sequence ids."""

    cells: int
    sequences: int
    running: list[Lease] = field(default_factory=list)
    kept: list[Lease] = field(default_factory=list)
    """Prompts of runs that ended, the longest unused first."""
    _writers: int = 0

    @property
    def most(self) -> int:
        """Sequences that runs may have together: at least one is left for prompts that are kept."""
        return max(1, self.sequences - max(1, self.sequences // 3))

    @property
    def busy(self) -> int:
        """Sequences of the runs."""
        return sum(len(lease.seqs) for lease in self.running)

    @property
    def used(self) -> int:
        """Cells that are taken or promised, in all."""
        return _cells([*self.running, *self.kept])

    def admit(
        self, prompt: Sequence[int], n: int, each: int, *, batch: bool = False, fresh: bool = False
    ) -> Admission | None:
        """Room for a prompt and `n` texts of `each` cells; None while there is not enough.

        A `fresh` one shares nothing, and what is kept goes first where nobody else runs.
        """
        leaves = bool(batch and self.running)
        if n > self.most - self.busy - leaves * (self.most // _LEFT_BY_BATCH):
            return None
        room = self.cells - leaves * (self.cells // _LEFT_BY_BATCH)
        if n * each >= room - sum(lease.each * len(lease.seqs) for lease in self.running):
            return None  # a quick look, without comparing prompts
        source, shared = (None, 0) if fresh else self._best(prompt)
        self._writers += 1
        lease = Lease(prompt, (*_cut(source, shared), (self._writers, len(prompt))), [-1] * n, each)
        if _cells([*self.running, lease]) > room:
            return None
        gone = tuple(Drop(old.seqs[0]) for old in self.kept) if fresh and not self.running else ()
        if gone:
            self.kept.clear()
        admission = self._grant(lease, source, shared)
        return replace(admission, calls=(*gone, *admission.calls))

    def _best(self, prompt: Sequence[int]) -> tuple[Lease | None, int]:
        """Who shares most with a prompt.

        The last token of a prompt is decoded for each run, because its logits are not kept, and is shared only afterwards.
        """
        best: tuple[Lease | None, int] = (None, 0)
        for leases, own in ((self.kept, 0), (self.running, 1)):
            for lease in leases:
                n = min(common_prefix(prompt, lease.tokens), len(lease.tokens) - own, len(prompt) - 1)
                if n > best[1]:
                    best = lease, n
        return best

    def _grant(self, lease: Lease, source: Lease | None, shared: int) -> Admission:
        self.running.append(lease)
        if source in self.kept:
            self.kept.remove(source)
            self.kept.append(source)
        gone = list[Lease]()
        while self.kept and (self.used > self.cells or len(self._free()) < len(lease.seqs)):
            gone.append(self.kept.pop(0))
        lease.seqs[:] = [seq for seq in self._free() if source not in gone or seq != source.seqs[0]][: len(lease.seqs)]
        calls: list[Call] = [Drop(old.seqs[0]) for old in gone if old is not source]
        if source is not None:
            lease.ready = min(shared, source.ready)
            calls += [Fork(source.seqs[0], seq, lease.ready) for seq in lease.seqs if lease.ready]
            calls += [Drop(source.seqs[0])] if source in gone else []
        return Admission(lease, shared, tuple(calls))

    def _free(self) -> list[int]:
        taken = {seq for lease in (*self.running, *self.kept) for seq in lease.seqs}
        return [seq for seq in range(self.sequences) if seq not in taken]

    def shrink(self, lease: Lease, seq: int) -> tuple[Call, ...]:
        """A run gives one of its sequences back."""
        lease.seqs.remove(seq)
        return (Drop(seq),)

    def keep(self, lease: Lease, seq: int, tokens: Sequence[int]) -> tuple[Call, ...]:
        """A run ends, and the tokens that one of its sequences holds are kept for prompts that begin so; none for nothing."""
        self.running.remove(lease)
        others = tuple(Drop(other) for other in lease.seqs if other != seq)
        known = next((old for old in self.kept if common_prefix(old.tokens, tokens) == len(tokens)), None)
        if known is not None or not tokens or self.sequences == 1:
            self.kept.sort(key=lambda old: old is known)  # the one that is known is the last now
            return (*others, Drop(seq))
        gone = [old for old in self.kept if common_prefix(old.tokens, tokens) == len(old.tokens)]
        kept = Lease(tokens, _cut(lease, len(tokens)), [seq], ready=len(tokens))
        self.kept = [*(old for old in self.kept if old not in gone), kept]
        while len(self.kept) > 1 and _cells(self.kept) > self.cells // _KEPT:
            gone.append(self.kept.pop(0))
        return (*others, Drop(seq, len(tokens)), *(Drop(old.seqs[0]) for old in gone))


def _cut(lease: Lease | None, upto: int) -> tuple[tuple[int, int], ...]:
    """The spans of a lease up to a position, the last as long as it must be."""
    spans, start = list[tuple[int, int]](), 0
    for writer, end in lease.spans if lease is not None else ():
        if start < upto:
            spans.append((writer, min(end, upto)))
        start = end
    return (*spans[:-1], (spans[-1][0], upto)) if spans else ()


def _cells(leases: Iterable[Lease]) -> int:
    """Cells of all leases together. A writer's cells begin at one place, and all who share them have the first of them."""
    starts, ends, own = dict[int, int](), dict[int, int](), 0
    for lease in leases:
        at = 0
        for writer, end in lease.spans:
            starts[writer] = at
            ends[writer] = max(end, ends.get(writer, 0))
            at = end
        own += lease.each * len(lease.seqs)
    return sum(ends.values()) - sum(starts.values()) + own


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two prompts begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # by halves, because slices are compared in C
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
