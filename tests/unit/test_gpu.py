"""On a CUDA device: an adapter learns in bf16 and means the same on the CPU, and the engine puts layers there.

`pytest -m gpu` runs them; without a device they are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convert import gpt2
from convert.checkpoint import open_checkpoint
from edgegen.engine import native, open_engine
from edgegen.engine.job import Job
from edgegen.engine.options import SamplingOptions
from edgegen.hardware import Setting
from edgegen.train import fuse, lora
from edgegen.train.dataset import Encoder, PairDataset
from edgegen.train.fit import FitOptions, bf16_pays
from edgegen.train.lora import LoraOptions
from tests.fakes.checkpoints import PAIRS, make_checkpoint

pytestmark = pytest.mark.gpu
QUICK = LoraOptions(rank=4, dropout=0.0, fit=FitOptions(steps=12, batch=4, rate=2e-2, warmup=1, save_every=4, log_every=4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
def test_an_adapter_learns_there(tmp_path: Path) -> None:
    """The loss falls, and the merged checkpoint has it on the CPU too, but for what bf16 rounds."""
    base = make_checkpoint(tmp_path / "base")
    found = lora.tune(str(base), PAIRS * 4, PAIRS, tmp_path / "out", QUICK)
    losses = [entry["eval_loss"] for entry in found.log if "eval_loss" in entry]
    assert bf16_pays() and losses[-1] < losses[0] - 0.1
    assert found.merged is not None
    opened = open_checkpoint(found.merged)
    here = fuse.loss(opened.model, PairDataset(Encoder(opened.tokenizer), PAIRS, 256))
    assert here == pytest.approx(losses[-1], rel=0.02)


@pytest.mark.skipif(not native.offloads(), reason="llama.cpp was built without CUDA")
def test_the_engine_writes_there_what_it_writes_here(tmp_path: Path) -> None:
    """Greedily, for as long as rounding lets two logits apart."""
    model = gpt2.write(open_checkpoint(make_checkpoint(tmp_path / "base")), tmp_path / "model.gguf")
    texts = []
    for layers in (0, -1):
        with open_engine(model, setting=Setting(threads=1, gpu_layers=layers)) as engine:
            job = engine.submit(Job([10, 20, 30], 1, SamplingOptions(temperature=0.0, max_new_tokens=8)))
            texts.append(job.result())
    assert texts[0][0].tokens[:4] == texts[1][0].tokens[:4]
