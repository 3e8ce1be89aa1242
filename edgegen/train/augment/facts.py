"""The facts of each section shown in another order than the text tells them: the model learns to order them itself.

Meaning representations come in any order; a text of the model need not follow it then.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from edgegen import tasks
from edgegen.train.pairs import Pair


def change(pair: Pair, rng: Random) -> Pair | None:
    """The pair with its facts shown otherwise; None where a text is chosen, which `order` sees to."""
    return None if tasks.get(pair.request.task).choices else replace(pair, shown=rng.randrange(2**32))
