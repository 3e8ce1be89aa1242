"""The kinds of adapters that PEFT puts on a GPT-2, each with what it needs while it is trained.

LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685. rsLoRA: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732. DoRA: Liu
et al. 2024, https://arxiv.org/abs/2402.09353. AdaLoRA: Zhang et al. 2023, https://arxiv.org/abs/2303.10512. Prefix tuning: Li
and Liang 2021, https://arxiv.org/abs/2101.00190; a prefix stands beside the weights, so it cannot be merged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig
from peft.utils.warning import PeftWarning
from transformers import TrainerCallback

from edgegen.errors import OptionError

Kind = Literal["lora", "rslora", "dora", "adalora", "prefix"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def config(
    kind: Kind, *, rank: int, alpha: float, dropout: float, targets: Sequence[str], steps: int, fresh: list[int], base: str
) -> PeftConfig:  # fmt: skip
    """PEFT's config of a kind. `rank` is the length of a prefix; `fresh` are ids whose embeddings are trained too.

    Raises OptionError where a kind cannot train them.
    """
    shared: dict[str, Any] = {"task_type": "CAUSAL_LM", "base_model_name_or_path": base}
    if fresh and not trains_rows(kind):
        raise OptionError(
            f"{kind} cannot train the embeddings of edgegen's tokens, which the base lacks. Use lora, rslora or dora, or the "
            "bundled base."
        )
    if kind == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=rank, **shared)
    # GPT-2's Conv1D keeps [in, out].
    shared |= {"lora_alpha": alpha, "lora_dropout": dropout, "target_modules": list(targets), "fan_in_fan_out": True}
    if kind == "adalora":
        # It starts wide, takes ranks away where they matter least, and trains what is left for the last third.
        phases = {"tinit": steps // 10, "tfinal": steps // 3, "deltaT": max(1, steps // 100), "total_step": steps}
        return AdaLoraConfig(init_r=rank + (rank + 1) // 2, target_r=rank, **phases, **shared)
    rows = {"wte": fresh} if fresh else None
    return LoraConfig(r=rank, use_rslora=kind == "rslora", use_dora=kind == "dora", trainable_token_indices=rows, **shared)


def trains_rows(kind: Kind) -> bool:
    """Whether a kind can train embeddings of single tokens."""
    return kind not in ("adalora", "prefix")


def callbacks(kind: Kind, model: PeftModel) -> list[TrainerCallback]:
    """What a kind does between the steps."""
    return [_Budget(model)] if kind == "adalora" else []


@contextmanager
def saving() -> Iterator[None]:
    """Where adapters are written: AdaLoRA may have taken all ranks of a matrix, for which PEFT suspects lost shards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Adapter .* LoRA tensor\(s\) have invalid shape", PeftWarning)
        yield


def prompts(model: Any) -> bool:
    """Whether a model has a prefix: then it has to be called as a whole."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def shrinks(model: Any) -> bool:
    """Whether its ranks become fewer while it trains: AdaLoRA's."""
    return isinstance(getattr(model, "active_peft_config", None), AdaLoraConfig)


def penalty(model: Any) -> torch.Tensor | None:
    """AdaLoRA's penalty on factors that are not orthogonal, None for the other kinds."""
    if not shrinks(model):
        return None
    settings = model.active_peft_config
    factors = [p if "lora_A" in name else p.T for name, p in model.named_parameters() if "lora_A" in name or "lora_B" in name]
    apart = [torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=rows.device)) for rows in factors]
    result: torch.Tensor = settings.orth_reg_weight * torch.stack(apart).mean()
    return result


class _Budget(TrainerCallback):  # type: ignore[misc]
    """Gives AdaLoRA's ranks to the matrices that need them; it looks at gradients, so between step and zero_grad."""

    def __init__(self, model: PeftModel) -> None:
        self._model = model

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each step of the optimiser."""
        self._model.base_model.update_and_allocate(state.global_step + 1)
