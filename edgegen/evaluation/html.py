"""The report as one HTML page that needs no network and no script. Drawn from the JSON report alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from edgegen.evaluation import plots
from edgegen.evaluation.plots import Bar

FILE = "evaluation.html"
"""How the page is called in a pack."""
_TEMPLATE = Path(__file__).with_name("report.html")
_SERIES = ("model", "unchecked", "template", "shuffled", "constant")
_COLUMNS = ("model", "unchecked", "template", "shuffled", "constant", "reference", "median", "p95")
_OF_TASKS = {"bleu": "BLEU", "rouge_l": "ROUGE-L", "slot_error": "slot error rate", "grounded": "share of true texts"}
_CATEGORIES = 12  # bars that fit a page
_MB = 1e6


def page(report: Mapping[str, Any]) -> str:
    """The page of a report, see `report.made`."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        report=report, columns=_COLUMNS, shown=_shown,
        sizes=list(_sizes(report["packs"])),
        packs=[(pack, _of_tasks(pack["rows"]), _of_categories(pack["rows"]), _losses(pack)) for pack in report["packs"]],
    )  # fmt: skip


def _shown(figure: Mapping[str, float] | None) -> str:
    """A figure with its interval."""
    if figure is None:
        return ""
    value = f"{figure['value']:.4g}"
    return f"{value} [{figure['low']:.4g}, {figure['high']:.4g}]" if "low" in figure else value


def _sizes(packs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Quality against size over the packs, where there are several."""
    if len(packs) < 2:
        return
    for score, system, title in (
        ("bleu", "model", "BLEU, mean of tasks"), ("grounded", "unchecked", "true without checks, share"),
        ("slot_error", "unchecked", "slot error without checks"), ("perplexity", "reference", "perplexity of the references"),
    ):  # fmt: skip
        named = [
            (f"{pack['label']} {pack['quantization']}", pack["size"] / _MB, Bar(sum(values) / len(values)))
            for pack in packs if (values := _values(pack["rows"], score, system))
        ]  # fmt: skip
        if named:
            yield plots.points(named, "MB", title)


def _values(rows: Iterable[Mapping[str, Any]], score: str, system: str) -> list[float]:
    found = [row["figures"].get(score, {}).get(system) for row in rows]
    return [figure["value"] for figure in found if figure is not None]


def _of_tasks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each score, the model beside its baselines in every task and language."""
    out = []
    for score, title in _OF_TASKS.items():
        groups = {f"{row['task']} {row['lang']}": _bars(row["figures"].get(score, {})) for row in rows}
        if found := {label: group for label, group in groups.items() if group}:
            out.append(plots.bars(found, title, _SERIES))
    return out


def _bars(found: Mapping[str, Mapping[str, float]]) -> dict[str, Bar]:
    return {name: Bar(f["value"], f.get("low"), f.get("high")) for name, f in found.items() if name in _SERIES}


def _of_categories(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each task and language, the model's score in the categories with most texts."""
    out = []
    for row in rows:
        most = list(row["categories"].items())[:_CATEGORIES]
        score = "rouge_l" if "rouge_l" in most[0][1] else "grounded"
        if len(most) > 1:
            groups = {f"{name} ({found['texts']})": {score: Bar(found[score])} for name, found in most}
            out.append(plots.bars(groups, f"{row['task']} {row['lang']}: {score} of the model, by category (texts)", [score]))
    return out


def _losses(pack: Mapping[str, Any]) -> str | None:
    """The losses of its training, where it says."""
    return plots.curves(pack["losses"], "step", "loss, nats a token") if pack["losses"] else None
