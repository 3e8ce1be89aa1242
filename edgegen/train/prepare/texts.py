"""Texts before anything is looked for in them: made plain, split in sentences, searched for what must not be trained on. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from edgegen import catalog_read
from edgegen.domain import Lang

_SENTENCE = {
    "en": re.compile(r"(?<=[.!?])[\"”’')\]]*\s+(?=\S)|\n+"),
    "zh": re.compile(r"(?<=[。！？；!?])[”’」』）]*(?=[^。！？；!?”’」』）])|\n+"),
}
_ENDED = re.compile(r"[.!?。！？…][\"”’」』)）]*$")
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_WORD = re.compile(r"[㐀-䶿一-鿿]|[^\W_㐀-鿿]+")
_START = re.compile(r"(?:^|[.!?]\s+|\n)([a-z])")
_PLACEHOLDER = re.compile(r"<[A-Za-z_]{2,}>|\[(?:[A-Z_]{3,}|unk)\]|\{\{?\w+\}?\}|�|\b(?:lorem ipsum|TODO|TBD)\b")
_BRAND = re.compile(r"(?<![A-Za-z])BRAND(?![A-Za-z])")
_TAG = re.compile(r"</?(?:p|br|b|i|em|strong|span|div|ul|li|h\d|a|font|img)\b[^<>]*>", re.IGNORECASE)

_PHONES = (
    r"(?<![\d.])(?:\+\d{1,3}[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)",
    r"(?<![\d.+-])(?:\+?1[-. ])?\(?[2-9]\d{2}\)?[-. ]\d{3}[-. ]\d{4}(?![\d-])",
    r"\+\d{1,3}[ -]?\(?\d{1,4}\)?(?:[ -]?\d{2,4}){2,4}(?!\d)",
    r"(?<!\d)0\d{2,3}-\d{7,8}(?!\d)",
    r"(?<!\d)[48]00[ -]\d{3}[ -]?\d{4}(?!\d)",
)
_IDENTITIES = (
    r"(?<!\d)[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\d)",
    r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])",
    r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
)
_STREETS = (
    r"\b\d{1,5} (?:[A-Z]\w+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct)\b\.?",
    r"[一-鿿]{2,8}(?:路|街|巷|弄)\s?\d{1,5}\s?号",
    r"\d{1,3}\s?(?:号楼|栋|单元)\s?\d{2,4}\s?(?:室|号)",
)
_PRIVATE = {
    "a phone number": re.compile("|".join(_PHONES)),
    "an e-mail address": re.compile(r"[\w.+-]+\s?@\s?[\w-]+\s?\.\s?[a-z]{2,}", re.IGNORECASE),
    "an identity number": re.compile("|".join(_IDENTITIES)),
    "a street address": re.compile("|".join(_STREETS)),
    "an IP address": re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
}
_JOINER = {
    "en": re.compile(r"^(?:(?:Also|Moreover|Besides|Furthermore|However|In addition|What is more),|And|But|So) +"),
    "zh": re.compile(
        r"^(?:更值得一提的是|值得一提的是|除此之外|不仅如此|与此同时|此外|另外|同时|而且|并且|再加上|加上|所以|因此)[，,]?"
    ),
}
_JOINTS = frozenset({
    "a", "an", "the", "and", "or", "with", "without", "of", "in", "on", "is", "are", "has", "have", "it", "its", "no", "not",
    "for", "to",
})  # fmt: skip
_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){13,19}(?!\d)")


def tidy(text: str) -> str:
    """A text without markup, control characters and doubled blanks; its lines stay."""
    text = _TAG.sub(" ", html.unescape(text))
    lines = (catalog_read.clean(line) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def language(text: str) -> Lang:
    """Chinese where at least a fifth of the letters are, else English."""
    letters = [char for char in text if char.isalpha()]
    return "zh" if letters and sum(bool(_HAN.match(c)) for c in letters) >= len(letters) / 5 else "en"


def size(text: str) -> int:
    """Words of a text, Chinese characters each counted as one."""
    return len(_WORD.findall(text))


def sentences(text: str, lang: Lang) -> list[str]:
    """The sentences of a text, each with the blank or the line break after it, so that joined they are the text."""
    out, at = [], 0
    for match in _SENTENCE[lang].finditer(text):
        if match.end() > at:
            out.append(text[at : match.end()])
            at = match.end()
    return [*out, text[at:]] if at < len(text) else out


def ended(text: str, lang: Lang) -> str:
    """The text with a full stop where it has no end, spaced as the text spaces its other marks."""
    text = text.rstrip()
    if _ENDED.search(text):
        return text
    text = text.rstrip(",;:，；：、~～-")
    return text.rstrip() + ("。" if lang == "zh" else " ." if re.search(r"\w [.,?!]", text) else ".")


def begun(text: str, lang: Lang) -> str:
    """A text whose first sentence went, without the word that joined the next one to it."""
    rest = _JOINER[lang].sub("", text, count=1)
    return rest[:1].upper() + rest[1:] if lang == "en" else rest


def lowered(texts: Iterable[str]) -> bool:
    """Whether a set of texts is written without capitals throughout."""
    seen = [text for text in texts if any(c.isascii() and c.isalpha() for c in text)]
    return bool(seen) and sum(text != text.lower() for text in seen) <= len(seen) / 100


def capitalised(text: str) -> str:
    """The text with a capital at the start of each sentence and in "I"."""
    text = _START.sub(lambda match: match.group()[:-1] + match[1].upper(), text)
    return re.sub(r"(?<![\w'’])i(?=['’]| [a-z])", "I", text)


def unbranded(text: str) -> str:
    """The text without the word that stands where a brand has been taken out."""
    return _BRAND.sub("", text)


def placeholder(text: str) -> str | None:
    """A mark that stands for words which are not there."""
    match = _PLACEHOLDER.search(text)
    return match.group() if match else None


def private(text: str) -> str | None:
    """What kind of personal data a text holds, or None."""
    found = next((what for what, pattern in _PRIVATE.items() if pattern.search(text)), None)
    return found or ("a card number" if any(_luhn(match.group()) for match in _CARD.finditer(text)) else None)


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdecimal()]
    doubled = [d * 2 - 9 * (d > 4) if at % 2 else d for at, d in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def restates(text: str, known: Sequence[str]) -> bool:
    """Whether a text is the data written out, `name X type Y price Z`: nothing but the words of facts and keys."""
    words = _WORD.findall(text.lower().replace("_", " "))
    theirs = {*_WORD.findall(" ".join(known).lower().replace("_", " ")), *("".join(name.lower().split()) for name in known)}
    other = [word for word in words if word not in theirs or word in _JOINTS]
    return len(words) > 3 and len(other) <= len(words) / 12
