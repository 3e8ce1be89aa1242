"""Other words for the same: lists of phrases that stand for each other in shop texts (`words/en.toml`, `words/zh.toml`).

A phrase may ask for the kind of slot right after it or before it. What a text claims, and of which facts, stays what it was.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from random import Random

from edgegen import marked, slots, tasks
from edgegen.domain import Lang
from edgegen.evaluation import cases
from edgegen.slots import Slot
from edgegen.train.pairs import Pair

_SHARE = 0.5  # of the phrases that have another one are changed
_SHOWN = re.compile(r"⟨\w+:(\d+)⟩")


@dataclass(frozen=True, slots=True)
class Group:
    """Phrases that stand for each other, and what finds them."""

    words: tuple[str, ...]
    regex: re.Pattern[str]


@cache
def groups(lang: Lang) -> tuple[Group, ...]:
    """The lists of a language."""
    raw = tomllib.loads(files("edgegen").joinpath(f"train/augment/words/{lang}.toml").read_text("utf-8"))["group"]
    return tuple(Group(tuple(entry["words"]), _regex(lang, **entry)) for entry in raw)


def _regex(
    lang: Lang, words: Sequence[str], before: Sequence[str] = (), after: Sequence[str] = (), never: str = "", unless: str = ""
) -> re.Pattern[str]:
    """`before` and `after` are keys of the slot that the phrase stands right before or after.

    `never` are characters that must not stand before it, `unless` a pattern that must not follow.
    """
    edge, blank = (r"\b", " ") if lang == "en" else ("", "")
    left = rf"(?P<left>⟨(?:{'|'.join(after)}):\d+⟩{blank})" if after else f"(?P<left>){edge}"
    right = rf"(?={blank}{'(?:an? )?' if blank else ''}⟨(?:{'|'.join(before)}):)" if before else edge
    right += f"(?!{unless})" if unless else ""
    guard = f"(?<![{never}])" if never else ""
    phrases = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.compile(rf"{left}{guard}(?P<phrase>{phrases}){right}", re.IGNORECASE)


def change(pair: Pair, rng: Random) -> Pair | None:
    """The pair in other words; None where no phrase has another or the claims would change."""
    task = tasks.get(pair.request.task)
    if task.choices:
        return None
    prompt = task.prompt(pair.request)
    segments = slots.parse(pair.text, prompt)
    shown = "".join(f"⟨{marked.mark_key(s)}:{s.index}⟩" if isinstance(s, Slot) else s for s in segments)
    for group in groups(pair.request.lang):
        shown = group.regex.sub(partial(_other, words=group.words, rng=rng), shown)
    after = Pair(pair.request, _SHOWN.sub(r"<|v\1|>", shown))
    kept = cases.told(slots.parse(after.text, prompt), prompt).evidence == cases.told(segments, prompt).evidence
    return after if kept and after.text != pair.text else None


def _other(match: re.Match[str], words: Sequence[str], rng: Random) -> str:
    said = match["phrase"]
    others = [phrase for phrase in words if phrase != said.lower()]
    if rng.random() >= _SHARE:
        return match[0]
    chosen = rng.choice(others)
    return match["left"] + (chosen[0].upper() + chosen[1:] if said[0].isupper() else chosen)
