"""One text and its facts: a pair to train on, repaired where a rule can, or the reason why not. Pure.

A text is true where the checks that guard every text at run time find nothing (`edgegen.grounding`): what they would hold
back must not be taught. A sentence that fails alone is cut out; a text that still fails is set aside with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgegen import grounding, safety, slots, tasks
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.errors import EdgegenError
from edgegen.slots import Prompt, Segment, Slot, label_of
from edgegen.tasks import Task
from edgegen.train.pairs import Pair
from edgegen.train.prepare import forms, matching, texts
from edgegen.train.prepare.options import PrepareOptions

_ARTICLE = re.compile(r"\ban?\b")
_CAPITALS, _STOP = "capitals added", "full stop added"
_WHOLE = frozenset({"missing", "open", "form", "repetition"})  # rules that say nothing about a sentence alone
_LOWER = "the text begins within a sentence"


@dataclass(frozen=True, slots=True)
class Draft:
    """A text as a row has it, with the facts it goes with. `group` is what must not be in two splits."""

    row: int
    text: str
    request: Request
    group: tuple[str, ...]
    facts: str
    """The facts in one canonical text, to tell whether two drafts have the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a draft: a pair, or the reason it is set aside and the words that are to blame.

    `repairs` name what was changed, `told` and `facts` count facts that the text shows and all that it could, `rewritten` are
    values that the text wrote another way. A draft that was set aside may have a `pair` too: what it would have been.
    """

    draft: Draft
    pair: Pair | None = None
    reason: str | None = None
    words: str = ""
    repairs: tuple[str, ...] = ()
    told: int = 0
    facts: int = 0
    missing: tuple[str, ...] = ()
    rewritten: tuple[tuple[str, str], ...] = ()
    exact: bool = False

    @property
    def kept(self) -> bool:
        """Whether it is to be trained on."""
        return self.reason is None


@dataclass
class Values:
    """The values that each key has anywhere in the data, so that a text which tells another one can be told."""

    by_key: dict[str, dict[str, Fact]] = field(default_factory=dict)

    def add(self, request: Request) -> None:
        """Take in a request's values."""
        for section in request.sections:
            for fact in section:
                if fact.kind is Kind.PHRASE and section.label == "item":
                    self.by_key.setdefault(fact.key, {}).setdefault(str(fact.value), fact)

    def others(self, fact: Fact) -> Sequence[Fact]:
        """The other values of a fact's key, where the key is one of few values."""
        found = self.by_key.get(fact.key, {})
        return [other for value, other in found.items() if value != fact.value] if len(found) <= _FEW else []


_FEW = 40


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all texts of a set."""

    options: PrepareOptions
    values: Values
    lowered: bool = False
    """The texts are written without capitals."""


def judge(draft: Draft, rules: Rules) -> Outcome:
    """What becomes of a draft."""
    task, lang = tasks.get(draft.request.task), draft.request.lang
    if why := texts.private(draft.text):
        return Outcome(draft, reason="personal data", words=why)
    request = _safe(draft.request)
    try:
        prompt = task.prompt(request)
    except EdgegenError as error:
        return Outcome(draft, reason="facts do not fit the task", words=str(error))
    if texts.restates(draft.text, _known(prompt)) and lang == "en":
        return Outcome(draft, reason="restates the data", words=draft.text)
    text, repairs = _repaired(draft.text, rules, lang)
    if not text:
        return Outcome(draft, reason="placeholder", words=texts.placeholder(draft.text) or "")
    whole = _found(text, prompt, task, draft, repairs)
    wrong = _wrong(whole, prompt, task, rules)
    if not wrong:
        return _settled(whole, prompt, task, rules)
    reason, words = wrong
    if rules.options.unsupported == "cut" and (short := _cut(text, prompt, task, rules)):
        cut = _found(short, prompt, task, draft, (*repairs, f"cut: {reason}"))
        if cut.told and not _lost(whole, cut) and not _wrong(cut, prompt, task, rules):
            return _settled(cut, prompt, task, rules)
    return replace(whole, reason=reason, words=words)


def _lost(whole: Outcome, cut: Outcome) -> bool:
    """Whether a text that is to tell all, or a product's name, has lost a fact with the sentences cut out."""
    all_told = any(fact.key == "act" for section in whole.draft.request.labelled("act") for fact in section)
    return cut.told < whole.told if all_told else "name" in set(cut.missing) - set(whole.missing)


def _safe(request: Request) -> Request:
    sections = (Section(s.label, tuple(f for f in s if safety.safe_fact(f))) for s in request.sections)
    return replace(request, sections=tuple(sections))


def _known(prompt: Prompt) -> list[str]:
    facts = [fact for section in prompt.request.sections for fact in section]
    return (
        [slot.text for slot in prompt.slots]
        + [fact.key for fact in facts]
        + [label_of(fact) or "" for fact in facts]
        + ["true false type"]
    )


