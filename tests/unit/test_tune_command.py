"""`edgegen train lora`: which pairs are learnt and which only measure, how often, and what one pair is good for."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edgegen.cli import main
from edgegen.commands import _tune
from edgegen.train import pairs
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from edgegen.train.pairs import Pair
from tests.fakes.checkpoints import PAIRS, make_checkpoint


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


def test_a_file_of_its_own_measures(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then every pair of the other teaches; it measures, and checkpoints are kept, ten times unless it is told otherwise."""
    data, valid = tmp_path / "pairs.jsonl", tmp_path / "valid.jsonl"
    pairs.write(data, PAIRS)
    pairs.write(valid, [Pair(PAIRS[0].request, "<|v1|> is <|v4|>.")])
    command = ["train", "lora", "--base", str(base), "--steps", "10", "--batch", "2", "--rank", "2", "--data", str(data)]
    assert main([*command, "--valid-data", str(valid), "--out", str(tmp_path / "own")]) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told if "held out" in line] == [f"step {step} of 10" for step in range(1, 11)]
    assert json.loads((tmp_path / "own" / "provenance.json").read_text("utf-8"))["pairs"] == 2
    assert main([*command, "--evaluate-every", "5", "--out", str(tmp_path / "twentieth")]) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told if "held out" in line] == ["step 5 of 10", "step 10 of 10"]
    assert json.loads((tmp_path / "twentieth" / "provenance.json").read_text("utf-8"))["pairs"] == 1


def test_options_of_a_search_take_as_many_steps_as_are_asked_for(tmp_path: Path) -> None:
    """Its own unless told otherwise; checkpoints and warm-up go with them."""
    best = tmp_path / "best.json"
    found = LoraOptions(rank=3, fit=FitOptions(steps=70, rate=0.02))
    best.write_text(json.dumps({"options": asdict(found)}), "utf-8")
    parser = argparse.ArgumentParser()
    _tune.add_lora(parser)
    given = ["--data", "pairs.jsonl", "--options", str(best)]
    assert _tune.options(parser.parse_args(given)) == found
    more = _tune.options(parser.parse_args([*given, "--steps", "400"]))
    assert (more.rank, more.fit.rate, more.fit.steps, more.fit.save_every, more.fit.warmup) == (3, 0.02, 400, 40, 20)


def test_what_is_given_beside_the_options_of_a_search_wins(tmp_path: Path) -> None:
    """Even where it is the usual value; everything else is the file's."""
    best = tmp_path / "best.json"
    found = LoraOptions(rank=3, dropout=0.2, fit=FitOptions(steps=70, batch=4, rate=0.02, adversarial="fgm"))
    best.write_text(json.dumps({"options": asdict(found)}), "utf-8")
    parser = argparse.ArgumentParser()
    _tune.add_lora(parser)
    beside = ["--batch", "16", "--dropout", "0", "--checkpointing", "--evaluate-every", "7"]
    mixed = _tune.options(parser.parse_args(["--data", "pairs.jsonl", "--options", str(best), *beside]))
    fit = replace(found.fit, batch=16, checkpointing=True, save_every=7, warmup=3)
    assert mixed == replace(found, dropout=0.0, fit=fit)


def test_the_usual_options_have_one_home() -> None:
    """What the command takes where nothing is given is what LoraOptions says."""
    parser = argparse.ArgumentParser()
    _tune.add_lora(parser)
    assert _tune.options(parser.parse_args(["--data", "pairs.jsonl"])) == LoraOptions()


def test_one_pair_is_too_few(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot both teach and measure."""
    data = tmp_path / "pairs.jsonl"
    pairs.write(data, PAIRS[:1])
    for stage in ("lora", "search"):
        assert main(["train", stage, "--data", str(data), "--base", str(base), "--out", str(tmp_path / "out")]) == 3
        assert "holds one pair, so none can be held out" in capsys.readouterr().err and not (tmp_path / "out").exists()
