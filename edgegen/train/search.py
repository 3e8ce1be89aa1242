"""Search of hyper-parameters of an adapter with Optuna: pruned where a trial lags, resumed from an SQLite file.

A trial trains an adapter for all of the steps unless it is pruned and is judged by its lowest loss on the pairs held out. The
median pruner ends a trial that is worse at an evaluation than half of those before; sampling is by a tree-structured Parzen
estimator. Source: Akiba et al. 2019, https://arxiv.org/abs/1907.10902.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import torch
from transformers import TrainerCallback

from convert.checkpoint import open_checkpoint
from convert.output import whole
from edgegen.errors import DataError, OptionError
from edgegen.train import augment, kinds, lora
from edgegen.train.dataset import Encoder, PairDataset
from edgegen.train.fit import fit
from edgegen.train.lora import LoraOptions
from edgegen.train.pairs import Pair

STUDY, BEST = "study.db", "best.json"
_EVALUATIONS = 8  # of a trial: as often it can be pruned


@dataclass(frozen=True, slots=True)
class Space:
    """What is tried; a choice of one holds it."""

    kinds: Sequence[kinds.Kind] = ("lora",)
    ranks: Sequence[int] = (2, 4, 8, 16, 32)
    scales: Sequence[float] = (0.5, 1.0, 2.0, 4.0)
    """Alpha as a multiple of the rank."""
    rates: tuple[float, float] = (1e-4, 1e-2)
    dropouts: tuple[float, float] = (0.0, 0.2)
    adversarial: Sequence[str] = ("none",)
    augments: Sequence[str] = (augment.NONE,)
    """Ways to change copies, several joined by `+`; see `augment.parse`."""

    def __post_init__(self) -> None:
        """Check the names. Raises OptionError."""
        for ways in self.augments:
            augment.parse(ways)


@dataclass(frozen=True, slots=True)
class _Run:
    """What decides a trial, but for its number."""

    usual: LoraOptions
    space: Space


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished search: the best options, their loss, and how many trials were finished and pruned."""

    options: LoraOptions
    loss: float
    finished: int
    pruned: int


def search(
    base: str, train: Sequence[Pair], valid: Sequence[Pair], out: Path, usual: LoraOptions, *, trials: int,
    space: Space | None = None, say: Callable[[str], None] = lambda _: None,
) -> Outcome:  # fmt: skip
    """Try options until `trials` are done, those of an earlier call in `out` among them; writes the best to `out/best.json`.

    `usual` gives what is not tried. Raises what `lora.tune` raises.
    """
    if trials < 1:
        raise OptionError(f"trials must be at least 1, got {trials}")
    lora.check(base, usual)
    space = space or Space()
    lora.claim(out, base, [*train, *valid], _Run(usual, space))
    folder = lora.prepare_base(base, out / "base")
    opened = open_checkpoint(folder)
    encoder, context = Encoder(opened.tokenizer), opened.config.n_positions
    held = PairDataset(encoder, valid, context)

    @cache
    def learnt(ways: tuple[str, ...]) -> PairDataset:
        return PairDataset(encoder, augment.augmented(train, ways, usual.copies, usual.fit.seed, valid), context)

    if not len(learnt(())) or not len(held):
        raise DataError("A search needs pairs to learn and pairs that are held out, and one of them has none. Give more pairs.")
    study = _study(out, usual.fit.seed)

    def objective(trial: optuna.Trial) -> float:
        options = _sampled(trial, space, usual)
        try:
            loss = _loss(folder, (learnt(options.augment), held), options, trial)
        except DataError as error:  # a rate that is too high makes the loss no number: so much for this trial
            say(f"trial {trial.number}: {error}")
            raise optuna.TrialPruned from error
        say(f"trial {trial.number}: loss {loss:.4f}, {json.dumps(trial.params)}")
        return loss

    done = len([t for t in study.trials if t.state.is_finished() and t.state != optuna.trial.TrialState.FAIL])
    study.optimize(objective, n_trials=max(0, trials - done))
    return _best(study, space, usual, out)


def _study(out: Path, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="lora", storage=f"sqlite:///{out / STUDY}", load_if_exists=True, direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )  # fmt: skip
    # The sampler's state is not kept: with the same seed a search that goes on would draw its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _sampled(trial: Any, space: Space, usual: LoraOptions) -> LoraOptions:
    rank = trial.suggest_categorical("rank", list(space.ranks))
    kind = trial.suggest_categorical("kind", list(space.kinds))
    fit_options = replace(
        usual.fit,
        rate=trial.suggest_float("rate", *space.rates, log=True),
        adversarial=trial.suggest_categorical("adversarial", list(space.adversarial)),
        save_every=max(1, usual.fit.steps // _EVALUATIONS),
    )
    alpha = rank * trial.suggest_categorical("scale", list(space.scales))
    dropout = trial.suggest_float("dropout", *space.dropouts)
    ways = augment.parse(trial.suggest_categorical("augment", list(space.augments)))
    return replace(usual, kind=kind, rank=rank, alpha=alpha, dropout=dropout, augment=ways, fit=fit_options)


def _loss(folder: Path, sets: tuple[PairDataset, PairDataset], options: LoraOptions, trial: optuna.Trial) -> float:
    opened = open_checkpoint(folder)
    torch.manual_seed(options.fit.seed)
    model = lora.adapted(opened.model, folder, options, lora.trained_ids(folder, opened.tokenizer, options.kind, sets[0]))
    watch = [_Report(trial), *kinds.callbacks(options.kind, model)]
    with TemporaryDirectory() as steps:
        log = fit(model, opened.tokenizer, *sets, Path(steps), options.fit, watch)
    return min(entry["eval_loss"] for entry in log if "eval_loss" in entry)


class _Report(TrainerCallback):  # type: ignore[misc]
    """Tells the study each evaluation, and ends a trial that lags."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial, self._count = trial, 0

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **_: Any) -> None:
        """After each evaluation."""
        self._trial.report((metrics or {})["eval_loss"], self._count)
        self._count += 1
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _best(study: optuna.Study, space: Space, usual: LoraOptions, out: Path) -> Outcome:
    states = [trial.state for trial in study.trials]
    finished = states.count(optuna.trial.TrialState.COMPLETE)
    if not finished:
        raise DataError("No trial came to its end. Look at what was said of them; a lower rate or more --trials may help.")
    best = study.best_trial
    options = _sampled(optuna.trial.FixedTrial(best.params), space, usual)
    options = replace(options, fit=replace(options.fit, save_every=usual.fit.save_every))
    assert best.value is not None  # noqa: S101 - a finished trial has one
    with whole(out / BEST) as part:
        part.write_text(json.dumps({"loss": best.value, "options": asdict(options)}, indent=2) + "\n", "utf-8")
    return Outcome(options, best.value, finished, states.count(optuna.trial.TrialState.PRUNED))
