"""The importance matrix of a checkpoint: the mean square of what each column of a matrix is multiplied with.

The quantizer then keeps the columns that texts use most closest to what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from convert.checkpoint import Checkpoint
from convert.gpt2 import NAMES
from edgegen.engine.quantizing import Importance
from edgegen.train.dataset import Example


@torch.inference_mode()
def importance(checkpoint: Checkpoint, examples: Sequence[Example], each: Callable[[int], None] = lambda _: None) -> Importance:
    """The importance matrix over the tokens of some texts; `each` is told how many are done."""
    sums: dict[str, Any] = {}
    handles = [module.register_forward_pre_hook(partial(_add, sums, name)) for name, module in _matrices(checkpoint)]
    try:
        for done, example in enumerate(examples, 1):
            checkpoint.model(torch.from_numpy(example.ids.astype(np.int64))[None])
            each(done)
    finally:
        for handle in handles:
            handle.remove()
    tokens = max(sum(len(example.ids) for example in examples), 1)
    return {name: np.ascontiguousarray((total / tokens).float().numpy()) for name, total in sums.items()}


def _matrices(checkpoint: Checkpoint) -> list[tuple[str, torch.nn.Module]]:
    """GGUF's name of each matrix and the module that multiplies with it; tied embeddings are multiplied with at the end."""
    model, parts = checkpoint.model, {ours: theirs for ours, theirs in NAMES.items() if not ours.endswith("_norm")}
    output = "token_embd.weight" if checkpoint.config.tie_word_embeddings else "output.weight"
    blocks = [
        (f"blk.{layer}.{ours}.weight", block.get_submodule(theirs))
        for layer, block in enumerate(model.transformer.h) for ours, theirs in parts.items()
    ]  # fmt: skip
    return [*blocks, (output, model.lm_head)]


def _add(sums: dict[str, Any], name: str, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    total = inputs[0].double().square().sum(dim=(0, 1))
    sums[name] = sums[name] + total if name in sums else total
