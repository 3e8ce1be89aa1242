"""GGUF adapters: base and adapter compute in llama.cpp what PEFT computes, on quantized bases too; the rest is refused."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, get_peft_model

from convert import adapter as adapters
from convert import gpt2, quantize, reference, verify, weights
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.merge import attached, merge
from edgegen import pack
from edgegen.cli import main
from edgegen.commands import _shared, serve
from edgegen.engine import open_engine
from edgegen.engine.adapter import BASE
from edgegen.engine.backend import Batch, Logits
from edgegen.engine.gguf import read_header
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Job
from edgegen.engine.options import SamplingOptions
from edgegen.errors import ConvertError, NotFoundError, PackError, UsageError
from tests.fakes.checkpoints import PAIRS, build, make_checkpoint

# PEFT asks transformers under the older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
WIDTH = 64
ALL = ["c_attn", "c_proj", "c_fc"]  # c_proj is two matrices of a block, one of them square


def lora(**changes: Any) -> LoraConfig:
    """A LoRA config for GPT-2."""
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ALL, "fan_in_fan_out": True, **changes})


def make_adapter(base: Path, folder: Path, config: PeftConfig, seed: int = 5, size: float = 0.1) -> Path:
    """Write an adapter with random matrices in the place of a trained one's."""
    torch.manual_seed(seed)
    model = get_peft_model(open_checkpoint(base).model, config)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(size * torch.randn_like(value))
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def exact(base: Path) -> Path:
    """The base as F32 GGUF."""
    return gpt2.write(open_checkpoint(base), base.parent / "exact.gguf")


@pytest.fixture(scope="module")
def folder(base: Path) -> Path:
    """A PEFT adapter for it."""
    return make_adapter(base, base.parent / "shop", lora())


@pytest.fixture(scope="module")
def adapter(base: Path, folder: Path) -> Path:
    """The same as GGUF."""
    return adapters.write(folder, base.parent / "shop.gguf", base, PAIRS)


def together(base: Path, folder: Path) -> Checkpoint:
    """The base with its PEFT adapter, in PyTorch."""
    opened = open_checkpoint(base)
    return replace(opened, built=attached(opened.model, folder).get_base_model())


def logits(model: Path, adapter: Path | None = None, scale: float = 1.0) -> Logits:
    """Logits after every token of one text."""
    backend = LlamaBackend(model, LlamaOptions(max_sequences=1, adapter=adapter, adapter_scale=scale))
    batch = Batch()
    for pos in range(40):
        batch.add(pos + 20, pos, (0,), wanted=True)
    rows = backend.decode(batch).copy()
    backend.close()
    backend.close()  # once more does nothing
    return rows


