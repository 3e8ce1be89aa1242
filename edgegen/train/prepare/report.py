"""What a preparation did, as plain data for people and machines. Pure but for the terminal's table, which is text too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median, quantiles
from typing import Any

from edgegen.domain import Kind
from edgegen.train.corpus.report import delexicalised, diversity
from edgegen.train.prepare import cleaning, texts
from edgegen.train.prepare.cleaning import Draft, Outcome
from edgegen.train.prepare.drafts import Source
from edgegen.train.prepare.options import PrepareOptions
from edgegen.train.prepare.splits import Leak

_EXAMPLES, _WORST, _TOP = 4, 20, 12
_BINS = 12


def products(draft: Draft) -> tuple[str, ...]:
    """The products that a draft is about."""
    names = (str(f.value) for s in draft.request.sections if s.label == "item" for f in s if f.key == "name")
    return tuple(dict.fromkeys(names))


def make(
    sources: Mapping[str, Source], outcomes: Mapping[str, Sequence[Outcome]], leaks: Sequence[Leak], options: PrepareOptions
) -> dict[str, Any]:
    """The whole report."""
    everything = [outcome for found in outcomes.values() for outcome in found]
    kept = [outcome for outcome in everything if outcome.kept]
    return {
        "files": {split: str(source.path) for split, source in sources.items()},
        "kind": next(iter(sources.values())).kind,
        "options": {k: v if isinstance(v, int | float | str | None) else str(v) for k, v in asdict(options).items()},
        "unread": [{"row": bad.row, "why": bad.why} for source in sources.values() for bad in source.unread][:_TOP],
        "rows": {"read": len(everything), "unread": sum(len(source.unread) for source in sources.values())},
        "splits": {split: _split(found) for split, found in outcomes.items()},
        "groups": _groups(kept),
        "reasons": [_reason(name, n, everything) for name, n in cleaning.counts(everything).items()],
        "repairs": dict(Counter(repair for o in kept for repair in o.repairs).most_common()),
        "keys": _keys(everything),
        "rewritten": [[said, value, n] for (said, value), n in Counter(r for o in kept for r in o.rewritten).most_common(_TOP)],
        "lengths": _histogram([texts.size(o.draft.text) for o in kept]),
        "shown": _histogram([o.told for o in kept]),
        "worst": [_worst(o) for o in sorted(kept, key=_badness, reverse=True)[:_WORST]],
        "leaks": [asdict(leak) for leak in leaks],
    }


def _split(found: Sequence[Outcome]) -> dict[str, Any]:
    kept = [outcome for outcome in found if outcome.kept]
    facts, told = sum(o.facts for o in found), sum(o.told for o in found)
    valued = [o for o in found if o.pair]
    return {
        "texts": len(found),
        "kept": len(kept),
        "repaired": sum(any("cut" in repair for repair in o.repairs) for o in kept),
        "aside": len(found) - len(kept),
        "complete": _share(sum(not o.missing for o in valued), len(valued)),
        "complete_values": _share(sum(not _values_missing(o) for o in valued), len(valued)),
        "complete_kept": _share(sum(not _values_missing(o) for o in kept), len(kept)),
        "facts_told": _share(told, facts),
        "exact": _share(sum(o.exact for o in kept), len(kept)),
        "exact_or_listed": _share(sum(o.exact or _listed_change(o) for o in kept), len(kept)),
    }


def _listed_change(outcome: Outcome) -> bool:
    """Whether the report says why a text reads otherwise than it was written."""
    return bool(outcome.rewritten) or any(repair.startswith(("article", "cut", "placeholder")) for repair in outcome.repairs)


def _values_missing(outcome: Outcome) -> list[str]:
    """Keys of facts with a value, unlike yes and no, that no slot shows."""
    request = outcome.draft.request
    flags = {f.key for s in request.sections for f in s if f.kind is Kind.FLAG}
    return [key for key in outcome.missing if key not in flags]


def _share(part: int, of: int) -> float | None:
    return round(part / of, 4) if of else None


def _groups(kept: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Figures per task and language."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in kept:
        found.setdefault((outcome.draft.request.task, outcome.draft.request.lang), []).append(outcome)
    return [_group(task, lang, part) for (task, lang), part in sorted(found.items())]


def _group(task: str, lang: str, part: Sequence[Outcome]) -> dict[str, Any]:
    sizes = [texts.size(outcome.draft.text) for outcome in part]
    varied = diversity([delexicalised(outcome.pair) for outcome in part if outcome.pair])
    return {
        "task": task,
        "lang": lang,
        "pairs": len(part),
        "requests": len({outcome.draft.facts for outcome in part}),
        "words": median(sizes),
        "words_95": quantiles(sizes, n=20)[-1] if len(sizes) > 1 else sizes[0],
        "slots": round(sum(outcome.told for outcome in part) / len(part), 2),
        "facts_told": _share(sum(o.told for o in part), sum(o.facts for o in part)),
        "distinct": round(varied.distinct_texts, 4),
        "top_sentence": [varied.top_sentence_text, round(varied.top_sentence, 4)],
    }


def _reason(name: str, count: int, everything: Sequence[Outcome]) -> dict[str, Any]:
    found = [outcome for outcome in everything if outcome.reason == name]
    secret = name == "personal data"
    words = Counter(outcome.words for outcome in found).most_common(_TOP)
    examples = [{"row": o.draft.row, "words": o.words, "text": "" if secret else o.draft.text} for o in found[:_EXAMPLES]]
    return {"reason": name, "texts": count, "words": [] if count == len(words) else words, "examples": examples}


def _keys(everything: Sequence[Outcome]) -> list[dict[str, Any]]:
    """How often each key's value was found in the texts, worst first."""
    given, missing = Counter[str](), Counter[str]()
    for outcome in everything:
        if outcome.pair is not None:
            item = [s for s in outcome.pair.request.sections if s.label != "act"]
            given.update(fact.key for section in item for fact in section)
            missing.update(outcome.missing)
    rows = [{"key": key, "facts": n, "found": _share(n - missing[key], n)} for key, n in given.items()]
    return sorted(rows, key=lambda row: (row["found"], -int(str(row["facts"]))))


