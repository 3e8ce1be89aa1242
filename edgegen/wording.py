"""Words for parts, features, materials, origins, colors and flavors: each must be in what the model may read. Pure.

The words are those of the lexicon, so that `dimmable` or `收纳袋` is known for what it is in any sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from edgegen import claims, lexicon
from edgegen.claims import NO_EVIDENCE
from edgegen.domain import Lang
from edgegen.marked import Text
from edgegen.verdict import Violation

_KEYS = ("feature", "material", "origin", "color", "flavor")
_LEAST = {"en": 3, "zh": 2}
_TOKEN = re.compile(r"⟨\w+⟩|[a-z]+|[.,:;!?()\n]")
_HAS = re.compile(
    r"\b(?:has|have|having|with|plus|features?|featuring|offers?|includes?|including) (?:an? |its |the |some )?"
    r"([a-z-]+(?: [a-z-]+){0,2})"
)
_ENDS = frozenset({"for", "of", "and", "or", "to", "in", "at", "from", "that", "which", "is", "on", "by", "as", "it"})
_RUN = re.compile(r"[㐀-䶿一-鿿]{2,}")
_LETTERS = re.compile(r"[^a-z]+")

Words = Mapping[str, tuple[str, ...]]


def unread(text: Text) -> list[Violation]:
    """Words of the lexicon that no fact of the sentence's items holds."""
    found = _chinese(text) if text.lang == "zh" else (*_english(text), *_parts(text))
    return [Violation("claim", word, "no fact of this product says so") for at, word in found if word not in _read(text, at)]


def _read(text: Text, at: int) -> str:
    """What the model may read of the items that the sentence at a position is about, and of what is no item."""
    sections = text.prompt.request.sections
    items = text.sentence_at(at).items
    known = [
        claims.readable(fact)
        for index, fact in text.facts
        if fact.key not in NO_EVIDENCE and (not items or index in items or sections[index].label != "item")
    ]
    joined = "\n".join(known)
    return joined if text.lang == "zh" else f" {_LETTERS.sub(' ', joined)} "


def _english(text: Text) -> Iterator[tuple[int, str]]:
    words = _vocabulary("en")
    tokens = [(m.start(), m.group()) for m in _TOKEN.finditer(text.marked)]
    plain = [word for _, word in tokens]
    skip = 0
    for at, (start, word) in enumerate(tokens):
        for phrase in words.get(word) or words.get(word.removesuffix("s"), ()) if at >= skip else ():
            size = phrase.count(" ") + 1
            if " ".join(plain[at : at + size]).removesuffix("s") == phrase.removesuffix("s"):
                yield start, phrase
                skip = at + size
                break


def _parts(text: Text) -> Iterator[tuple[int, str]]:
    """Nouns of parts after `has a`, `with a` and the like: `has a spout`, where the lexicon has only `gooseneck spout`."""
    for match in _HAS.finditer(text.marked):
        for word in match[1].split(" "):
            noun = word.rpartition("-")[2].removesuffix("s")
            if word in _ENDS:
                break
            if noun in _nouns():
                yield match.start(1), noun
                break


@cache
def _nouns() -> frozenset[str]:
    """The last words of the English features and of what products have, without a plural's s."""
    flags = [flag.word for domain in lexicon.domains().values() for flag in domain.flags if flag.form == "has"]
    features = [pair for domain in lexicon.domains().values() for pair in domain.phrases.get("feature", ())]
    words = (_LETTERS.sub(" ", lexicon.pick(pair, "en").lower()).split() for pair in flags + features)
    return frozenset(parts[-1].removesuffix("s") for parts in words if len(parts) > 1) - claims.table("en").everyday


def _chinese(text: Text) -> Iterator[tuple[int, str]]:
    words = _vocabulary("zh")
    for run in _RUN.finditer(text.marked):
        at = run.start()
        while at < run.end():
            starts = words.get(text.marked[at : at + 2], ())
            phrase = next((w for w in starts if text.marked.startswith(w, at, run.end())), "")
            if phrase:
                yield at, phrase
            at += max(len(phrase), 1)


@cache
def _vocabulary(lang: Lang) -> Words:
    """The phrases by their first word (English) or their first two characters (Chinese), the longest first."""
    out: dict[str, list[str]] = {}
    everyday = claims.table(lang).everyday
    for phrase in sorted(set(_phrases(lang)) - everyday, key=len, reverse=True):
        if len(phrase) >= _LEAST[lang]:
            out.setdefault(phrase.split(" ")[0] if lang == "en" else phrase[:2], []).append(phrase)
    return {first: tuple(phrases) for first, phrases in out.items()}


def _phrases(lang: Lang) -> Iterator[str]:
    for domain in lexicon.domains().values():
        pairs = [flag.word for flag in domain.flags] + [pair for key in _KEYS for pair in domain.phrases.get(key, ())]
        for pair in pairs:
            word = lexicon.pick(pair, lang).lower()
            yield _LETTERS.sub(" ", word).strip() if lang == "en" else word
