"""How a text is made, whatever it says: that it ends, is not too long, in one language, and repeats nothing. Pure."""

from __future__ import annotations

import re
from collections import Counter

from edgegen.domain import Lang
from edgegen.marked import Mark, Text
from edgegen.patterns import REUSABLE
from edgegen.verdict import Violation

_ENDED = re.compile(r"[.!?。！？…][\"”’」』)）]*$")
_LIST_LINE = re.compile(r"(?:^|\n) *[-•*·] ?[^\n]*$")
_CONTROL = re.compile(r"<\||\|>|[⟨⟩{}]|[\x00-\x09\x0b-\x1f\x7f]")
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_LATIN = re.compile(r"[a-z]{2,}")
_WORD = re.compile(r"[a-z']+")
_STUMBLE = re.compile(r"\b([a-z]+) +\1\b|(?<=\S) {2,}(?=\S)")
# A sentence that stops where its object should stand: "The price is .", "comes with a." A clause of "what it is." may end so, and
# many a sentence with a preposition ("one to go for."), but with these only where something is missing.
_UNTOLD = re.compile(
    r"\b(?:a|an|the|its|their|your|our|my|every|and|or|but|nor|than|per|(?:comes?|equipped|along) with|"
    r"(?:price|size|rating|total|range|choice) of) *[.!?]|\b(?:is|are|was|were|has|have) *[.!]"
)
_INDIRECT = re.compile(r"\b(?:what|how|where|which|who|as|all|that|than)\b")
_PAIRS = ("“”", "「」", "『』", "()", "（）")
_BULLETS = ("- ", "• ", "* ", "· ")
_MARK = re.compile(r"⟨\w+⟩")


def repetition(text: Text) -> list[Violation]:
    """A fact, a line, a sentence or a run of words that stands there again."""
    wrong = said_twice(text)
    lines = [line.strip() for line in text.marked.split("\n") if line.strip()]
    wrong += [Violation("repetition", line, "the same line again") for line, n in Counter(lines).items() if n > 2]
    shown = Counter((text.marked[s.start : s.end].strip(), *(m.slot.index for m in s.marks)) for s in text.sentences)
    wrong += [Violation("repetition", str(key[0]), "the same sentence again") for key, n in shown.items() if n > 1]
    for line in lines:
        wrong += _repeated(line, text.lang)
    stumbles = _STUMBLE.finditer(text.marked) if text.lang == "en" else ()
    return wrong + [Violation("repetition", match.group(), "a word or a space twice in a row") for match in stumbles]


def said_twice(text: Text) -> list[Violation]:
    """Facts that the text shows more than once; names and the like may come again, a brand is news but once."""
    again_fine = REUSABLE - {"brand"}
    once = Counter(m.slot.index for m in text.marks if m.key != "label" and m.slot.fact.key not in again_fine)
    shown = {m.slot.index: m.slot for m in text.marks}
    again = [slot for index, slot in shown.items() if once[index] > 1]
    for line in _lines(text):
        within = Counter(m.slot.index for m in line)
        again += [m.slot for m in line if m.slot.fact.key == "name" and within[m.slot.index] > 1]
    heads = Counter(line[0].slot.index for line in _lines(text) if line and text.marked[: line[0].start].endswith(_BULLETS))
    again += [slot for index, slot in shown.items() if slot.fact.key == "name" and heads[index] > 1]
    return [Violation("repetition", slot.text, "said twice") for slot in again] + _two_heads(text)


def _two_heads(text: Text) -> list[Violation]:
    """Lines of a list that name two products or two recommenders: what follows would be told of the wrong one."""
    wrong = []
    for line in _lines(text):
        heads = {m.slot.section: m for m in line if m.key in ("name", "source")}
        if len(heads) > 1 and text.marked[: line[0].start].endswith(_BULLETS):
            second = max(heads.values(), key=lambda m: m.start).slot.text
            wrong.append(Violation("mixed", second, "a second name in the same line"))
    return wrong


def _lines(text: Text) -> list[list[Mark]]:
    """The slots of each sentence, or of each line of a list."""
    return [list(sentence.marks) for sentence in text.sentences]


def _repeated(line: str, lang: Lang) -> list[Violation]:
    size = 4 if lang == "en" else 6
    grams: set[tuple[str, ...]] = set()
    for run in _MARK.split(line):
        tokens = _WORD.findall(run) if lang == "en" else _HAN.findall(run)
        for at in range(len(tokens) - size + 1):
            gram = tuple(tokens[at : at + size])
            if gram in grams:
                return [Violation("repetition", (" " if lang == "en" else "").join(gram), "the same words again")]
            grams.add(gram)
    return []


def form(text: Text) -> list[Violation]:
    """An end that is none, too many sentences, brackets that do not close, control marks, the wrong language."""
    wrong = _open(text)
    ended = [s for s in text.sentences if not text.marked[s.start : s.end].rstrip().endswith((";", "；"))]
    if len(ended) > text.task.max_sentences:
        wrong.append(Violation("form", "", f"more than {text.task.max_sentences} sentences"))
    literal = text.literal.replace("\x1f", "")
    wrong += [Violation("form", m.group(), "a control mark in the text") for m in _CONTROL.finditer(literal)]
    if text.lang == "en" and literal[:1].islower() and not text.marked.startswith("⟨"):
        wrong.append(Violation("form", literal[:20], "the text begins within a sentence"))
    return wrong + _untold(text) + _language(text, literal)


def _untold(text: Text) -> list[Violation]:
    if text.lang != "en":
        return []
    return [
        Violation("form", match.group(), "the sentence stops before it says anything")
        for match in _UNTOLD.finditer(text.marked)
        if not _INDIRECT.search(text.marked, text.sentence_at(match.start()).start, match.start())
    ]


def _open(text: Text) -> list[Violation]:
    wrong: list[Violation] = []
    whole = text.marked.rstrip()
    if not _ENDED.search(whole) and not _LIST_LINE.search(whole):
        wrong.append(Violation("open", whole[-20:], "the text does not end with a full stop"))
    if any(whole.count(pair[0]) != whole.count(pair[1]) for pair in _PAIRS) or whole.count('"') % 2:
        wrong.append(Violation("open", "", "a quotation mark or bracket is not balanced"))
    return wrong


def _language(text: Text, literal: str) -> list[Violation]:
    han = _HAN.search(literal)
    if text.lang == "en":
        return [Violation("language", han.group(), "Chinese in an English text")] if han else []
    if not han:
        return [Violation("language", literal, "no Chinese in a Chinese text")]
    plain = _MARK.sub(" ", text.marked)
    return [
        Violation("language", m.group(), "English in a Chinese text")
        for m in _LATIN.finditer(plain)
        if m.group() not in text.read_words
    ]
