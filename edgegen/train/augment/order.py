"""Another order: sentences or lines of a list change places, and with them the facts and the sections that the prompt shows.

A prompt shows facts in the order in which the text tells them (`edgegen.selection.told`), so facts cannot change places without
their sentences; but those that only steer a text, or by which one is chosen, can. Sections go with their sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from edgegen import tasks
from edgegen.domain import Request, Section
from edgegen.slots import Slot
from edgegen.train.augment import parts
from edgegen.train.augment.parts import Unit
from edgegen.train.pairs import Pair


def change(pair: Pair, rng: Random) -> Pair | None:
    """The pair in another order; None where there is none."""
    sections = [(at, replace(s, facts=tuple(rng.sample(s.facts, len(s.facts))))) for at, s in enumerate(pair.request.sections)]
    task = tasks.get(pair.request.task)
    if task.choices:
        return parts.on(pair, pair.text, sections)
    shown = {slot.index: slot for slot in task.prompt(pair.request).slots}
    text = parts.joined(_moved(parts.units(pair.text, pair.request.lang), shown, pair.request, rng))
    owner = {index: slot.section for index, slot in shown.items()}
    return parts.on(pair, text, _following(sections, _first_told(pair.text, owner), _first_told(text, owner)))


def _moved(found: Sequence[Unit], shown: Mapping[int, Slot], request: Request, rng: Random) -> list[Unit]:
    """Units change places with those that tell of the same kinds of sections; what names the only product stays."""
    listed, alone = any(unit.bullet for unit in found), len(request.labelled("item")) == 1
    places: dict[frozenset[str], list[int]] = {}
    for at, unit in enumerate(found):
        told = [shown[mark] for mark in unit.marks if mark in shown]
        named = alone and any(slot.fact.key == "name" for slot in told)
        if unit.bullet if listed else at > 0 and not named:
            places.setdefault(frozenset(request.sections[slot.section].label for slot in told), []).append(at)
    out = list(found)
    for labels, free in places.items():
        for at, source in zip(free, rng.sample(free, len(free)) if labels else free, strict=True):
            out[at] = Unit(found[source].text, found[at].gap)
    return out


def _first_told(text: str, owner: dict[int, int]) -> list[int]:
    """The sections of a text's slots, in the order of telling."""
    return list(dict.fromkeys(owner[mark] for mark in parts.marks(text) if mark in owner))


def _following(sections: list[tuple[int, Section]], before: list[int], after: list[int]) -> list[tuple[int, Section]]:
    """The sections, those of one label that the text told in their order in the order in which it now tells them."""
    out = list(sections)
    for label in {section.label for _, section in sections}:
        own = [at for at in before if sections[at][1].label == label]
        if own == sorted(own):
            for place, source in zip(own, (at for at in after if at in own), strict=True):
                out[place] = sections[source]
    return out
