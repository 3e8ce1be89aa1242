"""More pairs out of those that there are: each way to change a pair is a file here, pure and seeded.

A copy is kept where it is as true as its pair (`check`) and says nothing that another pair says already. The same pairs, ways
and seed give the same copies, whatever the order of the pairs, so an interrupted training goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from edgegen.errors import OptionError
from edgegen.train.augment import check, dropout, facts, order, plans, synonyms
from edgegen.train.pairs import Pair
from edgegen.train.prepare import duplicates
from edgegen.train.prepare.options import PrepareOptions

NONE = "none"
WAYS: Mapping[str, Callable[[Pair, Random], Pair | None]] = {
    "plans": plans.change, "dropout": dropout.change, "order": order.change, "synonyms": synonyms.change,
    "facts": facts.change,
}  # fmt: skip
"""By name, in the order in which they are applied."""
_TRIES = 3


def parse(text: str) -> tuple[str, ...]:
    """Names joined by `,` or `+`; none for "none". Raises OptionError for an unknown one."""
    names = tuple(name for name in text.replace("+", ",").split(",") if name and name != NONE)
    check_names(names)
    return names


def check_names(names: Sequence[str]) -> None:
    """Raise OptionError for a way that there is not."""
    if unknown := [name for name in names if name not in WAYS]:
        raise OptionError(f"augment must be {NONE} or some of {', '.join(WAYS)}, got {unknown[0]!r}")


def augmented(pairs: Sequence[Pair], ways: Sequence[str], copies: int, seed: int, held: Sequence[Pair] = ()) -> list[Pair]:
    """The pairs, and up to `copies` changed ones of each, in which every named way was tried.

    `held` are never changed, and no copy says of the same facts what one of them says.
    """
    if not ways:
        return list(pairs)
    found = [(pair, made) for pair in pairs for made in (None, *_copies(pair, ways, copies, seed))]
    told = [*map(check.seen, held), *(check.seen(made or pair) for pair, made in found)]
    again = list(duplicates.repeated(told, PrepareOptions.alike))[len(held) :]
    return [made or pair for (pair, made), said in zip(found, again, strict=True) if made is None or said is None]


def _copies(pair: Pair, ways: Sequence[str], copies: int, seed: int) -> Iterator[Pair]:
    for number in range(copies):
        made = copy(pair, ways, Random(f"{seed}/{number}/{pair.digest}"))
        if made is not pair:
            yield made


def copy(pair: Pair, ways: Sequence[str], rng: Random) -> Pair:
    """The pair changed in all the named ways that find something to change and leave it true; itself where none does."""
    made, faults = pair, check.faults(pair)
    for name in WAYS:
        for _ in range(_TRIES if name in ways else 0):
            changed = WAYS[name](made, rng)
            if changed is not None and check.seen(changed) != check.seen(made) and check.faults(changed) <= faults:
                made = changed
                break
    return made