def _repaired(text: str, rules: Rules, lang: Lang) -> tuple[str, tuple[str, ...]]:
    """A text without placeholders, with an end and, where the set lacks them, capitals; and what was done to it."""
    steps: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("placeholder for a brand taken out", texts.unbranded),
        ("cut: placeholder", lambda said: "".join(s for s in texts.sentences(said, lang) if not texts.placeholder(s)).strip()),
        (_STOP, lambda said: texts.ended(said, lang) if said else said),
        (_CAPITALS, lambda said: texts.capitalised(said) if rules.lowered else said),
    )
    repairs = []
    for name, step in steps:
        before, text = text, step(text)
        repairs += [name] if text != before else []
    return text, tuple(repairs)


def _found(text: str, prompt: Prompt, task: Task, draft: Draft, repairs: tuple[str, ...]) -> Outcome:
    found = matching.find(text, prompt, task.given)
    segments = tuple(matching.slots_only(found.segments))
    lost = matching.untold(prompt, found, task.given)
    seen = slots.render(segments, prompt.request.lang)
    read, given = _as_written(seen, repairs), draft.text.lower() if _CAPITALS in repairs else draft.text
    if read != given and _ARTICLE.sub("a", read) == _ARTICLE.sub("a", given):
        repairs = (*repairs, "article made to agree")
    exact = read == given
    pair = Pair(prompt.request, matching.written(segments), draft.text)
    total = sum(len(s.facts) for s in prompt.request.sections if s.label not in task.given)
    names = tuple(fact.key for fact in lost)
    return Outcome(draft, pair, None, "", repairs, total - len(lost), total, names, found.rewritten, exact)


def _as_written(text: str, repairs: Sequence[str]) -> str:
    """A text without the capitals and the full stop that were added."""
    text = text.lower() if _CAPITALS in repairs else text
    return text.rstrip(" .。") if _STOP in repairs else text


def _wrong(outcome: Outcome, prompt: Prompt, task: Task, rules: Rules) -> tuple[str, str] | None:
    """The first thing that the text says and its facts do not, or None."""
    segments = _segments(outcome, prompt)
    skipped = _WHOLE | ({"claim"} if rules.options.unsupported == "keep" else frozenset())
    for found in grounding.check(segments, prompt, task).violations:
        if found.rule not in skipped:
            return found.rule, found.text
    literal = "".join(s for s in segments if isinstance(s, str))
    for found in safety.check_text(literal, prompt.request.lang):
        return found.rule, found.text
    if left := matching.copied(segments, prompt):
        return "copied value as words", left[0]
    return _another(segments, prompt, outcome, rules)


def _another(segments: Sequence[Segment], prompt: Prompt, outcome: Outcome, rules: Rules) -> tuple[str, str] | None:
    """A fact that the text does not show, and another value of its key, or words that tell it in another way."""
    literal = "\x1f".join(s for s in segments if isinstance(s, str))
    for section in prompt.request.labelled("item"):
        keys = [fact.key for fact in section]
        for fact in section:
            if fact.key in outcome.missing:
                for other in rules.values.others(fact) if keys.count(fact.key) == 1 else ():
                    if _says(literal, other, prompt.request.lang):
                        return "another value", f"{other.value} for {fact.value}"
                if fact.kind is Kind.FLAG and fact.label and _has_word(literal, fact.label.split()[0]):
                    return "told in other words", fact.label
    return None


def _says(text: str, fact: Fact, lang: Lang) -> bool:
    return any(form.regex.search(text) for form in forms.of(Slot(1, str(fact.value), fact, 0, "value"), lang))


def _has_word(text: str, word: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def _cut(text: str, prompt: Prompt, task: Task, rules: Rules) -> str:
    """The sentences that pass alone, where some do and some do not."""
    lang = prompt.request.lang
    parts = texts.sentences(text, lang)
    draft = Draft(0, "", prompt.request, (), "")
    good = [part for part in parts if not _wrong(_found(part.strip(), prompt, task, draft, ()), prompt, task, rules)]
    if not 0 < len(good) < len(parts):
        return ""
    return texts.ended("".join(good) if good[0] is parts[0] else texts.begun("".join(good), lang), lang)


def _settled(outcome: Outcome, prompt: Prompt, task: Task, rules: Rules) -> Outcome:
    """A text that is true, unless its form or its length forbids it."""
    assert outcome.pair is not None  # noqa: S101 - _found makes one
    size = texts.size(outcome.pair.original or "")
    if size < rules.options.shortest:
        return replace(outcome, reason="too short", words=outcome.draft.text)
    if size > rules.options.longest:
        return replace(outcome, reason="too long", words=f"{size} words")
    if outcome.facts and not outcome.told:
        return replace(outcome, reason="tells no fact", words=outcome.draft.text)
    for found in grounding.check(_segments(outcome, prompt), prompt, task).violations:
        named = found.rule != "missing" or found.text.startswith("the name")  # other facts that are left out are not shown either
        if found.rule in _WHOLE and found.why != _LOWER and named:
            return replace(outcome, reason=found.rule, words=found.text or found.why)
    return outcome


def _segments(outcome: Outcome, prompt: Prompt) -> list[Segment]:
    return slots.parse(outcome.pair.text, prompt) if outcome.pair else []


def counts(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """How many drafts have each reason, the most frequent first."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.reason:
            found[outcome.reason] = found.get(outcome.reason, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))
