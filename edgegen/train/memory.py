"""Whether a base or its adapter can be trained in the memory that is free, told from the config before any weight is read.

Roughly: fp32 weights; of what is trained, a gradient and Adam's two moments besides; 17 values for each token and each unit of
width that a block keeps for its backward pass (Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, 34 bytes at two a
value, without the attention's matrix, which is not kept), or one with checkpointing; three of each logit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.config import Config
from edgegen.errors import UsageError

if TYPE_CHECKING:
    from edgegen.train.fit import FitOptions
    from edgegen.train.lora import LoraOptions

_VALUE = 4  # bytes
_TRAINED = 4  # values of each parameter that is trained: itself, its gradient, two moments
_KEPT = 17
_LOGIT = 3
_TOKENS = 128  # of a pair, prompt and text; most have fewer
_SIDES = {"c_attn": 1 + 3, "c_proj": 1 + 1 + 4 + 1, "c_fc": 1 + 4}  # in and out of a block's matrices, in widths


def parameters(config: Config) -> int:
    """How many values a GPT-2 has."""
    width = config.n_embd
    rows = config.vocab_size * (1 if config.tie_word_embeddings else 2) + config.n_positions
    return rows * width + config.n_layer * (12 * width * width + 13 * width) + 2 * width


def needed(config: Config, fit: FitOptions, shape: LoraOptions | None, batch: int) -> tuple[int, int]:
    """Bytes of what is there for the whole training, and of what a pass over `batch` pairs keeps for its gradients.

    Without the shape of an adapter all weights are trained.
    """
    width, tokens, held = config.n_embd, min(_TOKENS, config.n_positions), _TRAINED * parameters(config)
    if shape is not None:
        trained = shape.rank * config.n_layer * width * sum(_SIDES[name] for name in shape.targets)
        held = parameters(config) + _TRAINED * trained
    kept = config.n_layer * width * (1 if fit.checkpointing else _KEPT) + (_KEPT * width) + _LOGIT * config.vocab_size
    return _VALUE * held, _VALUE * batch * tokens * kept


def available() -> int:
    """Bytes that are free: of the GPU where there is one, else of the machine."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def require(base: str, config: Config, fit: FitOptions, shape: LoraOptions | None, batch: int) -> None:
    """Raise UsageError where a base cannot be trained here; `batch` is the pairs that this process takes in a pass."""
    (whole, passing), free = needed(config, fit, shape, batch), available()
    if whole + passing <= free:
        return
    advice = "Take a smaller base, or a machine with more memory."
    if whole < free:
        advice = f"Give a smaller --batch than {fit.batch} (with --accumulate), --checkpointing, or a smaller base."
    raise UsageError(
        f"The base {base} has {parameters(config) / 1e6:,.0f}M parameters: to tune it takes about {_size(whole + passing)} of "
        f"memory, and {_size(free)} are free. {advice}"
    )


def _size(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
