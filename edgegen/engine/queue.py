"""Whose turn it is among those that wait. Pure: it knows no jobs, no clock and no cache, only who came when and who is urgent.

First come, first served, the urgent before the others; who fits may pass who does not. But nobody is passed for ever: one that
so many later comers have passed is due, and then nobody passes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
A = TypeVar("A")

PATIENCE = 8
"""Later comers that may pass one that waits."""


@dataclass(eq=False, slots=True)
class _Place(Generic[T]):
    item: T
    urgent: bool
    passed: int = 0


@dataclass(slots=True)
class Queue(Generic[T]):
    """Items that wait, in the order of their arrival."""

    _places: list[_Place[T]] = field(default_factory=list)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        """The items, first come first."""
        return iter([place.item for place in self._places])

    def add(self, item: T, *, urgent: bool = True) -> None:
        """An item comes."""
        self._places.append(_Place(item, urgent))

    def remove(self, item: T) -> None:
        """An item leaves without its turn. Raises ValueError where it does not wait."""
        del self._places[[place.item for place in self._places].index(item)]

    def take(self, admit: Callable[[T], A | None]) -> tuple[T, A] | None:
        """The next item that is admitted, which leaves, and what `admit` gave for it; None while there is none."""
        for place in sorted(self._places, key=_turn):
            admission = admit(place.item)
            if admission is not None:
                at = self._places.index(place)
                for earlier in self._places[:at]:
                    earlier.passed += 1
                del self._places[at]
                return place.item, admission
            if place.passed >= PATIENCE:
                return None
        return None


def _turn(place: _Place[T]) -> int:
    return 0 if place.passed >= PATIENCE else 1 if place.urgent else 2
