"""Pairs of the corpus to compare and to weigh models by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgegen import tasks as known
from edgegen.domain import LANGS, Lang
from edgegen.errors import DataError
from edgegen.train.pairs import Pair

if TYPE_CHECKING:
    from edgegen.train.corpus.world import Split


def of_corpus(split: Split, count: int, tasks: Sequence[str] = (), languages: Sequence[Lang] = LANGS) -> list[Pair]:
    """So many pairs of each task (all where none is named) and language. Raises DataError where the corpus has none of them."""
    from edgegen.train.corpus import generate  # loads the whole lexicon, which own pairs do without

    taught = [task for task in tasks or known.names() if task not in known.every() or not known.get(task).own]
    if not taught:
        raise DataError(f"The corpus has no texts of {', '.join(tasks)}. Give pairs of your own with --data.")
    return [pair for task in taught for lang in languages for pair in generate.pairs(task, lang, split, count, 1)]
