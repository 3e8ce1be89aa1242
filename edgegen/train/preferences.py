"""Which of two texts on one request people, or the reward, prefer: pairs from the feedback store and from n candidates. Pure.

Both texts stand on one prompt, which shows what either tells: only then does what the model thinks of the prompt itself cancel
out, as DPO's derivation needs. Texts on other facts can be told apart, but what they teach is in part which facts to leave out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

from edgegen import grounding, selection, slots, tasks, wire
from edgegen.domain import Fact, Request
from edgegen.errors import EdgegenError
from edgegen.slots import Prompt, Segment
from edgegen.store import Entry, Event
from edgegen.train import reward
from edgegen.train.pairs import Pair
from edgegen.train.prepare import matching

Teach = Literal["truth", "reward"]
TEACHES: tuple[Teach, ...] = get_args(Teach)
GAP = 0.05
"""Two candidates whose rewards are nearer than this are as good as each other."""
_WORSE = 2  # candidates that the best one is set against
_BEST, _WORST = 8, 8  # texts of one request that are compared, so that a frequent one does not count for all


@dataclass(frozen=True, slots=True)
class Preference:
    """Two texts for a request with slots as `<|vN|>`; `why` is how it is known that the first is better."""

    request: Request
    chosen: str
    rejected: str
    why: str

    def pairs(self) -> tuple[Pair, Pair]:
        """Both texts as pairs, the chosen one first."""
        return Pair(self.request, self.chosen), Pair(self.request, self.rejected)


Said = Mapping[tuple[Request, str], Sequence[Event]]
"""What people made of a request's text, its slots as `<|vN|>`."""


@dataclass(slots=True)
class Gathered:
    """Preferences, and how many of each kind there are; `left` counts what could not be used, by reason."""

    found: list[Preference] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    def kinds(self) -> Counter[str]:
        """Preferences by how they are known."""
        return Counter(one.why for one in self.found)


def from_store(entries: Iterable[Entry]) -> Gathered:
    """An edited text over the one that was shown; on the same request an accepted or liked one over a refused or disliked one.

    An edited text is used only where the checks find nothing wrong with it: people write what the facts do not hold.
    """
    out, by_request = Gathered(), dict[Request, tuple[list[str], list[str]]]()
    for entry in entries:
        if not entry.events:
            out.left["nobody said anything"] += 1
            continue
        if entry.shown.slotted is None:
            out.left["slots are not known"] += 1
            continue
        try:
            request = wire.request_from_json(entry.shown.request)
            _edited(entry, request, out)
        except EdgegenError:
            out.left["facts do not fit the task"] += 1
            continue
        liked = _liked(entry)
        if liked is not None:
            good, bad = by_request.setdefault(request, ([], []))
            (good if liked else bad).append(entry.shown.slotted)
    for request, (good, bad) in by_request.items():
        pairs = product(dict.fromkeys(good[-_BEST:]), dict.fromkeys(bad[-_WORST:]))
        out.found += [Preference(request, a, b, "accepted over rejected") for a, b in pairs if a != b]
    return out


def _edited(entry: Entry, request: Request, out: Gathered) -> None:
    edits = [event.text for event in entry.events if event.text is not None]
    if not edits or entry.shown.slotted is None:
        return
    prompt = tasks.get(request.task).prompt(request)
    segments = matching.find(edits[-1].strip(), prompt).segments
    if matching.copied(segments, prompt):
        out.left["edited: a value stands as words"] += 1
    elif not reward.of(segments, prompt).grounded:
        out.left["edited: not what the facts say"] += 1
    elif (text := matching.written(segments)) != entry.shown.slotted:
        out.found.append(Preference(request, text, entry.shown.slotted, "edited over shown"))


def _liked(entry: Entry) -> bool | None:
    """What the last word on a text is; an edit says that it was not good as it was, but nothing of others."""
    kinds = [event.kind for event in entry.events if event.kind in ("accepted", "up", "rejected", "down")]
    return None if not kinds else kinds[-1] in ("accepted", "up")


def said(entries: Iterable[Entry]) -> Said:
    """What a store's entries say of each text whose slots are known."""
    found = dict[tuple[Request, str], list[Event]]()
    for entry in entries:
        if entry.shown.slotted is None:
            continue
        try:
            request = wire.request_from_json(entry.shown.request)
        except EdgegenError:  # `from_store` counts it
            continue
        found.setdefault((request, entry.shown.slotted), []).extend(entry.events)
    return found


def from_candidates(
    prompt: Prompt, candidates: Sequence[list[Segment] | None], teach: Teach = "truth", known: Said | None = None
) -> list[Preference]:
    """The best candidate on a prompt, the first of several, over the two worst that are text.

    The worse ones say something untrue; with `teach` "reward" it is enough that their rewards differ by more than GAP. What
    people made of the very same text (`known`) counts in its reward.
    """
    request = prompt.request
    full = tasks.get(request.task).prompt(request)
    written = ((segments, matching.written(selection.moved(segments, full))) for segments in candidates if segments)
    valued = [(reward.of(segments, prompt, (known or {}).get((request, text), ())), text) for segments, text in written]
    texts = sorted(valued, key=lambda one: -one[0].total)
    best = texts[0][0].total if texts else 0.0
    worse = dict.fromkeys(
        text
        for worth, text in reversed(texts)
        if worth.total < best - GAP and (teach == "reward" or not worth.grounded)
    )
    return [Preference(request, texts[0][1], text, f"best of n by {teach}") for text in list(worse)[:_WORSE]]


def placed(one: Preference) -> tuple[Prompt, list[Segment], list[Segment]]:
    """The one prompt for both texts, and the texts on it. Raises an EdgegenError where a text does not fit the request."""
    task = tasks.get(one.request.task)
    full = task.prompt(one.request)
    texts = [slots.parse(text, full) for text in (one.chosen, one.rejected)]
    if task.choices:
        return full, texts[0], texts[1]
    plans = [selection.told(t, one.request, grounding.claimed(t, full, task), task) for t in texts]
    either = tuple(tuple(_joined(first, second)) for first, second in zip(*plans, strict=True))
    prompt = selection.prompt(one.request, either)
    return prompt, selection.moved(texts[0], prompt), selection.moved(texts[1], prompt)


def _joined(first: Sequence[Fact], second: Sequence[Fact]) -> Iterator[Fact]:
    yield from first
    known = {id(one) for one in first}
    yield from (one for one in second if id(one) not in known)
