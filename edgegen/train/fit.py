"""Training with transformers' Trainer: the loss on the text only, length-grouped batches, resume, fused GELU.

Loss: -1/N sum log P(text token | facts, text before), over the N text tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import get_last_checkpoint

from edgegen.errors import OptionError
from edgegen.train.dataset import IGNORE, Example, PairDataset, collate

FUSED = "gelu_pytorch_tanh"  # the same function as gelu_new, in one kernel
SAVED = "gelu_new"


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to train.

    `steps` optimiser steps of `batch` pairs, `rate` the peak learning rate after `warmup` steps, held and then lowered
    to zero over the last `decay` share of the steps. `save_every` steps a checkpoint is written.
    """

    steps: int = 1000
    batch: int = 32
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.05
    seed: int = 0
    save_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        """Refuse options that cannot work."""
        if self.steps < 1 or self.batch < 1:
            raise OptionError(f"steps and batch must be at least 1, got {self.steps} and {self.batch}")
        if not 0 < self.rate < 1 or not 0 <= self.decay <= 1:
            raise OptionError(f"rate must be in (0, 1) and decay in [0, 1], got {self.rate} and {self.decay}")


class TextTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that projects only the text's positions onto the vocabulary."""

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy over the text tokens."""
        loss = text_loss(model, inputs["input_ids"], inputs["labels"])
        return (loss, {"loss": loss}) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """The loss alone."""
        with torch.no_grad(), self.compute_loss_context_manager():
            inputs = self._prepare_inputs(inputs)
            return self.compute_loss(model, inputs).detach(), None, None

    def _get_train_sampler(self, *_: Any) -> Any:
        return MixedBatches(self.args.train_batch_size, self.train_dataset.lengths, self.args.seed)


class MixedBatches(Sampler[int]):
    """Batches of like lengths in random order.

    transformers' sampler gives them from long to short, fifty batches at a time. Where length goes with the task, as here, the
    model then learns one kind of text and forgets the other, fifty steps each (docs/log.md, 2026-11-25).
    """

    def __init__(self, batch: int, lengths: list[int], seed: int) -> None:
        super().__init__()
        self._batch, self._lengths, self._seed, self._epoch = batch, lengths, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for each epoch, the same after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        grouped = list(LengthGroupedSampler(self._batch, lengths=self._lengths, generator=generator))
        batches = [grouped[at : at + self._batch] for at in range(0, len(grouped), self._batch)]
        whole = [batch for batch in batches if len(batch) == self._batch]
        order = torch.randperm(len(whole), generator=generator).tolist()
        yield from (index for at in order for index in whole[at])
        yield from (index for batch in batches if len(batch) < self._batch for index in batch)


def text_loss(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the labelled tokens; ids and labels int64 [batch, length]."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    target = labels[:, 1:]
    chosen = target != IGNORE
    logits = base.lm_head(_hidden(base.transformer, ids[:, :-1], chosen))
    return functional.cross_entropy(logits.float(), target[chosen])


def _hidden(gpt2: Any, ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """GPT-2's last hidden states [chosen, width]; the last layer's MLP, of use to no other position, runs on these alone."""
    hidden = gpt2.drop(gpt2.wte(ids) + gpt2.wpe.weight[: ids.shape[1]])
    for block in gpt2.h[:-1]:
        hidden = block(hidden)
    last = gpt2.h[-1]
    hidden = (hidden + last.attn(last.ln_1(hidden))[0])[chosen]
    out: torch.Tensor = gpt2.ln_f(hidden + last.mlp(last.ln_2(hidden)))
    return out


def fit(
    model: Any, tokenizer: PreTrainedTokenizerFast, train: PairDataset, valid: PairDataset | None, out: Path, options: FitOptions
) -> list[dict[str, float]]:
    """Train `model` in place with checkpoints in `out`, going on from the last one; returns the log of losses."""
    base: GPT2LMHeadModel = model.get_base_model() if hasattr(model, "get_base_model") else model
    _set_activation(base, FUSED)
    trainer = TextTrainer(
        model=model,
        args=_arguments(out, options, valid is not None),
        train_dataset=train,
        eval_dataset=valid,
        data_collator=partial(collate, pad=int(tokenizer.pad_token_id or 0)),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if out.is_dir() else None)
    _set_activation(base, SAVED)
    return list(trainer.state.log_history)


def _set_activation(model: GPT2LMHeadModel, name: str) -> None:
    from transformers.activations import ACT2FN

    model.config.activation_function = name
    for block in model.transformer.h:
        block.mlp.act = ACT2FN[name]


def _arguments(out: Path, options: FitOptions, evaluate: bool) -> TrainingArguments:
    cuda = torch.cuda.is_available()
    decay = max(1, round(options.steps * options.decay))
    return TrainingArguments(
        output_dir=str(out),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        learning_rate=options.rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": decay},
        warmup_steps=min(options.warmup, options.steps - decay),
        weight_decay=options.weight_decay,
        adam_beta2=0.98,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        bf16=bf16_pays(),
        use_cpu=not cuda,
        seed=options.seed,
        data_seed=options.seed,
        save_steps=options.save_every,
        save_total_limit=2,
        logging_steps=options.log_every,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=options.save_every,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
    )


def bf16_pays() -> bool:
    """Whether bf16 autocast is faster than fp32 here: on CUDA, and on CPUs with bf16 matrix units."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def lengths(examples: Sequence[Example]) -> tuple[int, int]:
    """Tokens in all and tokens of text, for the log."""
    return sum(len(e.ids) for e in examples), sum(len(e.ids) - e.start for e in examples)
