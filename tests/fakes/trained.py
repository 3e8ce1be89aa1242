"""Trains a tiny model and prints its losses: `python -m tests.fakes.trained OUT [STEP]`; kills itself after STEP.

Run by `torchrun` it is one of several processes; the batch is the same in all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback

from edgegen.slots import SPECIALS
from edgegen.train import tokenizer
from edgegen.train.dataset import Encoder, PairDataset
from edgegen.train.fit import FitOptions, fit
from tests.fakes.checkpoints import PAIRS, TEXTS


class Kill(TrainerCallback):  # type: ignore[misc]
    """Ends the process as a power cut does."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each step."""
        if state.global_step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(out: str, step: str = "0") -> None:
    """Train, print (step, loss) and the weights' sum."""
    torch.manual_seed(1)
    words = tokenizer.train(TEXTS, len(SPECIALS) + 300)
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    net = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=256, n_embd=16, n_layer=2, n_head=2, **drops))
    data = PairDataset(Encoder(words), PAIRS * 8, 256)
    options = FitOptions(steps=6, batch=8, rate=5e-3, warmup=1, save_every=2, log_every=1)
    log = fit(net, words, data, data, Path(out), options, [Kill(int(step))])
    if os.environ.get("RANK", "0") == "0":
        losses = [[entry["step"], name, entry[name]] for entry in log for name in ("loss", "eval_loss") if name in entry]
        sys.stdout.write(json.dumps({"losses": losses, "sum": float(sum(p.abs().sum() for p in net.parameters()))}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
