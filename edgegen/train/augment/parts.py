"""A pair taken apart: the units of its text that can move or go alone, and a pair put together again on other sections. Pure.

Texts stay as pairs write them, slots as `<|vN|>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgegen import slots, tasks
from edgegen.domain import Lang, Section
from edgegen.errors import DataError
from edgegen.train.pairs import Pair
from edgegen.train.prepare import texts
from edgegen.train.prepare.matching import written

BULLETS = ("- ", "• ", "* ", "· ")
_MARK = re.compile(r"<\|v(\d+)\|>")
_OPENS = re.compile(r"[?？:：][\"”’」』]*$")  # what follows answers it
_LINKED = {
    "en": re.compile(
        r"(?:and|but|or|so|yet|still|also|then|next|first|second|third|last|finally|lastly|however|instead|otherwise|besides|"
        r"further|furthermore|moreover|plus|all of|both|either|neither|another|the other|the product|this|that|these|those|"
        r"they|there|here)\b",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        "而|但|不过|可是|所以|因此|因而|于是|还|也|再|又|另|其|最后|然后|接着|首先|随后|同时|此外|除此|并|这|那|它们|两|"
        "都|加上"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """One sentence or line, with those that need it right before them; `gap` stands between it and the next."""

    text: str
    gap: str

    @property
    def marks(self) -> tuple[int, ...]:
        """The numbers of its slots, in order."""
        return marks(self.text)

    @property
    def bullet(self) -> bool:
        """Whether it is a line of a list."""
        return self.text.startswith(BULLETS)


def marks(text: str) -> tuple[int, ...]:
    """The numbers of the slots of a text, in order."""
    return tuple(map(int, _MARK.findall(text)))


def units(text: str, lang: Lang) -> list[Unit]:
    """The units of a text; texts and gaps joined are the text. A question keeps its answer, "but ..." what stands before."""
    found: list[Unit] = []
    for sentence in texts.sentences(text, lang):
        words = sentence.rstrip()
        gap = sentence[len(words) :]
        if found and not words:
            found[-1] = Unit(found[-1].text, found[-1].gap + gap)
            continue
        if found and _joined(found[-1], words, lang):
            before = found.pop()
            words = before.text + before.gap + words
        found.append(Unit(words, gap))
    return found


def _joined(before: Unit, words: str, lang: Lang) -> bool:
    if words.startswith(BULLETS):
        return False
    return bool(_OPENS.search(before.text) or _LINKED[lang].match(words)) or before.text.count('"') % 2 == 1


def joined(found: Sequence[Unit]) -> str:
    """The text of units; what stood between the last one and the next goes."""
    return "".join(unit.text + unit.gap for unit in found).rstrip()


def on(pair: Pair, text: str, sections: Sequence[tuple[int, Section]]) -> Pair | None:
    """The pair with another text, written in the pair's slots, and other sections, each with the index that it has in the pair.

    None where the text needs a fact that they lack, or the task more than they hold.
    """
    task = tasks.get(pair.request.task)
    before = task.prompt(pair.request)
    request = replace(pair.request, sections=tuple(section for _, section in sections))
    try:
        after = task.prompt(request)
    except DataError:
        return None
    place = {old: new for new, (old, _) in enumerate(sections)}
    there = {(s.section, id(s.fact), s.part, s.text): s for s in after.slots}
    moved = [
        segment if isinstance(segment, str)
        else there.get((place.get(segment.section, -1), id(segment.fact), segment.part, segment.text))
        for segment in slots.parse(text, before)
    ]  # fmt: skip
    known = [segment for segment in moved if segment is not None]
    return Pair(request, written(known)) if len(known) == len(moved) else None
