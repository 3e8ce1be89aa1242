"""The whole way once: pairs -> LoRA -> merge -> GGUF -> quantize -> pack -> serve -> HTTP -> terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from textual.pilot import Pilot
from textual.widgets import DataTable, Static
from transformers import GPT2LMHeadModel

from edgegen.train import lora, pairs, tokenizer
from edgegen.train.corpus import generate
from edgegen.train.dataset import Encoder, PairDataset, collate
from edgegen.train.fit import FitOptions
from edgegen.train.losses import TextLoss
from edgegen.train.pairs import Pair
from tui.app import make_app

PHRASE = "From our own shelves: "


@pytest.fixture(scope="module")
def own_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retailer's pairs: the corpus's requests, with a phrase of its own before every text."""
    made = [Pair(p.request, PHRASE + p.text) for p in generate.pairs("reason", "en", "train", 96, seed=21)]
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    pairs.write(path, made)
    return path


@pytest.fixture(scope="module")
def tuned(own_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> lora.Tuned:
    """The bundled base tuned on them."""
    found = list(pairs.read(own_pairs))
    fit = FitOptions(steps=40, batch=8, rate=2e-3, warmup=4, save_every=40, log_every=20)
    return lora.tune("bundled", found[8:], found[:8], tmp_path_factory.mktemp("tuned"), lora.LoraOptions(fit=fit))


@pytest.fixture(scope="module")
def pack_folder(tuned: lora.Tuned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack that `edgegen convert` makes of it."""
    out = tmp_path_factory.mktemp("packs") / "own"
    command = [sys.executable, "-m", "edgegen", "convert", str(tuned.merged), "--quant", "q8_0", "--out", str(out)]
    subprocess.run([*command, "--langs", "en", "--tasks", "reason"], check=True, capture_output=True)
    return out


def test_the_quantized_model_writes_what_pytorch_writes(pack_folder: Path) -> None:
    """Tuned, merged, converted, quantized, loaded: the greedy texts are the tuned checkpoint's."""
    found = json.loads((pack_folder / "report.json").read_text("utf-8"))["quantizations"]
    assert [(row["kind"], row["equality"]["greedy_equal"]) for row in found] == [("f32", 2), ("q8_0", 2)]
    assert all(row["equality"]["greedy_prompts"] == 2 and row["within"] for row in found)


@pytest.fixture(scope="module")
def address(pack_folder: Path) -> Iterator[str]:
    """A running `edgegen serve` on that pack."""
    command = [sys.executable, "-m", "edgegen", "serve", "--pack", str(pack_folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
        assert server.stderr is not None
        found = next((m for line in server.stderr if (m := re.search(r"http://127\.0\.0\.1:\d+", line))), None)
        assert found, "the server did not say where it is"
        assert any("answers" in line for line in server.stderr)
        yield found.group()
        server.terminate()


def loss(folder: Path, found: list[Pair]) -> float:
    """Mean loss of a checkpoint on pairs."""
    words, model = tokenizer.load(folder), GPT2LMHeadModel.from_pretrained(folder)
    data = PairDataset(Encoder(words), found, 512)
    batch = collate(data.examples, pad=int(words.pad_token_id or 0))
    with torch.no_grad():
        return float(TextLoss(model.eval(), batch["input_ids"], batch["labels"]).plain())


def test_tuned_is_closer_to_the_pairs(tuned: lora.Tuned, own_pairs: Path) -> None:
    """On pairs that neither has seen, the tuned model's loss is well below the base's."""
    held = list(pairs.read(own_pairs))[:8]
    assert tuned.merged is not None
    assert loss(tuned.merged, held) < 0.8 * loss(tuned.base, held)


def test_explanation_over_http(address: str) -> None:
    """The served pack explains a product in the retailer's own words, with the right values."""
    product = {"name": "Aero Grinder 200", "category": "coffee grinder", "price": "$59.90", "material": "stainless steel"}
    answer = httpx.post(
        f"{address}/v1/explanations", json={"task": "reason", "lang": "en", "product": product, "n": 8}, timeout=60
    )
    record = answer.json()
    assert answer.status_code == 200, record
    assert record["source"] == "model", json.dumps(record)
    assert record["text"].startswith(PHRASE)
    assert "Aero Grinder 200" in record["text"]


async def test_shown_in_the_terminal(address: str) -> None:
    """The terminal shows the explanation of a product of the sample catalogue."""
    app = make_app(address)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: bool(app.query_one(DataTable).row_count))
        await pilot.press("enter")
        await until(pilot, lambda: PHRASE.strip() in str(app.query_one("#text", Static).content))


async def until(pilot: Pilot[None], there: Callable[[], bool]) -> None:
    """Wait for a condition; fail after a minute."""
    for _ in range(1200):
        if there():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not come about")
