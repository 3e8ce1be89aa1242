"""Pairs of the corpus to compare and to weigh models by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgegen import tasks as known
from edgegen.domain import LANGS, Lang
from edgegen.train.pairs import Pair

if TYPE_CHECKING:
    from edgegen.train.corpus.world import Split


def of_corpus(split: Split, count: int, tasks: Sequence[str] = (), languages: Sequence[Lang] = LANGS) -> list[Pair]:
    """So many pairs of each task (all where none is named) and language."""
    from edgegen.train.corpus import generate  # loads the whole lexicon, which own pairs do without

    return [
        pair for task in tasks or known.names() for lang in languages for pair in generate.pairs(task, lang, split, count, 1)
    ]  # fmt: skip
