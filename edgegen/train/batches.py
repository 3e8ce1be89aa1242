"""In which order examples are learnt: batches of like lengths, in random order, tasks mixed by a temperature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class MixedBatches(Sampler[int]):
    """Batches of like lengths in random order.

    transformers' sampler gives them from long to short, fifty batches at a time. Where length goes with the task, as here, the
    model then learns one kind of text and forgets the other, fifty steps each (docs/log.md, 2026-11-25).
    """

    def __init__(self, batch: int, lengths: list[int], seed: int, counts: dict[str, tuple[list[int], int]] | None = None) -> None:
        """`counts` gives the examples of each group and how many to draw of them in an epoch; None takes each once."""
        super().__init__()
        self._batch, self._lengths, self._seed, self._epoch = batch, lengths, seed, 0
        self._counts = counts

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for each epoch, the same after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(count for _, count in self._counts.values()) if self._counts else len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        drawn = self._drawn(generator)
        lengths = [self._lengths[index] for index in drawn]
        grouped = [drawn[at] for at in LengthGroupedSampler(self._batch, lengths=lengths, generator=generator)]
        batches = [grouped[at : at + self._batch] for at in range(0, len(grouped), self._batch)]
        whole = [batch for batch in batches if len(batch) == self._batch]
        order = torch.randperm(len(whole), generator=generator).tolist()
        yield from (index for at in order for index in whole[at])
        yield from (index for batch in batches if len(batch) < self._batch for index in batch)

    def _drawn(self, generator: torch.Generator) -> list[int]:
        """The examples of an epoch: of each group as often each as its count allows, the rest at random."""
        if self._counts is None:
            return list(range(len(self._lengths)))
        drawn = list[int]()
        for members, count in self._counts.values():
            rest = torch.randperm(len(members), generator=generator)[: count % len(members)].tolist()
            drawn += members * (count // len(members)) + [members[at] for at in rest]
        return drawn


def mixed(groups: Sequence[str], temperature: float) -> dict[str, tuple[list[int], int]] | None:
    """The examples of each group, and how many an epoch of the same size draws of them: in proportion to n ** (1 / temperature).

    None at temperature 1, which takes each once.
    """
    if temperature == 1:
        return None
    sizes = Counter(groups)
    shares = {group: size ** (1 / temperature) for group, size in sizes.items()}
    total = sum(shares.values())
    members: dict[str, list[int]] = {group: [] for group in sizes}
    for index, group in enumerate(groups):
        members[group].append(index)
    return {group: (members[group], max(1, round(len(groups) * shares[group] / total))) for group in sizes}
