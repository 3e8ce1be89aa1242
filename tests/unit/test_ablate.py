"""Comparing options: a variant differs in one, what is measured is the loss on pairs held out, nothing is trained twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convert.checkpoint import open_checkpoint
from edgegen.cli import main
from edgegen.errors import DataError, OptionError
from edgegen.train import ablate, pairs
from edgegen.train.dataset import Encoder, PairDataset, collate
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from edgegen.train.losses import TextLoss, measured
from edgegen.train.pairs import Pair
from tests.fakes.checkpoints import PAIRS, make_checkpoint
from tests.unit.test_augment import PROSE

USUAL = LoraOptions(rank=2, dropout=0.0, fit=FitOptions(steps=6, batch=4, rate=1e-2, warmup=1, save_every=6, log_every=6))

TRAIN = [*PAIRS, *PAIRS, PROSE]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


def test_variants_differ_in_one_option() -> None:
    """By name and value, of the adapter or of its training; the usual value is no variant."""
    found = ablate.variants(
        USUAL, {"augment": ["none", "order+dropout"], "rate": ["1e-2", "1e-4"], "rank": ["4"], "targets": ["c_attn+c_fc"]}
    )
    assert found == {
        "usual": USUAL,
        "augment=order+dropout": replace(USUAL, augment=("order", "dropout")),
        "rate=1e-4": replace(USUAL, fit=replace(USUAL.fit, rate=1e-4)),
        "rank=4": replace(USUAL, rank=4, alpha=2 * USUAL.alpha),  # the same strength
        "targets=c_attn+c_fc": replace(USUAL, targets=("c_attn", "c_fc")),
    }
    with pytest.raises(OptionError, match="no option 'rnk'.*rank"):
        ablate.variants(USUAL, {"rnk": ["4"]})
    with pytest.raises(OptionError, match="rank must be a number, got 'big'"):
        ablate.variants(USUAL, {"rank": ["big"]})
    with pytest.raises(OptionError, match="checkpointing must be true or false, got 'yes'"):
        ablate.variants(USUAL, {"checkpointing": ["yes"]})
    assert ablate.variants(USUAL, {"checkpointing": ["true"]})["checkpointing=true"].fit.checkpointing


def test_losses_are_those_of_the_pairs(base: Path) -> None:
    """Sums over each pair's text tokens; together they give the mean of a batch."""
    opened = open_checkpoint(base)
    held = PairDataset(Encoder(opened.tokenizer), PAIRS, 256)
    found = measured(opened.model, held.examples)
    batch = collate(held.examples, 0)
    with torch.no_grad():
        whole = float(TextLoss(opened.model, batch["input_ids"], batch["labels"]).plain())
    assert [count for _, count in found] == [len(e.ids) - e.start for e in held.examples]
    assert sum(loss for loss, _ in found) / sum(count for _, count in found) == pytest.approx(whole, rel=1e-5)


def test_what_helps_is_seen_and_kept(base: Path, tmp_path: Path) -> None:
    """A rate that teaches beats one that does not; an interrupted comparison goes on, and takes more variants later."""
    said = list[str]()

    def stop(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    vary = {"rate": ["1e-7"]}
    with pytest.raises(KeyboardInterrupt):
        ablate.ablate(str(base), TRAIN, PAIRS, tmp_path, USUAL, vary, stop)
    said.clear()
    first = ablate.ablate(str(base), TRAIN, PAIRS, tmp_path, USUAL, vary, said.append)
    assert said == ["variant rate=1e-7"]
    assert first[1].loss > first[0].loss + 0.05 and first[1].difference is not None and first[0].difference is None
    assert first[1].difference.low > 0 and first[1].difference.difference == pytest.approx(first[1].loss - first[0].loss)
    more = ablate.ablate(str(base), TRAIN, PAIRS, tmp_path, USUAL, {**vary, "augment": ["synonyms"]}, said.append)
    assert said[1:] == ["variant augment=synonyms"] and more[:2] == first and more[2].learnt > more[0].learnt == len(TRAIN)
    report = json.loads((tmp_path / ablate.REPORT).read_text("utf-8"))
    assert [row["name"] for row in report["variants"]] == ["usual", "rate=1e-7", "augment=synonyms"]
    assert not list(tmp_path.rglob("steps"))
    with pytest.raises(DataError, match="held out"):
        ablate.ablate(str(base), PAIRS, [], tmp_path / "none", USUAL, vary)


def test_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints a table with a line for each variant; a file of its own may measure."""
    data, valid = tmp_path / "pairs.jsonl", tmp_path / "valid.jsonl"
    pairs.write(data, PAIRS * 3)
    pairs.write(valid, [Pair(p.request, p.text.replace("small", "large")) for p in PAIRS])
    common = [
        "train",
        "ablate",
        "--data",
        str(data),
        "--base",
        str(base),
        "--steps",
        "2",
        "--batch",
        "4",
        "--out",
        str(tmp_path / "o"),
    ]
    varied = ["--vary", "kind=dora", "--vary", "adversarial=none", "--vary", "adversarial=fgm"]
    assert main([*common, "--valid-data", str(valid), *varied]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| usual", "| kind=dora", "| adversarial=fgm"]
    assert json.loads((tmp_path / "o" / ablate.REPORT).read_text("utf-8"))["held"] == 2
    assert main([*common, "--vary", "adversarial"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