KINDS: dict[str, LoraConfig] = {
    "all matrices": lora(),
    "the square one": lora(target_modules=["attn.c_proj"]),
    "as wide as the base": lora(target_modules=["attn.c_proj"], r=WIDTH, lora_alpha=16),
    "rsLoRA": lora(use_rslora=True),
    "patterns": lora(rank_pattern={"attn.c_proj": 2, "c_fc": 6}, alpha_pattern={"mlp.c_proj": 3, "h.1.attn.c_attn": 20}),
    "patterns of rsLoRA": lora(use_rslora=True, rank_pattern={"c_attn": 9}, alpha_pattern={"c_fc": 2}),
    "one layer": lora(layers_to_transform=[1], layers_pattern="h"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_computes_what_peft_computes(base: Path, exact: Path, tmp_path: Path, kind: str) -> None:
    """Logits are equal within a hundredth of what the adapter changes, and so are the greedy texts."""
    config = KINDS[kind]
    folder = make_adapter(base, tmp_path / "adapter", config)
    made = adapters.write(folder, tmp_path / "adapter.gguf", base, PAIRS)
    both = together(base, folder)
    # Texts of the name alone: on from the whole prompt these random weights come to ties, which a rounding turns.
    short = [replace(pair, text=pair.text.split("<|v4|>")[0] + "!") for pair in PAIRS]
    found, change = (verify.compare(both, exact, short, path) for path in (made, None))
    assert change.max_logit_error > 0.5 * found.logit_spread
    assert found.max_logit_error < 0.01 * change.max_logit_error
    assert found.mean_kl < 1e-5
    assert found.greedy_equal == found.greedy_prompts == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "adapter.gguf"]


def test_the_file_says_what_llama_cpp_reads(adapter: Path, exact: Path) -> None:
    """Keys and names are those of llama.cpp's adapters; matrices are [rank, in] and [out, rank] in PEFT's order."""
    meta = read_header(adapter).meta
    assert (meta["general.type"], meta["general.architecture"], meta["adapter.type"]) == ("adapter", "gpt2", "lora")
    assert meta["adapter.lora.alpha"] == 8
    assert len(str(meta[BASE])) == 64
    shapes = {tensor.name: tuple(map(int, tensor.shape)) for tensor in gguf.GGUFReader(adapter).tensors}
    assert len(shapes) == 16
    assert shapes["blk.1.attn_qkv.weight.lora_a"] == (WIDTH, 4)
    assert shapes["blk.1.attn_qkv.weight.lora_b"] == (4, 3 * WIDTH)
    assert shapes["blk.0.ffn_down.weight.lora_a"] == (4 * WIDTH, 4)


def test_bin_files_and_half_precision_are_read(base: Path, exact: Path, folder: Path, adapter: Path, tmp_path: Path) -> None:
    """The same matrices as .bin give the same bytes; halves are written as fp32."""
    other = tmp_path / "shop"
    other.mkdir()
    (other / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    state = {name: torch.from_numpy(stored.load()) for name, stored in weights.of_adapter(folder).items()}
    torch.save(state, other / "adapter_model.bin")
    assert adapters.write(other, tmp_path / "bin.gguf", base, PAIRS).read_bytes() == adapter.read_bytes()
    torch.save({name: value.bfloat16() for name, value in state.items()}, other / "adapter_model.bin")
    halves = adapters.write(other, tmp_path / "half.gguf", base, PAIRS)
    assert {tensor.kind for tensor in read_header(halves).tensors.values()} == {0}


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_a_quantized_base_moves_towards_the_adapter(
    base: Path, exact: Path, folder: Path, adapter: Path, tmp_path: Path, kind: str
) -> None:
    """On the quantized base the adapter's likeliest tokens come back, and the greedy texts begin as PEFT's do."""
    small = quantize.quantize(exact, tmp_path / "small.gguf", kind)
    both = together(base, folder)
    found, alone = (verify.compare(both, small, PAIRS, path) for path in (adapter, None))
    assert found.mean_kl < 0.1 * alone.mean_kl
    assert found.top1_agreement > 0.6 > alone.top1_agreement
    expected, got = ([int(row.argmax()) for row in logits(path, adapter)] for path in (exact, small))
    plain = [int(row.argmax()) for row in logits(small)]
    assert agreement(expected, got) > 0.6 > agreement(expected, plain)


def agreement(left: list[int], right: list[int]) -> float:
    """The share of equal entries."""
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def test_the_engine_writes_with_the_adapter(exact: Path, base: Path, folder: Path, adapter: Path) -> None:
    """Batched candidates on a shared prompt are PEFT's greedy text; a bad adapter fails when the engine is opened."""
    prompt = list(range(20, 40))
    job = Job(prompt, n=3, options=SamplingOptions(temperature=0, max_new_tokens=12))
    with open_engine(exact, adapter=adapter) as engine:
        texts = {completion.tokens for completion in engine.submit(job).result()}
    opened = together(base, folder)
    expected = reference.greedy(opened, prompt, 12)
    assert texts == {tuple(token for token in expected if token != opened.tokenizer.eos_token_id)}
    with pytest.raises(PackError, match="is a model and not an adapter"):
        open_engine(exact, adapter=exact)


REFUSED: dict[str, tuple[PeftConfig, str]] = {
    "DoRA": (lora(use_dora=True), "DoRA"),
    "AdaLoRA": (AdaLoraConfig(init_r=6, target_r=4, total_step=9, target_modules=["c_attn"], fan_in_fan_out=True), "ADALORA"),
    "IA3": (IA3Config(target_modules=["c_attn"], feedforward_modules=[], fan_in_fan_out=True), "IA3"),
    "modules_to_save": (lora(modules_to_save=["ln_f"]), "modules_to_save"),
    "token rows": (lora(trainable_token_indices={"wte": [3]}), "trained token rows"),
    "bias": (lora(bias="lora_only"), "bias is 'lora_only'"),
    "bias of B": (lora(lora_bias=True), "lora_bias is True"),
    "embeddings": (lora(target_modules=["wte"], fan_in_fan_out=False), "transformer.wte.lora_embedding_A"),
    "output matrix": (lora(target_modules=["lm_head"], fan_in_fan_out=False), "lm_head.lora_A"),
}


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings=True.*:UserWarning", "ignore:.*LoRA tensor.*:UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_gguf_cannot_hold_is_refused(base: Path, tmp_path: Path, kind: str) -> None:
    """By name, before anything is written, with the advice to merge."""
    config, why = REFUSED[kind]
    folder = make_adapter(base, tmp_path / "adapter", config)
    with pytest.raises(ConvertError, match=f"{why}.*convert BASE --adapter FOLDER"):
        adapters.write(folder, tmp_path / "adapter.gguf", base, PAIRS)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def edited(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of an adapter with another config."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    (target / "adapter_config.json").write_text(json.dumps(config | changes), "utf-8")
    return target


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"init_lora_weights": "pissa"}, "changes the base's own weights"),
        ({"alora_invocation_tokens": [5]}, "an aLoRA"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "more than LoRA: layer_replication"),
        ({"some_later_idea": True}, "more than LoRA: some_later_idea"),
        ({"lora_alpha": 0}, "an alpha is 0"),
        ({"alpha_pattern": {"c_fc": 0}}, "an alpha is 0"),
        ({"alpha_pattern": [1]}, "not the config of an adapter"),
        ({"target_modules": ["c_attn"]}, "config and the weights differ on transformer.h.0.attn.c_proj"),
        ({"r": 5}, "does not fit its base"),
    ],
)
def test_configs_are_read_closely(base: Path, folder: Path, tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    """What an unknown setting would change is refused, and weights that are not those of the config."""
    other = edited(folder, tmp_path / "adapter", **changes)
    with pytest.raises(ConvertError, match=why):
        adapters.write(other, tmp_path / "adapter.gguf", base, PAIRS)
    assert not (tmp_path / "adapter.gguf").exists()


def test_other_sources_are_refused(base: Path, folder: Path, tmp_path: Path) -> None:
    """No adapter, no weights, half a pair, other tokens, another base; a folder is not replaced by a file."""
    with pytest.raises(NotFoundError, match="adapter_config"):
        adapters.write(base, tmp_path / "a.gguf", base, PAIRS)
    empty = edited(folder, tmp_path / "empty")
    (empty / "adapter_model.safetensors").unlink()
    with pytest.raises(ConvertError, match="neither adapter_model.safetensors nor"):
        adapters.write(empty, tmp_path / "a.gguf", base, PAIRS)
    state = {name: torch.from_numpy(stored.load()) for name, stored in weights.of_adapter(folder).items()}
    torch.save(dict(list(state.items())[1:]), empty / "adapter_model.bin")
    with pytest.raises(ConvertError, match="has no A"):
        adapters.write(empty, tmp_path / "a.gguf", base, PAIRS)
    words = edited(folder, tmp_path / "words")
    make_checkpoint(tmp_path / "wide", n_embd=128)
    text = (base / "tokenizer.json").read_text("utf-8").replace('"<|v1|>"', '"<|w1|>"')
    (words / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ConvertError, match="tokens are not the"):
        adapters.write(words, tmp_path / "a.gguf", base, PAIRS)
    with pytest.raises(ConvertError, match="does not fit its base"):
        adapters.write(folder, tmp_path / "a.gguf", tmp_path / "wide", PAIRS)
    (words / "adapter_config.json").write_text("[" * 99999, "utf-8")
    with pytest.raises(ConvertError, match="is not JSON"):
        adapters.write(words, tmp_path / "a.gguf", base, PAIRS)
    with pytest.raises(UsageError, match="is a folder"):
        adapters.write(folder, tmp_path / "wide", base, PAIRS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "wide", "words"]


Wrong = Callable[[weights.Weights], weights.Weights]


def turned(found: weights.Weights) -> weights.Weights:
    """Every matrix transposed: square ones still have the right shape."""
    return {name: weights.Stored(s.shape, partial(transposed, s)) for name, s in found.items()}


def transposed(stored: weights.Stored) -> weights.Array:
    """A matrix the other way."""
    return np.ascontiguousarray(stored.load().T)


def doubled(found: weights.Weights) -> weights.Weights:
    """Every matrix times two."""
    return {name: weights.Stored(s.shape, partial(twice, s)) for name, s in found.items()}


def twice(stored: weights.Stored) -> weights.Array:
    """A matrix times two."""
    return 2 * stored.load()


@pytest.mark.parametrize("wrong", [turned, doubled])
@pytest.mark.parametrize("size", [0.2, 0.02])
def test_a_wrong_file_is_not_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Wrong, size: float
) -> None:
    """What would load and compute something else is found by its logits, for adapters that change little too."""
    folder = make_adapter(base, tmp_path / "adapter", KINDS["as wide as the base"], size=size)
    read = weights.of_adapter
    monkeypatch.setattr(weights, "of_adapter", lambda path: wrong(read(path)))
    with pytest.raises(ConvertError, match=r"logits differ by|does not compute"):
        adapters.write(folder, tmp_path / "adapter.gguf", base, PAIRS)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_untrained_adapter_is_written(base: Path, exact: Path, tmp_path: Path) -> None:
    """B is zero in it, so that it changes nothing: rounding is not taken for a fault."""
    folder = make_adapter(base, tmp_path / "adapter", lora(), size=0.0)
    made = adapters.write(folder, tmp_path / "adapter.gguf", base, PAIRS)
    assert np.allclose(logits(exact, made), logits(exact), atol=1e-5)


