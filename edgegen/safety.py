"""Safety: what must not be said or repeated, whatever the facts. Pure; every text is checked with every language's table.

The tables are `data/safety/<lang>.toml`, a list of rules with patterns. Superlatives follow article 9 of China's
Advertising Law, which shops are held to for any text on a product.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from edgegen.domain import LANGS, Fact, Lang, Policy
from edgegen.verdict import Violation

__all__ = ["Violation", "check_text", "safe_fact"]

# Hidden characters: controls other than the line break, zero-width ones, those that turn the writing direction, tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    why: str
    always: bool  # for copied values too: names, ids, quotations
    regex: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Rules:
    each: tuple[_Rule, ...]
    any: re.Pattern[str]


@cache
def _rules(everything: bool) -> tuple[_Rules, ...]:
    return tuple(_load(lang, everything) for lang in LANGS)


def _load(lang: Lang, everything: bool) -> _Rules:
    raw = tomllib.loads(files("edgegen").joinpath(f"data/safety/{lang}.toml").read_text("utf-8"))["rule"]
    kept = [entry for entry in raw if everything or entry["always"]]
    rules = tuple(_Rule(e["id"], e["why"], e["always"], _union(e["patterns"])) for e in kept)
    return _Rules(rules, _union([pattern for entry in kept for pattern in entry["patterns"]]))


def _union(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


def check_text(text: str, lang: Lang) -> tuple[Violation, ...]:
    """What is wrong with a text that edgegen writes, or with words it would repeat. `lang` is the text's own language."""
    del lang  # a Chinese text can hold English words and the reverse: all tables are applied
    return tuple(_violations(text, everything=True))


def safe_fact(fact: Fact) -> bool:
    """Whether a fact may be shown. Copied values, quotations aside, may claim anything but hold no link, contact or abuse."""
    everything = fact.policy is Policy.READ or fact.key == "quote"  # a name may be "Best", a quotation recommends
    texts = [fact.label or "", *(fact.value if isinstance(fact.value, tuple) else [str(fact.value)])]
    return not any(v for text in texts for v in _violations(text, everything))


def _violations(text: str, everything: bool) -> Iterator[Violation]:
    for hidden in _HIDDEN.finditer(text):
        yield Violation("hidden", f"U+{ord(hidden.group()):04X}", "a hidden or control character")
    # Full-width letters and digits must not hide a number or an address.
    plain = unicodedata.normalize("NFKC", text).lower() if not text.isascii() else text.lower()
    for rules in _rules(everything):
        if rules.any.search(plain):
            for rule in rules.each:
                for match in rule.regex.finditer(plain):
                    yield Violation(rule.id, match.group(), rule.why)
