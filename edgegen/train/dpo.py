"""Direct preference optimisation of an adapter with trl's trainer; the reference is the base with the adapter switched off.

Loss: -log sigmoid(beta x (r(chosen) - r(rejected))), r = log P(text | prompt) - log P_base(text | prompt), and `anchor` times the
cross-entropy of the chosen text, which keeps it likely while the other gets unlikely. Rafailov et al. 2023,
https://arxiv.org/abs/2305.18290; the anchor: Pang et al. 2024, https://arxiv.org/abs/2404.19733.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast, PrinterCallback
from trl import DPOConfig, DPOTrainer

from edgegen.errors import DataError
from edgegen.train import track
from edgegen.train.fit import FitOptions, Watch, bf16_pays, last_checkpoint, schedule

Row = dict[str, list[int]]
"""`prompt_ids`, `chosen_ids`, `rejected_ids`; both texts with their end token."""


class _Encoded(DPOTrainer):  # type: ignore[misc]
    """A DPOTrainer of rows that are token ids already: trl's own encoding knows text alone, no slots and no control tokens."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def fit(
    model: GPT2LMHeadModel, config: PeftConfig, words: PreTrainedTokenizerFast, train: Sequence[Row], valid: Sequence[Row],
    out: Path, options: FitOptions, *, beta: float, anchor: float,
) -> tuple[PeftModel, list[dict[str, float]]]:  # fmt: skip
    """Train an adapter on preferences with checkpoints in `out`, going on from the last one; gives it and the log.

    Raises DataError where the loss is no number any more.
    """
    trainer = _Encoded(
        model=model, args=_arguments(out, options, beta, anchor, bool(valid)), train_dataset=Dataset.from_list(list(train)),
        eval_dataset=Dataset.from_list(list(valid)) if valid else None, processing_class=words, peft_config=config,
        callbacks=[Watch(), *track.callbacks(options.track, out)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # it would write to stdout
    trainer.train(resume_from_checkpoint=last_checkpoint(out))
    tuned = trainer.model
    del tuned.get_base_model().forward  # trl's; the class's own again
    return tuned, list(trainer.state.log_history)


def _arguments(out: Path, options: FitOptions, beta: float, anchor: float, evaluate: bool) -> DPOConfig:
    cuda = torch.cuda.is_available()
    # Renamed within transformers 5; trl sets the old name by default.
    name = "activation_checkpointing" if hasattr(DPOConfig, "activation_checkpointing") else "gradient_checkpointing"
    checkpointing = {name: options.checkpointing}
    losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, anchor]} if anchor else {"loss_type": ["sigmoid"]}
    return DPOConfig(
        output_dir=str(out), beta=beta, **losses, max_length=None, max_steps=options.steps,
        per_device_train_batch_size=options.batch, per_device_eval_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate, **checkpointing,
        learning_rate=options.rate, **schedule(options), weight_decay=options.weight_decay, max_grad_norm=1.0,
        bf16=bf16_pays(), use_cpu=not cuda, seed=options.seed, save_steps=options.save_every, save_total_limit=2,
        logging_steps=options.log_every, eval_strategy="steps" if evaluate else "no", eval_steps=options.save_every,
        report_to=[], disable_tqdm=True, dataloader_num_workers=0, dataloader_pin_memory=cuda,
    )  # fmt: skip


@torch.inference_mode()
def margins(model: Any, rows: Sequence[Row]) -> list[float]:
    """Log P(chosen) - log P(rejected) of each row, in nats."""
    model.eval()
    found = [_logp(model, row, "chosen_ids") - _logp(model, row, "rejected_ids") for row in rows]
    if not all(map(isfinite, found)):
        raise DataError("The model gives no number for a text. Lower the rate.")
    return found


def _logp(model: Any, row: Row, which: str) -> float:
    prompt, text = row["prompt_ids"], row[which]
    ids = torch.tensor([[*prompt, *text]], device=model.device)
    logs = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logs.gather(1, ids[0, len(prompt) :, None]).sum())
