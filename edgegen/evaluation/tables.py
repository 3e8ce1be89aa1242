"""The figures as Markdown tables, and a line for each row as it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from edgegen.evaluate import Row
from edgegen.evaluation.measures import Figure
from edgegen.evaluation.report import Evaluated

_SYSTEMS = ("model", "template", "shuffled", "constant")
_NAMES = {
    "bleu": "BLEU", "bleu_words": "BLEU (words)", "chrf": "chrF",
    "rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L",
}  # fmt: skip
_QUALITY = (
    ("bleu", "model"), ("rouge_l", "model"), ("slot_error", "unchecked"), ("grounded", "unchecked"), ("perplexity", "reference"),
)  # fmt: skip
_CERTAIN = 0.05


def line(row: Row) -> str:
    """The row in short."""
    accuracy = "" if row.accuracy is None else f"  accuracy {row.accuracy:.3f}"
    return (
        f"{row.task:9} {row.lang} n={row.texts:4} model {row.model_share:6.1%}  wrong {row.wrong_values}  ungrounded after "
        f"{row.ungrounded_after} before {row.ungrounded_before:5.1%}  rejected {row.rejected_before:5.1%}{accuracy}"
    )


def whole(done: Sequence[Evaluated], comparison: Mapping[str, Any] | None) -> str:
    """All tables of all models, and the differences where there is a comparison."""
    parts = []
    for one in done:
        title = f"## {one.title}, {one.size / 1e6:.1f} MB\n\n" if len(done) > 1 else ""
        rows = [scored.row for scored in one.rows]
        parts.append(title + "\n".join(filter(None, (table(rows), _against_references(rows), _variety(rows)))))
    if len(done) > 1:
        parts.append(_sizes(done))
    if comparison:
        parts.append(_comparison(comparison))
    return "\n".join(parts)


def table(rows: Sequence[Row]) -> str:
    """The figures that stand in README."""
    names = "task|lang|texts|model share|wrong values|ungrounded after|before|rejected before|coverage|USR|rep-4|median s"
    columns = [*names.split("|"), "BLEU model / template / shuffled / constant", "ROUGE-L", "accuracy"]
    lines = []
    for r in rows:
        bleu, rouge = (" / ".join(f"{score:.1f}" for score in found.values()) or "-" for found in (r.bleu, r.rouge_l))
        lines.append([
            r.task, r.lang, r.texts, f"{r.model_share:.1%}", r.wrong_values, r.ungrounded_after, f"{r.ungrounded_before:.1%}",
            f"{r.rejected_before:.1%}", f"{r.coverage:.1%}", f"{r.usr:.3f}", f"{r.repeated_4grams:.1%}", f"{r.median_s:.3f}",
            bleu, rouge, "-" if r.accuracy is None else f"{r.accuracy:.1%}",
        ])  # fmt: skip
    return _table(columns, lines)


def _against_references(rows: Sequence[Row]) -> str:
    """Each score against references with the model's interval, beside its unchecked texts and the baselines."""
    others = ("unchecked", *_SYSTEMS[1:])
    lines = [
        [row.task, row.lang, name, *_with_interval(found["model"], 1), *(_plain(found.get(s), 1) for s in others)]
        for row in rows for key, name in _NAMES.items() if (found := row.figures.get(key))
    ]  # fmt: skip
    return _table(["task", "lang", "score", "model", "95 %", *others], lines) if lines else ""


def _variety(rows: Sequence[Row]) -> str:
    """What a text tells and how varied texts are."""
    columns = (
        "task", "lang", "slot error / unchecked / template / shuffled / constant", "USR, the same", "rep-4, the same",
        "FMR / FCR / DIV", "the same, references", "distinct-1 / 2", "words, mean ± sd", "perplexity", "p95 s",
    )  # fmt: skip
    return _table(columns, [[row.task, row.lang, *_told(row.figures)] for row in rows])


def _told(found: Mapping[str, Mapping[str, Figure]]) -> Iterator[str]:
    systems = ("model", "unchecked", *_SYSTEMS[1:])
    yield " / ".join(_share(_of(found, "slot_error", system)) for system in systems)
    yield " / ".join(_plain(_of(found, "usr", system), 3) for system in systems)
    yield " / ".join(_share(_of(found, "repeated_4grams", system)) for system in systems)
    for system in ("model", "reference"):
        yield " / ".join(_plain(_of(found, name, system), 2) for name in ("fmr", "fcr", "div"))
    yield " / ".join(_plain(_of(found, name), 3) for name in ("distinct_1", "distinct_2"))
    yield f"{_plain(_of(found, 'length'), 1)} ± {_plain(_of(found, 'length_sd'), 1)}"
    yield _plain(_of(found, "perplexity", "reference"), 2)
    yield _plain(_of(found, "latency_s", "p95"), 3)


def _sizes(done: Sequence[Evaluated]) -> str:
    """Quality against size: means over tasks and languages."""
    lines = []
    for one in done:
        found = [[f.value for scored in one.rows if (f := _of(scored.row.figures, *kind)) is not None] for kind in _QUALITY]
        lines.append([one.title, f"{one.size / 1e6:.1f}", *(f"{fmean(values):.3f}" if values else "-" for values in found)])
    columns = ["means of all tasks", "MB", "BLEU", "ROUGE-L", "slot error, unchecked", "true, unchecked", "perplexity"]
    return "\n" + _table(columns, lines)


def _comparison(found: Mapping[str, Any]) -> str:
    """What the first model has more than the other, and how likely chance alone gives as much."""
    lines = [
        [r["task"], r["lang"], r["score"], r["texts"], f"{r['difference']:+.3f}", f"{r['low']:+.3f} to {r['high']:+.3f}",
         f"{r['p']:.3f}", "*" if r["p"] < _CERTAIN else ""]
        for r in found["rows"]
    ]  # fmt: skip
    title = f"\n{found['of']} less {found['with']}; p by approximate randomisation, * below {_CERTAIN}:\n\n"
    return title + _table(["task", "lang", "score", "texts", "difference", "95 %", "p", ""], lines)


def _of(figures: Mapping[str, Mapping[str, Figure]], name: str, system: str = "model") -> Figure | None:
    return figures.get(name, {}).get(system)


def _plain(figure: Figure | None, digits: int) -> str:
    return "-" if figure is None else f"{figure.value:.{digits}f}"


def _share(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.value:.1%}"


def _with_interval(figure: Figure, digits: int) -> tuple[str, str]:
    return _plain(figure, digits), f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"


def _table(columns: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)
