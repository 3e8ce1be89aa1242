"""How varied a corpus is. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from edgegen import schema, slots
from edgegen.slots import Slot
from edgegen.train.pairs import Pair

_SENTENCE = re.compile(r"(?<=[.!?。！？\n])(?!\d)\s*")
_TOKEN = re.compile(r"⟨[^⟩]*⟩|[^\W_一-鿿]+|[一-鿿]|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Diversity:
    """Figures over texts whose slots are written as their fact's key, `⟨price⟩`, so that values add no variety.

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


def delexicalised(pair: Pair) -> str:
    """A pair's text with keys in place of slot marks; a key that the schema does not know is written `attr`."""
    prompt = slots.bind(pair.request)
    return "".join(s if isinstance(s, str) else f"⟨{_key(s)}⟩" for s in slots.parse(pair.text, prompt))


def as_read(pair: Pair) -> str:
    """A pair's text as a reader sees it, values included."""
    return slots.render(slots.parse(pair.text, slots.bind(pair.request)), pair.request.lang)


def _key(slot: Slot) -> str:
    known = slot.fact.key if slot.fact.key in schema.known() else slot.fact.kind.value
    return known if slot.part == "value" else f"{known}:{slot.part}"


def diversity(texts: Iterable[str]) -> Diversity:
    """The figures for some texts, at least one (see `delexicalised`)."""
    seen, grams, tokens, sentences = Counter[str](), Counter[tuple[str, ...]](), Counter[str](), Counter[str]()
    for text in texts:
        words = _TOKEN.findall(text)
        seen[text] += 1
        tokens.update(words)
        grams.update(zip(words, words[1:], words[2:], words[3:], strict=False))
        sentences.update(s.strip() for s in _SENTENCE.split(text) if s.strip())
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
