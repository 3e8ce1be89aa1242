"""The claim tables (`data/claims/<lang>.toml`), compiled, and which facts support a claim. Knows no task and no rule.

A claim's `needs` are alternatives, each of them one of
    key            a fact with this key is there (a flag: yes)
    key.level      a fact with this key and level is there
    key.given      a fact with this key is there, and neither is zero nor says no ("No warranty")
    key.says       one of the claim's patterns is in a fact with this key
    key.words      the claim's own words (those of its group `w`, if it has one) are in a fact with this key
    words          one of the claim's patterns, or the word of its group `w`, is in a fact that the model may read
    same           the claim's own words are in a fact that the model may read
    within_budget  the price is at most the budget
    good           an aspect that the shopper rated high
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from edgegen import schema
from edgegen.domain import LANGS, Fact, Kind, Lang, Level, Policy

Found = tuple[int, Fact]  # index of the section in the request, fact

# A shopper's wishes and a search say nothing about a product.
NO_EVIDENCE = frozenset({"likes", "need", "query", "topic", "budget", "source"})
_STOPS = ",.;，。；、"


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """Words that claim something, and the facts that may stand behind them."""

    id: str
    regex: re.Pattern[str]
    needs: tuple[str, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Context:
    """Words before or after a slot, and the marks of the slots that may stand there."""

    id: str
    keys: frozenset[str]
    before: re.Pattern[str] | None
    after: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Lead:
    """What says that an amount is what it is: words right before it, right after it, or anywhere in its clause."""

    before: re.Pattern[str] | None
    after: re.Pattern[str] | None
    clause: re.Pattern[str] | None

    @property
    def only_before(self) -> bool:
        """Whether nothing that may follow the amount matters."""
        return self.after is None and self.clause is None


@dataclass(frozen=True, slots=True)
class NumberRule:
    """A number word and the values that back it; of these kinds only, if any are given."""

    regex: re.Pattern[str]
    low: Decimal
    high: Decimal
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Table:
    """One language's tables. `any_*` match wherever one of the rules does, so that most texts need one pass."""

    claims: tuple[ClaimRule, ...]
    any_claim: re.Pattern[str]
    contexts: tuple[Context, ...]
    any_before: re.Pattern[str]
    any_after: re.Pattern[str]
    leads: Mapping[str, Lead]
    numbers: tuple[NumberRule, ...]
    any_number: re.Pattern[str]
    idioms: re.Pattern[str]
    negation: re.Pattern[str]
    negated_after: re.Pattern[str]
    affirm: re.Pattern[str]
    denial: re.Pattern[str]
    turn: re.Pattern[str]
    several: re.Pattern[str]
    praise: re.Pattern[str]
    blame: re.Pattern[str]
    neutral: re.Pattern[str]
    everyday: frozenset[str]


@cache
def table(lang: Lang) -> Table:
    """The tables of a language."""
    raw = tomllib.loads(files("edgegen").joinpath(f"data/claims/{lang}.toml").read_text("utf-8"))
    edge = r"\b" if lang == "en" else ""
    words: dict[str, list[str]] = raw["words"]
    contexts = raw["context"]
    return Table(
        claims=tuple(ClaimRule(c["id"], _outside(c["patterns"], edge), tuple(c["needs"]), c["example"]) for c in raw["claim"]),
        any_claim=_outside([p.replace("(?P<w>", "(?:") for c in raw["claim"] for p in c["patterns"]], edge),
        contexts=tuple(_context(c, edge) for c in contexts),
        any_before=re.compile(_before([p for c in contexts for p in c.get("before", ())], edge)),
        any_after=re.compile(_either([p for c in contexts for p in c.get("after", ())])),
        leads={lead["key"]: _lead(lead) for lead in raw["lead"]},
        numbers=tuple(_number(n, edge) for n in raw["number"]),
        any_number=_union([n["pattern"] for n in raw["number"]], edge),
        idioms=_union(words["idioms"], edge),
        negation=_union(words["negation"], edge),
        negated_after=re.compile(_either(words["negated_after"])),
        affirm=_union(words["affirm"], edge),
        denial=re.compile(edge + _either(words["denial"]) + "$"),
        turn=re.compile(_either(words["turn"])),
        several=_union(words["several"], edge),
        praise=_union(words["praise"], edge),
        blame=_union(words["blame"], edge),
        neutral=_union(words["neutral"], edge),
        everyday=frozenset(words["everyday"]),
    )


def _either(sources: Iterable[str]) -> str:
    return f"(?:{'|'.join(sources)})"


def _union(sources: Iterable[str], edge: str) -> re.Pattern[str]:
    return re.compile(f"{edge}{_either(sources)}{edge}")


def _outside(sources: Iterable[str], edge: str) -> re.Pattern[str]:
    return re.compile(f"(?<!⟨){edge}{_either(sources)}{edge}")  # the word in a mark claims nothing: ⟨discount⟩


def _before(sources: Iterable[str], edge: str) -> str:
    return f"{edge}{_either(sources)}(?=⟨)"


def _context(raw: dict[str, Any], edge: str) -> Context:
    before, after = raw.get("before"), raw.get("after")
    return Context(
        raw["id"],
        frozenset(raw["keys"]),
        re.compile(_before(before, edge)) if before else None,
        re.compile(_either(after)) if after else None,
    )


