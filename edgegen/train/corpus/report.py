"""How varied a corpus is. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_SENTENCE = re.compile(r"(?<=[.!?。！？\n])\s*")
_SLOT = re.compile(r"<\|v\d+\|>")
_TOKEN = re.compile(r"<v>|[^\W_一-鿿]+|[一-鿿]|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Diversity:
    """Figures over texts whose slots count as one and the same token.

    `distinct_texts` and `distinct_4grams` are shares of all, `type_token` distinct tokens per token, `top_sentence` the
    share of the most frequent sentence.
    """

    texts: int
    distinct_texts: float
    distinct_4grams: float
    four_grams: int
    type_token: float
    top_sentence: float
    top_sentence_text: str


def diversity(texts: Iterable[str]) -> Diversity:
    """The figures for some texts, slot marks in them. Texts must not be empty."""
    seen, grams, tokens, sentences = Counter[str](), Counter[tuple[str, ...]](), Counter[str](), Counter[str]()
    for text in texts:
        plain = _SLOT.sub("<v>", text)
        words = _TOKEN.findall(plain)
        seen[plain] += 1
        tokens.update(words)
        grams.update(zip(words, words[1:], words[2:], words[3:], strict=False))
        sentences.update(s.strip() for s in _SENTENCE.split(plain) if s.strip())
    top, often = sentences.most_common(1)[0]
    return Diversity(
        texts=seen.total(),
        distinct_texts=len(seen) / seen.total(),
        distinct_4grams=len(grams) / max(1, grams.total()),
        four_grams=len(grams),
        type_token=len(tokens) / tokens.total(),
        top_sentence=often / sentences.total(),
        top_sentence_text=top,
    )
