"""Tiny random checkpoints, pairs to compare them on, and packs of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from convert import reference, verify
from convert.build import About, build_packs
from convert.checkpoint import Checkpoint
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine.backend import Batch
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.slots import SPECIALS
from edgegen.train import tokenizer
from edgegen.train.pairs import Pair

TEXTS = [
    "A walnut desk for a small room, and it's quiet.", "这张木桌很结实，适合小户型。", "the cups, the chairs and the lamp",
    "Shoppers like you gave it 4.8 of 5\n\n", "don't stop: 12 colours, 3 sizes",
] * 4  # fmt: skip

DESK = (Fact("name", "Oak desk", Kind.TEXT), Fact("price", Decimal(120), Kind.MONEY, currency="USD"))
PAIRS = [
    Pair(Request("reason", "en", (Section("item", DESK),)), "<|v1|> costs <|v4|>, for a small room."),
    Pair(Request("reason", "zh", (Section("item", DESK),)), "<|v1|>只要<|v4|>，很结实。"),
]


def make_checkpoint(folder: Path, **changes: Any) -> Path:
    """Write a random two-layer GPT-2 with a tokenizer of its own."""
    torch.manual_seed(3)
    words = tokenizer.train(TEXTS, len(SPECIALS) + 300)
    sizes = {"vocab_size": len(words), "n_positions": 256, "n_embd": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.15}
    config = GPT2Config(**{**sizes, "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id, **changes})
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias") or ".ln_" in name:
                value.add_(0.1 * torch.randn_like(value))  # zeros and ones would hide a swap
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def edited(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a checkpoint with another config."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")
    return folder


def errors(checkpoint: Checkpoint, path: Path) -> tuple[float, float, bool]:
    """The largest and the mean difference of logits, and whether greedy texts are the same."""
    ids = checkpoint.tokenizer.encode(TEXTS[0] + TEXTS[1])
    with torch.inference_mode():
        expected = checkpoint.model(torch.tensor([ids])).logits[0].numpy()
    backend = LlamaBackend(path, LlamaOptions(max_sequences=1))
    batch = Batch()
    for pos, token in enumerate(ids):
        batch.add(token, pos, (0,), wanted=True)
    difference = np.abs(backend.decode(batch) - expected)
    backend.drop(0)
    same = reference.greedy(checkpoint, ids, 24) == verify.greedy(backend, ids, 24, checkpoint.words.id("eos"))
    backend.close()
    return float(difference.max()), float(difference.mean()), same


def build(checkpoint: Path, out: Path, *, quants: Sequence[str] = ("q8_0",), key: Path | None = None, **changes: Any) -> Path:
    """A pack of the tiny model; the first where there are several."""
    about = About(**{"name": "tiny", "version": "1.0.0", "tasks": ["reason"], "provenance": {"recipe": "test"}, **changes})
    return build_packs(checkpoint, out, about, quants=quants, key=key, pairs=PAIRS)[0]