def _lead(raw: dict[str, Any]) -> Lead:
    before, after, clause = (raw.get(name) for name in ("before", "after", "clause"))
    return Lead(
        re.compile(_either(before) + "$") if before else None,
        re.compile(_either(after)) if after else None,
        re.compile(_either(clause)) if clause else None,
    )


def _number(raw: dict[str, Any], edge: str) -> NumberRule:
    low = Decimal(raw["low"])
    return NumberRule(_union([raw["pattern"]], edge), low, Decimal(raw.get("high", low)), frozenset(raw.get("kinds", ())))


def support(rule: ClaimRule, match: re.Match[str], facts: Sequence[Found], lang: Lang, negated: bool) -> list[Found]:
    """The facts that bear a claim out, or, where it is negated, the facts that say it is not so."""
    own = match.groupdict().get("w")
    word = own or match.group()
    same = re.compile((r"\b" if lang == "en" else "") + re.escape(word if len(word) < 4 else word.removesuffix("s")))
    regex = same if own else rule.regex
    if negated:
        return [found for found in facts if _denies(rule, regex, found[1], lang)]
    return [found for need in rule.needs for found in _bearing(need, same if need == "same" else regex, same, facts, lang)]


def _bearing(need: str, regex: re.Pattern[str], same: re.Pattern[str], facts: Sequence[Found], lang: Lang) -> list[Found]:
    if need in ("words", "same"):
        return [(i, f) for i, f in facts if f.key not in NO_EVIDENCE and _says(regex, words(f), lang) is True]
    if need == "within_budget":
        return _within_budget(facts)
    if need == "good":
        return [(i, f) for i, f in facts if f.kind is Kind.ASPECT and f.level is Level.HIGH]
    key, _, level = need.partition(".")
    own = [(i, f) for i, f in facts if f.key == key and f.value is not False]
    if level in ("words", "says"):
        return [(i, f) for i, f in own if _says(same if level == "words" else regex, words(f), lang) is True]
    if level == "given":
        return [(i, f) for i, f in own if _given(f)]
    return [(i, f) for i, f in own if not level or f.level == level]


def _says(regex: re.Pattern[str], said: str, lang: Lang) -> bool | None:
    """Whether the words of a fact say it (True), deny it (False: `no warranty`), or are silent on it (None)."""
    found = False
    for match in regex.finditer(said):
        found = True
        start = max((said.rfind(mark, 0, match.start()) for mark in _STOPS), default=-1) + 1
        end = min((at for mark in _STOPS if (at := said.find(mark, match.end())) >= 0), default=len(said))
        denied = table(lang).negation
        if not denied.search(said, start, match.start()) and not denied.search(said[match.end() : end]):
            return True
    return False if found else None


def _given(fact: Fact) -> bool:
    """Whether a fact gives something: a number above zero, words that do not say no."""
    if isinstance(fact.value, Decimal):
        return fact.value > 0
    value = str(fact.value).lower().strip()
    return value not in ("0", "-", "/") and not any(table(known).negation.search(value) for known in LANGS)


def _denies(rule: ClaimRule, regex: re.Pattern[str], fact: Fact, lang: Lang) -> bool:
    if {"words", "same"} & set(rule.needs) and fact.value is False and fact.label:
        return bool(regex.search(fact.label.lower()))
    if "good" in rule.needs and fact.kind is Kind.ASPECT:
        return fact.level is Level.LOW
    keys = {need.partition(".")[0] for need in rule.needs}
    if fact.policy is Policy.READ and fact.kind is not Kind.FLAG and fact.key not in NO_EVIDENCE:
        said_no = _says(regex, words(fact), lang) is False
        return said_no or (fact.key in keys and f"{fact.key}.given" in rule.needs and not _given(fact))
    return fact.key in keys and (fact.value is False or fact.level is Level.LOW or fact.value == 0)


def _within_budget(facts: Sequence[Found]) -> list[Found]:
    budgets = [(i, f) for i, f in facts if f.key == "budget"]
    prices = [(i, f) for i, f in facts if f.key == "price"]
    for budget in budgets:
        for price in prices:
            if price[1].currency == budget[1].currency and _at_most(price[1], budget[1]):
                return [price, budget]
    return []


def _at_most(price: Fact, budget: Fact) -> bool:
    return isinstance(price.value, Decimal) and isinstance(budget.value, Decimal) and price.value <= budget.value


def words(fact: Fact) -> str:
    """The words of a fact that the model may read as true of its subject, in lower case."""
    if fact.value is False:
        return ""
    if fact.kind is Kind.ASPECT:
        return (fact.label or "").lower() if fact.level is Level.HIGH else ""
    known = schema.known()
    label = "" if fact.key in known else (fact.label or fact.key.replace("_", " "))
    if fact.policy is Policy.COPY or fact.kind is Kind.FLAG:
        return label.lower()
    value = " ".join(fact.value) if isinstance(fact.value, tuple) else str(fact.value)
    return f"{label} {value}".lower()


def readable(fact: Fact) -> str:
    """The words of a fact that the model may read, whether it says yes or no, in lower case."""
    return (fact.label or "").lower() if fact.kind in (Kind.FLAG, Kind.ASPECT) else words(fact)
