"""Losses reach TensorBoard unless nobody wants them, and change nothing of the run."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgegen.errors import MissingExtraError, OptionError
from edgegen.train import lora, track
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from tests.fakes.checkpoints import PAIRS, make_checkpoint

# PEFT asks transformers under the older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
QUICK = LoraOptions(rank=2, dropout=0.0, fit=FitOptions(steps=4, batch=2, rate=1e-3, warmup=1, save_every=2, log_every=1))


def test_losses_are_there_by_step(tmp_path: Path) -> None:
    """Those of training and of the pairs held out; a run may go on with another tracker."""
    base = make_checkpoint(tmp_path / "base")
    tuned = lora.tune(str(base), PAIRS, PAIRS, tmp_path / "out", QUICK)
    events = EventAccumulator(str(tmp_path / "out" / track.FOLDER)).Reload()
    told = {(one.step, round(one.value, 3)) for one in events.Scalars("train/loss")}
    assert told == {(entry["step"], round(entry["loss"], 3)) for entry in tuned.log if "loss" in entry} and len(told) == 4
    assert [one.step for one in events.Scalars("eval/loss")] == [2, 4]
    quiet = replace(QUICK, fit=replace(QUICK.fit, track="none"))
    lora.tune(str(base), PAIRS, PAIRS, tmp_path / "out", quiet)
    lora.tune(str(base), PAIRS, PAIRS, tmp_path / "quiet", quiet)
    assert not (tmp_path / "quiet" / track.FOLDER).exists()


@pytest.mark.skipif(find_spec("wandb") is not None, reason="Weights & Biases is installed here")
def test_what_is_not_installed_is_said_before_anything_is_learnt(tmp_path: Path) -> None:
    """And a tracker that nobody knows."""
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        track.callbacks("wandb", tmp_path)
    with pytest.raises(OptionError, match="tensorboard, wandb, none"):
        FitOptions(track="paper")  # type: ignore[arg-type]


def test_tensorboard_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, and training goes on; who wants none hears nothing."""
    monkeypatch.setattr(track, "find_spec", lambda _: None)
    assert not track.callbacks("none", tmp_path) and capsys.readouterr().err == ""
    assert not track.callbacks("tensorboard", tmp_path) and "TensorBoard is not installed" in capsys.readouterr().err
