"""Reports of evaluations: what machines read, and what the HTML page is drawn from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgegen import __version__
from edgegen.evaluate import Scored
from edgegen.evaluation import measures
from edgegen.evaluation.worst import SHOWN, Bad

FILE = "evaluation.json"
"""How the report is called in a pack."""
SCHEMA = 1
"""Goes up when a reader of the old form could misread the new one."""
_MODELS = ("model", "unchecked")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model on all cases; `size` is that of its GGUF in bytes, `provenance` what training says of itself."""

    label: str
    quantization: str
    size: int
    provenance: Mapping[str, Any]
    rows: Sequence[Scored]

    @property
    def title(self) -> str:
        """What tells it from others: quantizations of one model have one label."""
        return f"{self.label} {self.quantization}"


def made(done: Sequence[Evaluated], against: Evaluated | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report as a JSON object; with `against`, every difference of the first model from it."""
    rows = list(_differences(done[0], against)) if against else []
    return {
        "schema": SCHEMA,
        "edgegen": __version__,
        "settings": dict(settings) | {"resamples": measures.RESAMPLES},
        "packs": [_entry(one) for one in [*done, *([against] if against and all(against is not one for one in done) else [])]],
        "comparison": {"of": done[0].title, "with": against.title, "rows": rows} if against else None,
    }


def kept(report: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a pack's manifest keeps of a report: the figures of one of its `packs`, without categories and texts."""
    rows = [{key: value for key, value in row.items() if key != "categories"} for row in entry["rows"]]
    return {key: report[key] for key in ("schema", "edgegen", "settings")} | {"rows": rows}


def alone(report: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The report of one of its `packs`."""
    return dict(report) | {"packs": [entry], "comparison": None}


def to_text(report: Mapping[str, Any]) -> str:
    """A report as JSON."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def worst(one: Evaluated) -> list[Bad]:
    """The worst texts of all tasks and languages, the worst first."""
    found = [bad for scored in one.rows for bad in scored.bad]
    return sorted(found, key=lambda bad: -bad.weight)[:SHOWN]


def _entry(one: Evaluated) -> dict[str, Any]:
    return {
        "label": one.label,
        "quantization": one.quantization,
        "size": one.size,
        "rows": [scored.row.to_json() for scored in one.rows],
        "worst": [bad.to_json() for bad in worst(one)],
        "losses": curves(one.provenance),
    }


def _differences(one: Evaluated, other: Evaluated) -> Iterator[dict[str, Any]]:
    """Score by score, for each task and language."""
    theirs = {(scored.row.task, scored.row.lang): scored.measures for scored in other.rows}
    for scored in one.rows:
        beside = theirs[scored.row.task, scored.row.lang]
        for name, by in scored.measures.items():
            for system in ("reference",) if name == "perplexity" else _MODELS:
                mine, its = by.get(system), beside.get(name, {}).get(system)
                if mine is not None and its is not None and len(mine.stats) == len(its.stats):
                    where = {"task": scored.row.task, "lang": scored.row.lang, "score": name, "texts": system}
                    yield where | measures.compare(mine, its).to_json()


def curves(provenance: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """The losses of a training by step, `loss` and `eval_loss`, from the `log` in a provenance; empty where it has none."""
    log = provenance.get("log")
    entries = [entry for entry in log if isinstance(entry, dict)] if isinstance(log, list) else []
    found = {
        name: [(float(e["step"]), float(e[name])) for e in entries if _number(e.get("step")) and _number(e.get(name))]
        for name in ("loss", "eval_loss")
    }
    return {name: points for name, points in found.items() if len(points) > 1}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
