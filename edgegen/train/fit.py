"""Training with transformers' Trainer: the losses of `losses`, length-grouped batches, mixing of tasks, resume, fused GELU."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import (
    EarlyStoppingCallback,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
)
from transformers import TrainingArguments as Arguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from edgegen.errors import DataError, OptionError
from edgegen.progress import Progress, plain
from edgegen.train import kinds, track
from edgegen.train.batches import MixedBatches, mixed
from edgegen.train.dataset import PairDataset, collate
from edgegen.train.losses import TextLoss
from edgegen.train.track import Tracker

Adversarial = Literal["none", "fgm", "rdrop"]
Schedule = Literal["stable", "cosine"]
_TOLD = {"loss": "loss", "eval_loss": "loss on pairs held out"}
FUSED = "gelu_pytorch_tanh"  # the same function as gelu_new, in one kernel
SAVED = "gelu_new"


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to train."""

    steps: int = 1000
    """Optimiser steps; at least 1."""
    batch: int = 32
    """Pairs in a pass of all processes together; at least 1, and their number must divide it."""
    accumulate: int = 1
    """Passes in a step; at least 1."""
    rate: float = 1e-3
    """The highest learning rate, reached after `warmup` steps; in (0, 1)."""
    warmup: int = 100
    schedule: Schedule = "stable"
    """`stable` holds the rate and lowers it to zero over the last `decay` share of the steps; `cosine` lowers it all the way."""
    decay: float = 0.3
    weight_decay: float = 0.05
    adversarial: Adversarial = "none"
    """`fgm` moves embeddings against the loss, `rdrop` lets two passes of different dropout agree; see `losses`."""
    strength: float = 1.0
    """How far fgm moves, or how much disagreement counts; above 0."""
    mixing: float = 1.0
    """Temperature of the mix of tasks and languages: each is drawn as often as its pairs to the power of 1 / mixing. 1 takes all
    pairs alike, a higher one brings small tasks nearer to large ones. At least 1."""
    patience: int = 0
    """Ends after so many evaluations without a better loss, and keeps the best; 0 takes every step and the last."""
    checkpointing: bool = False
    """Compute activations again in place of keeping them: less memory, a third slower."""
    seed: int = 0
    save_every: int = 200
    """Steps between checkpoints, and between evaluations."""
    log_every: int = 20
    track: Tracker = "tensorboard"
    """Where losses go beside the log: tensorboard, wandb or none. It makes no difference to what is learnt."""

    def __post_init__(self) -> None:
        """Check every range. Raises OptionError."""
        for name in ("steps", "batch", "accumulate", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.rate < 1 or not 0 <= self.decay <= 1:
            raise OptionError(f"rate must be in (0, 1) and decay in [0, 1], got {self.rate} and {self.decay}")
        for name, known in (("adversarial", Adversarial), ("schedule", Schedule), ("track", Tracker)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        if not (isfinite(self.strength) and self.strength > 0 and isfinite(self.mixing) and self.mixing >= 1):
            raise OptionError(f"strength must be above 0 and mixing at least 1, got {self.strength} and {self.mixing}")
        if self.patience < 0:
            raise OptionError(f"patience must be at least 0, got {self.patience}")


class TextTrainer(Trainer):  # type: ignore[misc]
    """A Trainer with the text's loss, made harder while it trains if the options say so."""

    def __init__(self, options: FitOptions, model: Any, **settings: Any) -> None:
        self._options = options
        plain = model.forward

        def forward(*args: Any, loss_of: Any = None, **more: Any) -> Any:
            """The loss, where it is asked for, as the model's own forward: only so do several processes add up gradients."""
            return loss_of() if loss_of is not None else plain(*args, **more)

        model.forward = forward
        super().__init__(model=model, **settings)
        self._net, self._plain = model, plain

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch. With several processes `num_items_in_batch` counts all of their tokens, and they average."""
        loss = model(loss_of=partial(self._loss, inputs["input_ids"], inputs["labels"], num_items_in_batch))
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, {"loss": loss}) if return_outputs else loss

    def _loss(self, ids: torch.Tensor, labels: torch.Tensor, items: Any) -> torch.Tensor:
        net, options = self._net, self._options
        if kinds.prompts(net):
            loss: torch.Tensor = self._plain(input_ids=ids, labels=labels, num_items_in_batch=items).loss
            return loss
        losses = TextLoss(net, ids, labels, items)
        if not net.training or options.adversarial == "none":
            loss = losses.plain()
        else:
            loss = losses.fgm(options.strength) if options.adversarial == "fgm" else losses.r_drop(options.strength)
        penalty = kinds.penalty(net) if net.training else None
        return loss if penalty is None else loss + penalty

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """The loss alone."""
        with torch.no_grad(), self.compute_loss_context_manager():
            inputs = self._prepare_inputs(inputs)
            return self.compute_loss(model, inputs).detach(), None, None

    def _get_train_sampler(self, *_: Any) -> Any:
        data, batch = self.train_dataset, self.args.train_batch_size * self.args.world_size
        return MixedBatches(batch, data.lengths, self.args.seed, mixed(data.groups, self._options.mixing))


def fit(
    model: Any, tokenizer: PreTrainedTokenizerFast, train: PairDataset, valid: PairDataset | None, out: Path, options: FitOptions,
    callbacks: Sequence[TrainerCallback] = (), progress: Progress = plain,
) -> list[dict[str, float]]:  # fmt: skip
    """Train `model` in place with checkpoints in `out`, going on from the last one; returns the log of losses.

    AdaLoRA begins anew: its ranks have shrunk, so no checkpoint fits a fresh adapter.

    Raises OptionError for options that do not go with the model or the data, DataError where the loss is no number any more.
    """
    base: GPT2LMHeadModel = model.get_base_model() if hasattr(model, "get_base_model") else model
    _check(base, valid, options)
    _set_activation(base, FUSED)
    if options.checkpointing:
        # Renamed within transformers 5.
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    stopping = [EarlyStoppingCallback(options.patience)] if options.patience else []
    trackers = track.callbacks(options.track, out)
    last = None if kinds.shrinks(model) else last_checkpoint(out)
    trainer = TextTrainer(
        options,
        model=model,
        args=_arguments(out, options, valid is not None),
        train_dataset=train,
        eval_dataset=valid,
        data_collator=partial(collate, pad=int(tokenizer.pad_token_id or 0)),
        callbacks=[Watch(progress), *stopping, *trackers, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)  # it would write to stdout
    try:
        with kinds.saving():
            if last and (state := _ended(last, options)):  # where it went on, it would train one more step
                trainer.state = state
                best = Path(state.best_model_checkpoint or last)
                trainer._load_from_checkpoint(str(best) if options.patience and best.is_dir() else last)
            else:
                trainer.train(resume_from_checkpoint=last)
    finally:
        del model.forward  # the class's own again
        _set_activation(base, SAVED)
    return list(trainer.state.log_history)


def last_checkpoint(out: Path) -> str | None:
    """The last checkpoint in a folder that was written to its end: the state comes last, and a kill may cut one short."""
    states = [path for path in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}") if _whole(path)]
    last = max(states, key=lambda path: int(path.parent.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")), default=None)
    return None if last is None else str(last.parent)


def _whole(state: Path) -> bool:
    try:
        json.loads(state.read_bytes())
    except ValueError:
        return False
    return True


def _ended(checkpoint: str, options: FitOptions) -> TrainerState | None:
    """The state of a checkpoint after which nothing is left to train: all steps are done, or patience ended it."""
    state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
    control = state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
    return state if state.global_step >= options.steps or control.get("should_training_stop") else None


def _check(model: GPT2LMHeadModel, valid: PairDataset | None, options: FitOptions) -> None:
    if options.patience and valid is None:
        raise OptionError("patience needs pairs that are held out. Give more pairs, or set patience to 0.")
    if options.batch % processes():
        raise OptionError(f"A batch of {options.batch} cannot be shared by {processes()} processes. Give a multiple of that.")
    dropout = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in model.modules())
    if options.adversarial == "rdrop" and not dropout:
        raise OptionError("rdrop compares two passes of different dropout, and this model has none. Set dropout above 0.")


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the losses, and ends a training whose loss is no number: everything after it would be lost time."""

    def __init__(self, progress: Progress = plain) -> None:
        self._progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Look at each loss that is told."""
        told = [f"{name} {float((logs or {})[key]):.4f}" for key, name in _TOLD.items() if key in (logs or {})]
        if told and state.is_world_process_zero:
            self._progress("step", state.global_step, args.max_steps, ", ".join(told))
        for name, value in (logs or {}).items():
            if name in ("loss", "grad_norm", "eval_loss") and not isfinite(float(value)):
                raise DataError(
                    f"The {name} is {value} at step {state.global_step}. Lower the rate; the checkpoints before are in "
                    f"{args.output_dir}."
                )


def _set_activation(model: GPT2LMHeadModel, name: str) -> None:
    from transformers.activations import ACT2FN

    model.config.activation_function = name
    for block in model.transformer.h:
        block.mlp.act = ACT2FN[name]


def _arguments(out: Path, options: FitOptions, evaluate: bool) -> Arguments:
    cuda = torch.cuda.is_available()
    return Arguments(
        output_dir=str(out),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch // processes(),
        per_device_eval_batch_size=options.batch // processes(),
        learning_rate=options.rate,
        gradient_accumulation_steps=options.accumulate,
        **schedule(options),
        weight_decay=options.weight_decay,
        adam_beta2=0.98,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        bf16=bf16_pays(),
        use_cpu=not cuda,
        ddp_find_unused_parameters=False,
        seed=options.seed,
        data_seed=options.seed,
        save_steps=options.save_every,
        save_total_limit=2,
        logging_steps=options.log_every,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=options.save_every,
        restore_callback_states_from_checkpoint=True,  # how long patience has waited
        load_best_model_at_end=evaluate and options.patience > 0,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
    )


def schedule(options: FitOptions) -> dict[str, Any]:
    """The rate's course as TrainingArguments take it."""
    if options.schedule == "cosine":
        return {"lr_scheduler_type": "cosine", "warmup_steps": min(options.warmup, options.steps)}
    decay = max(1, round(options.steps * options.decay))
    kwargs = {"num_decay_steps": decay}
    return {
        "lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs,
        "warmup_steps": min(options.warmup, options.steps - decay),
    }  # fmt: skip


def processes() -> int:
    """How many processes train together, as `torchrun` says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def bf16_pays() -> bool:
    """Whether bf16 autocast is faster than fp32 here: on CUDA, and on CPUs with bf16 matrix units."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def curve(log: Sequence[dict[str, float]], most: int = 200) -> list[dict[str, float]]:
    """The losses of a log by step, for a report's plot: about `most` entries, evenly taken."""
    kept = ("step", "loss", "eval_loss")
    found = [{key: entry[key] for key in kept if key in entry} for entry in log if "loss" in entry or "eval_loss" in entry]
    return [entry for i, entry in enumerate(found) if "eval_loss" in entry or i % max(1, len(found) // most) == 0]
