"""From what people made of texts, or from the reward alone, to a better adapter: preferences, DPO, and what it brought.

Every fifth request is held out: its preferences measure the margin, and texts written for it before and after the reward.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from convert import gpt2
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.merge import merge
from convert.output import whole
from edgegen import pack, scores, slots, wire
from edgegen.domain import Request
from edgegen.engine import open_engine
from edgegen.errors import DataError, EdgegenError, OptionError
from edgegen.evaluation import features
from edgegen.explain import Explainer, ExplainOptions, Explanation, safe
from edgegen.store import Entry
from edgegen.train import dpo, kinds, lora, preferences, reward
from edgegen.train.dataset import Encoder, PairDataset, draft_table
from edgegen.train.dpo import Row
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from edgegen.train.pairs import Pair
from edgegen.train.preferences import TEACHES, Gathered, Preference, Said, Teach
from edgegen.train.reward import Reward

REPORT = "report.json"
_BEFORE = "before.json"
_EVERY = 5  # each fifth request is held out
_DEADLINE_S = 600.0
Say = Callable[[str], None]


def _fit() -> FitOptions:
    return FitOptions(steps=200, batch=8, rate=1e-4, warmup=10, weight_decay=0.0)


@dataclass(frozen=True, slots=True)
class PreferOptions:
    """How to learn from preferences."""

    adapter: LoraOptions = field(default_factory=lambda: LoraOptions(dropout=0.0, fit=_fit()))
    beta: float = 0.1
    """How dear it is to leave the base; above 0."""
    anchor: float = 0.1
    """Weight of the chosen text's own cross-entropy; at least 0."""
    n: int = 8
    """Texts of a request: to choose among, and to measure by; 2 to 16."""
    measured: int = 200
    """Held-out requests for which texts are written before and after; at least 1."""
    teach: Teach = "truth"
    """What the best of n texts is better by: it is true and the other is not, or any part of the reward."""

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError."""
        if self.adapter.kind not in ("lora", "rslora", "dora"):
            raise OptionError(f"Preferences train a lora, rslora or dora, got {self.adapter.kind!r}.")
        if self.adapter.fit.adversarial != "none":
            raise OptionError("Preferences have a loss of their own. Set adversarial to none.")
        if not self.beta > 0 or not self.anchor >= 0:
            raise OptionError(f"beta must be above 0 and anchor at least 0, got {self.beta} and {self.anchor}")
        if self.teach not in TEACHES:
            raise OptionError(f"teach must be one of {', '.join(TEACHES)}, got {self.teach!r}")
        if not 2 <= self.n <= 16 or self.measured < 1:
            raise OptionError(f"n must be in [2, 16] and measured at least 1, got {self.n} and {self.measured}")


@dataclass(frozen=True, slots=True)
class Written:
    """A model's texts for the held-out requests, n each, no sentence checked on the way. Means, 0 to 1."""

    texts: int
    reward: float
    grounded: float
    covered: float
    readable: float
    unrepeated: float
    usr: float
    distinct_2: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training from preferences brought. `margin` is log P(chosen) - log P(rejected) on held-out pairs, mean, in nats."""

    adapter: Path
    merged: Path
    kinds: dict[str, int]
    left: dict[str, int]
    held_pairs: int
    margin: tuple[float, float] | None
    preferred: tuple[float, float] | None
    """Share of the held-out pairs of which the model finds the chosen text likelier, before and after."""
    before: Written
    after: Written

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: value for name, value in asdict(self).items() if name not in ("adapter", "merged")}


def prefer(
    base: str, entries: Sequence[Entry], requests: Sequence[Request], out: Path, options: PreferOptions, say: Say
) -> Outcome:
    """Learn from a store's entries, and from the reward on texts that the base writes for `requests`; either may be empty.

    Writes `out/adapter`, `out/merged` and `out/report.json`. An interrupted run keeps what the base wrote (`out/before.json`) and
    trains on from `out/steps`. Raises DataError where there is nothing to prefer, UsageError where `out` holds another run, and
    what `lora.tune` raises.
    """
    lora.check(base, options.adapter)
    requests = [safe(request)[0] for request in requests]  # as the explainer sees them, and the store keeps them
    gathered = preferences.from_store(entries)
    lora.claim(out, base, [*_pairs(gathered.found), *(Pair(request, "") for request in requests)], options)
    folder = lora.prepare_base(base, out / "base")
    opened = open_checkpoint(folder)
    asked = list(dict.fromkeys([*requests, *_requests(entries)]))
    held = asked[::_EVERY][: options.measured]
    if not (out / _BEFORE).is_file():
        with _writer(opened, out / "before.gguf") as explainer:
            chosen = _chosen(explainer, requests, options, preferences.said(entries))
            _keep(out / _BEFORE, chosen, _written(explainer, held, options.n))
    before = _kept(out / _BEFORE, gathered)
    learnt = [one for one in gathered.found if one.request not in held]
    measured = [one for one in gathered.found if one.request in held]
    _tell(gathered, learnt, say)
    train, valid = (rows(opened, some) for some in (learnt, measured))
    margins = dpo.margins(opened.model, valid)
    model = _tuned(opened, folder, out, options, train, valid)
    later = dpo.margins(model, valid)
    adapter = lora.save(model, opened.tokenizer, out / "adapter")
    merged = merge(adapter, out / "merged", folder)
    _add_drafts(merged, opened, learnt)
    with _writer(open_checkpoint(merged), out / "after.gguf") as explainer:
        after = _written(explainer, held, options.n)
    found = Outcome(
        adapter, merged, dict(gathered.kinds()), dict(gathered.left), len(valid), _both(margins, later),
        _both([m > 0 for m in margins], [m > 0 for m in later]), before, after,
    )  # fmt: skip
    with whole(out / REPORT) as part:
        part.write_text(json.dumps(found.to_json(), indent=2) + "\n", "utf-8")
    return found


def _pairs(found: Sequence[Preference]) -> Iterator[Pair]:
    return (pair for one in found for pair in one.pairs())


def _keep(path: Path, chosen: Gathered, before: Written) -> None:
    """Note what the base wrote, so that a training that goes on learns from the same texts."""
    rows = [[first.to_json(), second.to_json()] for first, second in (one.pairs() for one in chosen.found)]
    made = {"pairs": rows, "why": [one.why for one in chosen.found], "left": dict(chosen.left), "before": asdict(before)}
    with whole(path) as part:
        part.write_text(json.dumps(made, ensure_ascii=False) + "\n", "utf-8")


def _kept(path: Path, into: Gathered) -> Written:
    made = json.loads(path.read_text("utf-8"))
    for rows, why in zip(made["pairs"], made["why"], strict=True):
        first, second = map(Pair.from_json, rows)
        into.found.append(Preference(first.request, first.text, second.text, why))
    into.left.update(made["left"])
    return Written(**made["before"])


def _requests(entries: Sequence[Entry]) -> Iterator[Request]:
    for entry in entries:
        try:
            yield wire.request_from_json(entry.shown.request)
        except EdgegenError:  # `preferences.from_store` counts it
            continue


def _tell(gathered: Gathered, learnt: Sequence[Preference], say: Say) -> None:
    for why, count in sorted(gathered.kinds().items()):
        say(f"{why}: {count} preferences")
    for why, count in sorted(gathered.left.items()):
        say(f"not used, {why}: {count}")
    if not learnt:
        raise DataError(
            f"There is nothing to learn: no text was edited, none both liked and disliked, beyond one request in {_EVERY}, which "
            "is held out. Collect more feedback, or let the reward choose with --self."
        )


@contextmanager
def _writer(checkpoint: Checkpoint, path: Path) -> Iterator[Explainer]:
    """An explainer on a checkpoint as it is, without a licensing table, so that before and after are alike."""
    with open_engine(gpt2.write(checkpoint, path)) as engine:
        yield Explainer(engine)
    path.unlink()


def _chosen(explainer: Explainer, requests: Sequence[Request], options: PreferOptions, known: Said) -> Gathered:
    """The best of n texts that the base writes for each request, over worse ones."""
    out = Gathered()
    for request in requests:
        made = _drafts(explainer, request, options.n)
        found = preferences.from_candidates(made.prompt, made.candidates, options.teach, known)
        out.found += found
        if not found:
            out.left["candidates all true, or all untrue" if options.teach == "truth" else "candidates of the same reward"] += 1
    return out


def _drafts(explainer: Explainer, request: Request, n: int) -> Explanation:
    return explainer.explain(request, ExplainOptions(n=n, rewrite=False, enough=n, deadline_s=_DEADLINE_S))


def _written(explainer: Explainer, held: Sequence[Request], n: int) -> Written:
    texts, rewards = list[str](), list[Reward]()
    for request in held:
        draft = _drafts(explainer, request, n)
        for segments in draft.candidates or (None,):
            rewards.append(reward.of(segments, draft.prompt))
            texts.append(slots.render(segments or (), request.lang))
    of = {name: fmean(getattr(one, name) for one in rewards) for name in ("grounded", "covered", "readable", "unrepeated")}
    return Written(
        len(texts), fmean(one.total for one in rewards), **of, usr=features.usr(texts), distinct_2=scores.distinct(texts, 2)
    )


def rows(opened: Checkpoint, found: Sequence[Preference]) -> list[Row]:
    """As token ids; what is too long for the model is left out."""
    encoder, found_rows = Encoder(opened.tokenizer), list[Row]()
    for one in found:
        prompt, *texts = preferences.placed(one)
        chosen, rejected = (encoder.example(prompt, text) for text in texts)
        if max(len(chosen.ids), len(rejected.ids)) <= opened.model.config.n_positions:
            ids, start = chosen.ids.tolist(), chosen.start
            other = rejected.ids.tolist()[start:]
            found_rows.append({"prompt_ids": ids[:start], "chosen_ids": ids[start:], "rejected_ids": other})
    return found_rows


def _tuned(opened: Checkpoint, folder: Path, out: Path, options: PreferOptions, train: list[Row], valid: list[Row]) -> Any:
    if not train:
        raise DataError(f"None of the preferences fits the {opened.model.config.n_positions} tokens of the base.")
    shape = options.adapter
    config = kinds.config(
        shape.kind, rank=shape.rank, alpha=shape.alpha, dropout=shape.dropout, targets=shape.targets, steps=shape.fit.steps,
        fresh=lora.fresh_ids(folder, opened.tokenizer), base=str(folder),
    )  # fmt: skip
    rest = {"beta": options.beta, "anchor": options.anchor}
    return dpo.fit(opened.model, config, opened.tokenizer, train, valid, out / "steps", shape.fit, **rest)[0]


def _add_drafts(merged: Path, opened: Checkpoint, learnt: Sequence[Preference]) -> None:
    chosen = (Pair(one.request, one.chosen) for one in learnt)
    data = PairDataset(Encoder(opened.tokenizer), chosen, opened.model.config.n_positions)
    (merged / pack.DRAFT).write_bytes(draft_table(data, opened.model.config.vocab_size).to_bytes())


def _both(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    return (fmean(before), fmean(after)) if before else None
