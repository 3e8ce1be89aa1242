"""Licensing: which facts license a word, learnt from texts that stand beside the facts they tell. Pure.

Where no text of a task says "trending" without that fact, the model may not say it without that fact either, and a word that
no text of the task has cannot be written at all. This narrows what is drawn; whether a text is true, `grounding` decides.

A table gives, for `task.lang`, each token's licensors: features of which one has to be told, none for a token that any text
may have. The features of facts are their keys, `key.level`, `key*2` where there are two, and for keys of a shop's own their
class (`attr`, `is+`, ...). A token in a sentence that has named a product among several, or in a clause that named a recommender
or a reason, is licensed by the facts of that one; before any is named, by all.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgegen import addresses
from edgegen.domain import Fact
from edgegen.slots import Prompt, Slot

FILE = "licensing.json"
Features = frozenset[str]
Licensors = Mapping[int, Features]
Table = Mapping[str, Licensors]
_COVERED = 0.995  # share of a token's occurrences that its licensors explain; the rest is chance
_COMMON = 0.8  # licensors that so many occurrences of any token have say nothing
_MOST = 5  # licensors of a token
_SAMPLE = 400  # occurrences of a token that are looked at


@dataclass(frozen=True)
class Scopes:
    """The features that a prompt shows: all, and those of each section that has others of its label beside it."""

    everything: Features
    of_section: Mapping[int, Features]

    def of(self, section: int | None) -> Features:
        """What licenses a token in a sentence about a section, or about none yet."""
        return self.everything if section is None else self.of_section[section]


def name(prompt: Prompt) -> str:
    """The table's key for a prompt."""
    return f"{prompt.request.task}.{prompt.request.lang}"


def scopes(prompt: Prompt) -> Scopes:
    """The features of what a prompt shows."""
    labels = Counter(section.label for section in prompt.request.sections)
    several = {at for at, section in enumerate(prompt.request.sections) if labels[section.label] > 1}
    alone = [fact for at, facts in enumerate(prompt.plan) for fact in facts if at not in several]
    return Scopes(
        _features(fact for facts in prompt.plan for fact in facts),
        {at: _features([*alone, *prompt.plan[at]]) for at in several},
    )


def _features(facts: Iterable[Fact]) -> Features:
    counts = Counter[str]()
    for fact in facts:
        kind = addresses.class_of(fact)
        counts.update([kind] if fact.level is None else [kind, f"{kind}.{fact.level}"])
    return frozenset(counts) | {f"{kind}*2" for kind, count in counts.items() if count > 1}


@dataclass(frozen=True)
class Ends:
    """Tokens after which a text may turn to another product: the end of a sentence; of a clause, for all but products."""

    sentence: frozenset[int]
    clause: frozenset[int]


def section_of(
    tokens: Sequence[int], slot: Callable[[int], Slot | None], ends: Ends, prompt: Prompt, scopes: Scopes
) -> int | None:
    """The section among several that the tokens have come to speak of, or None where they have named none yet."""
    clause_over = False
    for token in reversed(tokens):
        if token in ends.sentence:
            return None
        clause_over = clause_over or token in ends.clause
        found = slot(token)
        if found is not None and found.section in scopes.of_section:
            item = prompt.request.sections[found.section].label == "item"
            return found.section if item or not clause_over else None
    return None


def allowed(licensors: Features | None, shown: Features) -> bool:
    """Whether a token may be written; `licensors` is None for a token that no text has."""
    return licensors is not None and (not licensors or bool(licensors & shown))


def learn(occurrences: Iterable[tuple[int, Features]]) -> dict[int, Features]:
    """The licensors of every token, from each place where it stands and the features told there."""
    seen: dict[int, Counter[Features]] = defaultdict(Counter)
    base, total = Counter[str](), 0
    for token, shown in occurrences:
        total += 1
        base.update(shown)
        if shown in seen[token] or len(seen[token]) < _SAMPLE:
            seen[token][shown] += 1
    share = {feature: count / total for feature, count in base.items()}
    return {token: _licensors(found, share) for token, found in seen.items()}


def _licensors(found: Counter[Features], share: Mapping[str, float]) -> Features:
    """A few features of which nearly every occurrence has one, each rarer elsewhere; none where there are no such."""
    left, total, chosen = Counter(found), found.total(), set[str]()
    while left.total() > (1 - _COVERED) * total:
        cover = Counter[str]()
        for shown, count in left.items():
            for feature in shown:
                cover[feature] += count
        best = max(cover, key=lambda f: (cover[f] / left.total() - share[f], f), default=None)
        if best is None or len(chosen) == _MOST:
            return frozenset()
        chosen.add(best)
        left = Counter({shown: count for shown, count in left.items() if best not in shown})
    return frozenset(chosen) if sum(share[f] for f in chosen) < _COMMON else frozenset()


def to_text(table: Table) -> str:
    """A table as JSON: for each key, licensors and the tokens that have them."""
    out: dict[str, list[list[object]]] = {}
    for key in sorted(table):
        groups: dict[Features, list[int]] = defaultdict(list)
        for token, licensors in sorted(table[key].items()):
            groups[licensors].append(token)
        out[key] = [[sorted(licensors), tokens] for licensors, tokens in sorted(groups.items(), key=lambda g: sorted(g[0]))]
    return json.dumps(out, separators=(",", ":")) + "\n"


def from_text(text: str) -> Table:
    """The table that `to_text` wrote. Raises ValueError, TypeError or AttributeError for anything else."""
    return {key: dict(_tokens(groups)) for key, groups in json.loads(text).items()}


def _tokens(groups: Iterable[tuple[list[str], list[int]]]) -> Iterator[tuple[int, Features]]:
    for licensors, tokens in groups:
        for token in tokens:
            if not isinstance(token, int) or token < 0:
                raise ValueError(f"{token!r} is not a token")
            yield token, frozenset(licensors)
