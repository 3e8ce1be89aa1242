"""Where the losses of a training go beside its own log: TensorBoard by default, Weights & Biases where it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from transformers import TrainerCallback

from edgegen.errors import MissingExtraError

Tracker = Literal["tensorboard", "wandb", "none"]
TRACKERS: tuple[Tracker, ...] = get_args(Tracker)
FOLDER = "tensorboard"
"""Beside the checkpoints: `tensorboard --logdir` takes it, or any folder above."""


def callbacks(tracker: Tracker, steps: Path) -> Sequence[TrainerCallback]:
    """What tells a tracker of a training with checkpoints in `steps`. Raises MissingExtraError for one that is not installed.

    TensorBoard comes with edgegen[train]; where it was left out nothing is written, and that is said.
    """
    if tracker == "tensorboard" and find_spec("tensorboard") is None:
        sys.stderr.write("TensorBoard is not installed: losses are told here alone.\n")
        return ()
    if tracker == "none":
        return ()
    if tracker == "tensorboard":
        from transformers.integrations import TensorBoardCallback

        callback = TensorBoardCallback()
        callback.logging_dir = str(steps.parent / FOLDER)  # opened when a training begins, by the first process alone
        return (callback,)
    if find_spec("wandb") is None:
        raise MissingExtraError("Weights & Biases is not installed. Install it: pip install wandb. Or track with tensorboard.")
    from transformers.integrations import WandbCallback

    return (WandbCallback(),)