def test_from_the_command_line(
    base: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`convert --as-adapter` writes the file, `explain` and `serve` use it on a pack; options that mean nothing are refused."""
    monkeypatch.setattr(adapters, "of_corpus", lambda *_: PAIRS)
    made, model = tmp_path / "shop.gguf", build(base, tmp_path / "pack")
    assert main(["convert", str(base), "--adapter", str(folder), "--as-adapter", "--out", str(made)]) == 0
    assert capsys.readouterr().out == f"{made}\n"
    with_it = ["--pack", str(model), "--adapter", str(made), "--n", "1"]
    assert main(["explain", "--task", "reason", "--limit", "1", *with_it]) == 0
    assert capsys.readouterr().out.strip()
    options = argparse.Namespace(template_only=False, model=None, pack=model, adapter=made, threads=1, context=None, cells=None)
    assert asyncio.run(served(options)) == "shop.gguf"
    call = ["convert", str(base), "--as-adapter", "--out", str(made)]
    assert main(call) == UsageError.exit_code
    assert main([*call, "--adapter", str(folder), "--quant", "q4_0"]) == UsageError.exit_code
    assert "--quant is said of packs" in capsys.readouterr().err
    with_it[3] = str(model / "model.gguf")
    assert main(["explain", "--limit", "1", *with_it]) == PackError.exit_code
    record = ["evaluate", "--record", "--catalogue", "products.json", "--pack", str(model), "--adapter", str(made)]
    assert main(record) == UsageError.exit_code
    assert "one pack alone" in capsys.readouterr().err


async def served(options: argparse.Namespace) -> Any:
    """The adapter that a server would name."""
    async with serve.service(options) as found:
        return (found.state.pack or {}).get("adapter")


def test_the_licensing_table_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would forbid the adapter's words; stderr says so, and nothing where there is no adapter."""
    found = pack.load(pack.bundled())
    assert found.licensing
    assert _shared.licensing(found, None) == found.licensing
    assert capsys.readouterr().err == ""
    assert _shared.licensing(found, tmp_path / "shop.gguf") is None
    assert "licensing table is left out" in capsys.readouterr().err


def test_merged_and_apart_are_the_same(base: Path, folder: Path, exact: Path, adapter: Path, tmp_path: Path) -> None:
    """The adapter on its base gives the logits of the merged checkpoint."""
    merged = gpt2.write(open_checkpoint(merge(folder, tmp_path / "merged", base)), tmp_path / "merged.gguf")
    apart, whole = logits(exact, adapter), logits(merged)
    assert np.abs(apart - whole).max() < 0.01 * whole.std()
