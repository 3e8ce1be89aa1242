"""Loading GGUF adapters: what does not go on the model, or is damaged, is one clear error before or in llama.cpp."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from convert import adapter as adapters
from convert import gpt2, quantize, weights
from convert.checkpoint import open_checkpoint
from edgegen.engine.gguf import read_header
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.errors import NotFoundError, OptionError, PackError
from tests.fakes.checkpoints import PAIRS, make_checkpoint
from tests.unit.test_adapter import WIDTH, logits, lora, make_adapter

# PEFT asks transformers under the older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base as F32 GGUF, in a folder with its checkpoint `base`."""
    folder = tmp_path_factory.mktemp("base")
    return gpt2.write(open_checkpoint(make_checkpoint(folder / "base")), folder / "exact.gguf")


@pytest.fixture(scope="module")
def adapter(exact: Path) -> Path:
    """A GGUF adapter for it."""
    base = exact.parent / "base"
    return adapters.write(make_adapter(base, exact.parent / "shop", lora()), exact.parent / "shop.gguf", base, PAIRS)


def test_the_scale_says_how_much(exact: Path, adapter: Path) -> None:
    """0 is the base bit for bit, 1 the default, 1/2 something else; what is no number is refused."""
    plain = logits(exact)
    assert np.array_equal(logits(exact, adapter, 0.0), plain)
    assert np.array_equal(logits(exact, adapter), logits(exact, adapter, 1.0))
    half = np.abs(logits(exact, adapter, 0.5) - plain).mean()
    assert 0 < half < np.abs(logits(exact, adapter) - plain).mean()
    with pytest.raises(OptionError, match="adapter_scale"):
        LlamaOptions(adapter_scale=math.nan)


def test_an_adapter_of_another_base_is_refused(exact: Path, adapter: Path, tmp_path: Path) -> None:
    """By its shapes, and by the base's weights where the shapes are the same; a quantized base is the same base."""
    wide = gpt2.write(open_checkpoint(make_checkpoint(tmp_path / "wide", n_embd=128)), tmp_path / "wide.gguf")
    twin = open_checkpoint(make_checkpoint(tmp_path / "twin"))
    with torch.no_grad():
        twin.model.transformer.ln_f.weight.add_(0.01)
    other = gpt2.write(replace(twin, weights=weights.of_model(twin.model)), tmp_path / "twin.gguf")
    for model in (wide, other):
        with pytest.raises(PackError, match="was made for a base with other weights"):
            LlamaBackend(model, LlamaOptions(adapter=adapter))
    logits(quantize.quantize(exact, tmp_path / "small.gguf", "q4_0"), adapter)


def foreign(
    path: Path, tensors: dict[str, tuple[int, ...]], *, alpha: float = 8.0, arch: str = "gpt2", kind: str = "lora"
) -> Path:
    """An adapter of another tool, which does not name its base."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


QKV: dict[str, tuple[int, ...]] = {"blk.0.attn_qkv.weight.lora_a": (4, WIDTH), "blk.0.attn_qkv.weight.lora_b": (3 * WIDTH, 4)}
UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"tensors": {"blk.0.attn_qkv.weight.lora_a": (4, 32), "blk.0.attn_qkv.weight.lora_b": (96, 4)}}, "incorrect shape"),
    ({"tensors": {"blk.0.attn_qkv.weight.lora_a": (4, WIDTH), "blk.0.attn_qkv.weight.lora_b": (3 * WIDTH, 5)}}, "not transposed"),
    ({"tensors": {"blk.0.attn_qkv.weight.lora_a": (4, WIDTH)}}, "missing one component"),
    ({"tensors": {"blk.7.attn_qkv.weight.lora_a": (4, WIDTH)}}, "'blk.7.attn_qkv.weight', which the model lacks"),
    ({"tensors": {"token_embd.weight.lora_a": (4, WIDTH)}}, "'token_embd.weight.lora_a' .* does not apply"),
    ({"tensors": {"position_embd.weight.lora_a": (4, WIDTH)}}, "does not apply"),
    ({"tensors": {**QKV, "blk.0.attn_norm.weight": (WIDTH,)}}, "does not apply"),
    ({"tensors": {}}, "holds nothing"),
    ({"tensors": QKV, "alpha": 0.0}, "has the alpha 0.0"),
    ({"tensors": QKV, "alpha": math.nan}, "has the alpha nan"),
    ({"tensors": QKV, "arch": "llama"}, "is for 'llama' models"),
    ({"tensors": QKV, "kind": "dora"}, "is of type 'dora'"),
]


@pytest.mark.parametrize(("about", "why"), UNFIT)
def test_adapters_of_other_tools(exact: Path, tmp_path: Path, about: dict[str, Any], why: str) -> None:
    """What llama.cpp would refuse, pass over or abort on is one clear error; what fits is used."""
    with pytest.raises(PackError, match=why):
        LlamaBackend(exact, LlamaOptions(adapter=foreign(tmp_path / "other.gguf", **about)))
    assert not np.array_equal(logits(exact, foreign(tmp_path / "good.gguf", QKV)), logits(exact))


def test_damaged_files_are_refused(exact: Path, adapter: Path, tmp_path: Path) -> None:
    """Missing, cut off, or with another byte in the header: one clear error and no crash, or a file that says the same."""
    with pytest.raises(NotFoundError, match="No adapter file"):
        LlamaBackend(exact, LlamaOptions(adapter=tmp_path / "none.gguf"))
    data, bad = adapter.read_bytes(), tmp_path / "bad.gguf"
    for size in (0, 10, 100, 300, 2000, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:size])
        with pytest.raises(PackError, match="bad.gguf"):
            LlamaBackend(exact, LlamaOptions(adapter=bad))
    refused = 0
    start = min(tensor.offset for tensor in read_header(adapter).tensors.values())
    for at in range(4, start, 7):
        bad.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            LlamaBackend(exact, LlamaOptions(max_sequences=1, adapter=bad)).close()
        except PackError:
            refused += 1
    assert refused > 0.8 * len(range(4, start, 7))
