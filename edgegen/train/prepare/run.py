"""`edgegen train prepare`: files of texts in, a folder of pairs and a report out, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.output import whole
from edgegen import tasks
from edgegen.durable import write_new
from edgegen.errors import DataError, UsageError
from edgegen.train import pairs
from edgegen.train.pairs import Pair
from edgegen.train.prepare import cleaning, drafts, duplicates, matching, page, report, splits, texts
from edgegen.train.prepare.cleaning import Draft, Outcome, Rules, Values
from edgegen.train.prepare.drafts import Source
from edgegen.train.prepare.options import PrepareOptions
from edgegen.train.prepare.splits import SPLITS, TEST, TRAIN

REPORT, PAGE, ASIDE = "report.json", "report.html", "aside.jsonl"
_MADE = frozenset({*(f"{split}.jsonl" for split in SPLITS), REPORT, PAGE, ASIDE})
_LEAST = 2  # pairs: of a single one nothing is learnt and nothing can be measured
_UNUSABLE = frozenset({"personal data", "facts do not fit the task"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of each draft, by split, and the report as plain data."""

    outcomes: Mapping[str, Sequence[Outcome]]
    report: Mapping[str, Any]


def prepare(files: Mapping[str, Path], out: Path, options: PrepareOptions, say: Callable[[str], None]) -> Prepared:
    """Write the pairs of files (split -> path; a lone `train` is split here) and their report to the folder `out`.

    Raises DataError, MappingError, MissingExtraError, NotFoundError, StorageError, UsageError; then nothing is written.
    """
    check_folder(out)
    if lost := [path for path in files.values() if path.resolve().parent == out.resolve()]:
        raise UsageError(f"{lost[0]} lies in {out}, which would be written anew without it. Choose another folder.")
    sources = {split: drafts.open_source(path, options) for split, path in files.items()}
    found = _drafts(sources, options)
    if sum(map(len, found.values())) < _LEAST:
        bad = sources[TRAIN].unread
        left_out = f" ({len(bad)} rows cannot be used; the first: {bad[0].why})" if bad else ""
        raise DataError(f"{files[TRAIN]} holds one text{left_out}. Give at least {_LEAST}, better some hundreds.")
    rules = _rules(found, options)
    outcomes = {split: _judged(split, part, rules, say) for split, part in found.items()}
    if not any(outcome.kept for outcome in outcomes[TRAIN]):
        reasons = cleaning.counts(outcomes[TRAIN])
        why = ", ".join(f"{reason} ({n})" for reason, n in list(reasons.items())[:3])
        raise DataError(
            f"No text of {files[TRAIN]} is true to its facts: {why}. Look at the columns (--map) and at --unsupported."
        )
    made = report.make(sources, outcomes, _leaks(outcomes), options)
    _write(out, outcomes, made)
    return Prepared(outcomes, made)


def check_folder(out: Path) -> None:
    """Raise UsageError where the folder holds what no preparation wrote."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file. Choose a folder.")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    other = [name for name in there if name not in _MADE] if REPORT in there else there
    if other:
        raise UsageError(f"{out} holds {other[0]}, which no preparation wrote. Choose another folder.")


def _drafts(sources: Mapping[str, Source], options: PrepareOptions) -> dict[str, list[Draft]]:
    """The drafts of each split; the files that are given are kept as they are, a lone one is split."""
    found, labels = drafts.read(sources[TRAIN], options)
    if len(sources) == 1:
        places = splits.place([draft.group for draft in found], options.valid, options.test, options.seed)
        return {split: [d for d, place in zip(found, places, strict=True) if place == split] for split in SPLITS}
    rest = {split: drafts.read(source, options, labels)[0] for split, source in sources.items() if split != TRAIN}
    return {TRAIN: found, **rest}


def _rules(found: Mapping[str, Sequence[Draft]], options: PrepareOptions) -> Rules:
    values = Values()
    for part in found.values():
        for draft in part:
            values.add(draft.request)
    english = [draft.text for draft in found[TRAIN] if draft.request.lang == "en"]
    return Rules(options, values, texts.lowered(english))


def _judged(split: str, part: Sequence[Draft], rules: Rules, say: Callable[[str], None]) -> list[Outcome]:
    found = []
    for at, draft in enumerate(part, 1):
        found.append(cleaning.judge(draft, rules))
        if at % 1000 == 0:
            say(f"{split}: {at} of {len(part)} texts")
    kept = [outcome for outcome in found if outcome.kept]
    said = ((o.draft.facts, o.pair.text if o.pair else "") for o in kept)
    again = dict(zip(map(id, kept), duplicates.repeated(said, rules.options.alike), strict=True))
    return [replace(o, reason=why, words=o.draft.text) if (why := again.get(id(o))) else o for o in found]


def _leaks(outcomes: Mapping[str, Sequence[Outcome]]) -> list[splits.Leak]:
    return splits.leaks({
        split: [(o.draft.facts, o.draft.text, report.products(o.draft)) for o in found if o.kept or split == TEST]
        for split, found in outcomes.items()
    })  # fmt: skip


def written(split: str, outcomes: Sequence[Outcome]) -> Iterator[Pair]:
    """The pairs of a split. Of the test split all that can be read: a model is measured against what people wrote, not
    against what of it a rule liked.
    """
    for outcome in outcomes:
        if split == TEST and outcome.reason not in _UNUSABLE:
            yield outcome.pair or _as_given(outcome.draft)
        elif outcome.kept and outcome.pair:
            yield outcome.pair


def _as_given(draft: Draft) -> Pair:
    task = tasks.get(draft.request.task)
    found = matching.find(draft.text, task.prompt(draft.request), task.given)
    return Pair(draft.request, matching.written(found.segments), draft.text)


def _write(out: Path, outcomes: Mapping[str, Sequence[Outcome]], made: Mapping[str, Any]) -> None:
    with whole(out) as folder:
        folder.mkdir(parents=True)
        for split, found in outcomes.items():
            pairs.write(folder / f"{split}.jsonl", written(split, found))
        write_new(folder / ASIDE, (_line(split, o) for split, part in outcomes.items() for o in part if o.reason))
        write_new(folder / REPORT, [json.dumps(made, ensure_ascii=False, indent=1).encode()])
        write_new(folder / PAGE, [page.html(made).encode()])


def _line(split: str, outcome: Outcome) -> bytes:
    """What is known of a text that was set aside; personal data are not written down once more."""
    line = {"split": split, "row": outcome.draft.row, "reason": outcome.reason, "words": outcome.words}
    if outcome.reason != "personal data":
        line |= {"text": outcome.draft.text, "facts": outcome.draft.facts}
    return (json.dumps(line, ensure_ascii=False) + "\n").encode()
