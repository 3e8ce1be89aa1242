"""What each option brings: variants that differ from the usual options in one of them, compared on the pairs held out.

All start from the same base, seed and data and take the same steps. The difference of two losses has its interval by paired
bootstrap over the pairs held out; how much another seed alone would change is seen by varying `seed` too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from convert.checkpoint import open_checkpoint
from convert.output import whole
from edgegen.errors import DataError, OptionError
from edgegen.evaluation import measures
from edgegen.evaluation.measures import Difference, Measure
from edgegen.train import augment, kinds, lora
from edgegen.train.dataset import Encoder, PairDataset
from edgegen.train.fit import FitOptions, fit
from edgegen.train.lora import LoraOptions
from edgegen.train.losses import measured
from edgegen.train.pairs import Pair

USUAL, REPORT = "usual", "report.json"
_LOSSES = "losses.json"
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Row:
    """A variant: its loss per text token, what that is less the usual options' (None for these), and how many pairs it learnt."""

    name: str
    loss: float
    difference: Difference | None
    learnt: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def variants(usual: LoraOptions, vary: Mapping[str, Sequence[str]]) -> dict[str, LoraOptions]:
    """The usual options, and those with one option changed, by names as `rank=4`. Raises OptionError."""
    found = {USUAL: usual}
    for name, texts in vary.items():
        for text in texts:
            changed = _changed(usual, name, text)
            if changed != usual:
                found[f"{name}={text}"] = changed
    return found


def _changed(usual: LoraOptions, name: str, text: str) -> LoraOptions:
    own = {field.name for field in fields(LoraOptions)} - {"fit"}
    within = {field.name for field in fields(FitOptions)}
    if name not in own | within:
        raise OptionError(f"There is no option {name!r} to vary. Known: {', '.join(sorted(own | within))}.")
    value = _value(name, text, getattr(usual if name in own else usual.fit, name))
    if name == "rank":  # as `train lora --rank` does: a rank is compared at one strength of the adapter
        return replace(usual, rank=value, alpha=usual.alpha * value / usual.rank)
    return replace(usual, **{name: value}) if name in own else replace(usual, fit=replace(usual.fit, **{name: value}))


def _value(name: str, text: str, like: Any) -> Any:
    if name == "augment":
        return augment.parse(text)
    if isinstance(like, tuple):
        return tuple(text.split("+"))
    if isinstance(like, bool):
        if text not in _TRUTHS:
            raise OptionError(f"{name} must be true or false, got {text!r}")
        return _TRUTHS[text]
    try:
        return type(like)(text)
    except ValueError:
        raise OptionError(f"{name} must be a number, got {text!r}") from None


def ablate(
    base: str, train: Sequence[Pair], valid: Sequence[Pair], out: Path, usual: LoraOptions, vary: Mapping[str, Sequence[str]],
    say: Callable[[str], None] = lambda _: None,
) -> list[Row]:  # fmt: skip
    """Train each variant that `out` has no result of, and compare all; writes `out/report.json`.

    Raises what `lora.tune` raises.
    """
    found = variants(usual, vary)
    for options in found.values():
        lora.check(base, options)
    lora.claim(out, base, [*train, *valid], usual)
    folder = lora.prepare_base(base, out / "base")
    opened = open_checkpoint(folder)
    encoder, context = Encoder(opened.tokenizer), opened.config.n_positions
    held = PairDataset(encoder, valid, context)
    if not train or not len(held):
        raise DataError("A comparison needs pairs to learn and pairs that are held out, and one of them has none. Give more.")

    @cache
    def learnt(ways: tuple[str, ...], copies: int, seed: int) -> PairDataset:
        return PairDataset(encoder, augment.augmented(train, ways, copies, seed, valid), context)

    places = {name: out / "variants" / re.sub(r"[^\w.=+-]", "_", name) for name in found}
    for name, place in places.items():
        if not (place / _LOSSES).is_file():
            say(f"variant {name}")
            options = found[name]
            pairs = learnt(options.augment, options.copies, options.fit.seed)
            _write(place / _LOSSES, {"losses": _losses(folder, pairs, held, place / "steps", options), "learnt": len(pairs)})
        shutil.rmtree(place / "steps", ignore_errors=True)
    rows = _rows({name: json.loads((place / _LOSSES).read_text("utf-8")) for name, place in places.items()})
    made = {"base": base, "train": len(train), "held": len(held), "usual": asdict(usual), "variants": [r.to_json() for r in rows]}
    _write(out / REPORT, made)
    return rows


def _write(path: Path, made: Mapping[str, Any]) -> None:
    with whole(path) as part:
        part.write_text(json.dumps(made, indent=1) + "\n", "utf-8")


def _losses(folder: Path, learnt: PairDataset, held: PairDataset, steps: Path, options: LoraOptions) -> list[tuple[float, int]]:
    """The summed loss and the text tokens of each pair held out, after training."""
    opened = open_checkpoint(folder)
    torch.manual_seed(options.fit.seed)
    model = lora.adapted(opened.model, folder, options, lora.trained_ids(folder, opened.tokenizer, options.kind, learnt))
    watched = held if options.fit.patience else None
    fit(model, opened.tokenizer, learnt, watched, steps, options.fit, kinds.callbacks(options.kind, model))
    return measured(model, held.examples)


def _rows(results: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    scores = {name: _measure(result["losses"]) for name, result in results.items()}
    usual = scores[USUAL]
    return [
        Row(name, score.value, None if name == USUAL else measures.compare(score, usual), results[name]["learnt"])
        for name, score in scores.items()
    ]


def _measure(losses: Sequence[Sequence[float]]) -> Measure:
    return measures.ratio([loss for loss, _ in losses], [tokens for _, tokens in losses])


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| variant | pairs learnt | loss | less the usual | 95 % | p |", "|---|---|---|---|---|---|"]
    for row in rows:
        more = "- | - | -"
        if found := row.difference:
            more = f"{found.difference:+.4f} | {found.low:+.4f} to {found.high:+.4f} | {found.p:.3f}"
        lines.append(f"| {row.name} | {row.learnt} | {row.loss:.4f} | {more} |")
    return "\n".join(lines) + "\n"
