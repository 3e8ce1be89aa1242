"""Reads the config of a PEFT adapter and refuses by name what a LoRA adapter in GGUF cannot hold. Reads no weights.

What a later PEFT adds is refused too, unless it is empty: an unknown setting may change what is computed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgegen.errors import ConvertError, NotFoundError

FILE = "adapter_config.json"
_KNOWN = frozenset({
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "megatron_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern",
    "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
})  # fmt: skip
"""Settings that say which matrices there are and how they are scaled, or that concern training only."""
_NONE: tuple[object, ...] = (None, False, "none", [], {})
_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")  # other ways to start change the base's weights too
_NAMES = {
    "use_dora": "DoRA", "modules_to_save": "whole modules (modules_to_save)", "trainable_token_indices": "trained token rows",
    "alora_invocation_tokens": "an aLoRA",
}  # fmt: skip


AS_GGUF = "It cannot become a GGUF adapter. Merge it into its base instead: edgegen convert BASE --adapter FOLDER."


def check(adapter: Path, advice: str = AS_GGUF) -> None:
    """Raise NotFoundError without a config, ConvertError for one that is broken or is more than LoRA; it ends with `advice`."""
    config = read(adapter)
    kind, alpha, start = config.get("peft_type"), config.get("lora_alpha"), config.get("init_lora_weights")
    if kind != "LORA":
        raise refused(adapter, f"it is of type {kind!r} and not 'LORA'", advice)
    for key, value in config.items():
        if key not in _KNOWN and value not in _NONE:
            raise refused(adapter, f"it has {_NAMES.get(key, 'more than LoRA')}: {key} is {value!r}", advice)
    if start not in _STARTS:
        raise refused(adapter, f"init_lora_weights is {start!r}, which changes the base's own weights", advice)
    if not all([alpha, *(config.get("alpha_pattern") or {}).values()]):
        raise ConvertError(f"{adapter}: an alpha is 0, so that part of the adapter changes nothing. Give another adapter.")


def refused(adapter: Path, what: str, advice: str = AS_GGUF) -> ConvertError:
    """The error for an adapter that can only be merged."""
    return ConvertError(f"{adapter}: {what}. {advice}")


def read(adapter: Path) -> dict[str, Any]:
    """The config of an adapter folder. Raises NotFoundError without one, ConvertError for one that is broken."""
    path = adapter / FILE
    if not path.is_file():
        raise NotFoundError(f"{adapter} has no {FILE}. Give the folder of a LoRA adapter.")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path} is not JSON: {error}. Save the adapter again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("alpha_pattern") or {}, dict):
        raise ConvertError(f"{path} is not the config of an adapter. Save the adapter again.")
    return config
