"""Makes the checkpoints that both sides convert. Runs in child processes: it loads PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SMALL = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.15}
TINY = SMALL | {"n_embd": 256}
GPT2_124M: dict[str, Any] = {}
"""GPT2Config's own sizes: 12 layers, width 768, 1024 positions."""


def words(vocabulary: Path, *, added: bool = False) -> Any:
    """GPT-2's own tokenizer from llama.cpp's vocabulary file; `added` with edgegen's tokens, which a pack needs."""
    import gguf
    from tokenizers import AddedToken

    from convert import restore
    from edgegen.slots import SPECIALS

    made = restore.tokenizer(gguf.GGUFReader(vocabulary))
    if added:
        tokens: Any = [AddedToken(token, special=True, normalized=False) for token in SPECIALS]
        made.add_tokens(tokens, special_tokens=True)
    return made


def model(rows: int, sizes: Mapping[str, Any], **more: Any) -> Any:
    """A GPT-2 with random weights, none of them a one or zero that would hide a mistake."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(7)
    made = GPT2LMHeadModel(GPT2Config(**{"vocab_size": rows, **sizes, **more}))
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("bias") or ".ln_" in name:
                value.add_(0.1 * torch.randn_like(value))
    return made.eval()


def save(folder: Path, made: Any, tokenizer: Any) -> None:
    """Write a folder as `save_pretrained` does, and `n_ctx` into its config, as configs had it before transformers 5."""
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit_config(folder, n_ctx=made.config.n_positions)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change a folder's config; None takes an entry away."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}, indent=2), "utf-8")


def random(vocabulary: Path, folder: Path, sizes: Mapping[str, Any], added: bool) -> None:
    """A checkpoint with random weights and GPT-2's vocabulary."""
    tokenizer = words(vocabulary, added=added)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    save(folder, model(len(tokenizer), sizes, **ends), tokenizer)


def bundled(folder: Path) -> None:
    """The checkpoint of the bundled pack's model."""
    from convert import restore
    from edgegen import pack

    restore.restore(pack.bundled() / pack.MODEL, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    edit_config(folder, n_ctx=config["n_positions"])
