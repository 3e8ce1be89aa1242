"""Another text for the same facts, by the hand-written plans of the project's corpus; for tasks that have plans."""

from __future__ import annotations

from random import Random

from edgegen import tasks
from edgegen.train.corpus import generate
from edgegen.train.pairs import Pair


def change(pair: Pair, rng: Random) -> Pair | None:
    """The pair with a text by a plan; None where the task has no plans or none of them fits the facts."""
    task = tasks.get(pair.request.task)
    return None if task.choices or task.own else generate.written(pair.request, rng)