def _histogram(values: Sequence[int]) -> list[list[int]]:
    """`[from, to, count]` for each of at most twelve equal spans."""
    if not values:
        return []
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // _BINS))
    return [[start, start + step - 1, sum(start <= v < start + step for v in values)] for start in range(low, high + 1, step)]


def _badness(outcome: Outcome) -> tuple[float, int, int]:
    lost = 1 - outcome.told / outcome.facts if outcome.facts else 0.0
    return lost, len(outcome.rewritten), len(outcome.repairs)


def _worst(outcome: Outcome) -> dict[str, Any]:
    return {
        "row": outcome.draft.row, "text": outcome.draft.text, "facts": outcome.draft.facts,
        "pair": outcome.pair.text if outcome.pair else "", "missing": list(outcome.missing),
        "rewritten": [list(pair) for pair in outcome.rewritten], "repairs": list(outcome.repairs),
    }  # fmt: skip


# --- the terminal's table


def table(made: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    return "\n".join(_lines(made)) + "\n"


def _lines(made: Mapping[str, Any]) -> Iterator[str]:
    yield f"{made['rows']['read']} texts read as {made['kind']}, {made['rows']['unread']} rows unread"
    heads = f"{'all found':>11}{'values':>9}{'facts told':>12}{'as written':>12}"
    yield f"{'split':8}{'texts':>8}{'kept':>8}{'cut':>7}{'aside':>8}{heads}"
    for name, split in made["splits"].items():
        shares = (split["complete"], split["complete_values"], split["facts_told"], split["exact"])
        yield (
            f"{name:8}{split['texts']:8}{split['kept']:8}{split['repaired']:7}{split['aside']:8}"
            + "".join(f"{_percent(share):>{width}}" for share, width in zip(shares, (11, 9, 12, 12), strict=True))
        )
    yield ""
    yield f"{'task':10}{'lang':6}{'pairs':>7}{'requests':>10}{'words':>7}{'95 %':>7}{'slots':>7}{'told':>8}{'distinct':>10}"
    for group in made["groups"]:
        yield (
            f"{group['task']:10}{group['lang']:6}{group['pairs']:7}{group['requests']:10}{group['words']:7.0f}{group['words_95']:7.0f}"
            f"{group['slots']:7.1f}{_percent(group['facts_told']):>8}{_percent(group['distinct']):>10}"
        )
    yield from _listed("set aside", ((r["reason"], r["texts"], _example(r)) for r in made["reasons"]))
    yield from _listed("repairs", ((name, n, "") for name, n in made["repairs"].items()))
    yield from _listed("written another way", ((f"{said} -> {value}", n, "") for said, value, n in made["rewritten"][:6]))
    worst = [row for row in made["keys"] if row["found"] < 1][:8]
    yield from _listed("values found", ((row["key"], row["facts"], _percent(row["found"])) for row in worst))
    leaks = ((f"{leak['first']} / {leak['second']}", leak["pairs"], f"of {leak['of']}: {leak['what']}") for leak in made["leaks"])
    yield from _listed("shared by splits", leaks)


def _listed(title: str, entries: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    found = list(entries)
    if found:
        yield from ("", title)
        yield from (f"  {name:36} {count:6}  {more}".rstrip() for name, count, more in found)


def _example(reason: Mapping[str, Any]) -> str:
    first = reason["words"][0][0] if reason["words"] else reason["examples"][0]["words"]
    return f"e.g. {first[:80]}" if first else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
