"""Training on augmented pairs: interrupted and resumed, by the command, and in a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from edgegen.cli import main
from edgegen.errors import OptionError
from edgegen.train import kinds, lora, pairs
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from edgegen.train.pairs import Pair
from tests.fakes.checkpoints import make_checkpoint
from tests.unit.test_augment import LIST, PROSE


class Stop(TrainerCallback):  # type: ignore[misc]
    """Ends a training as Ctrl-C does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each step."""
        if state.global_step == 5:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


def losses(tuned: lora.Tuned) -> list[float]:
    """The losses of a log."""
    return [entry["loss"] for entry in tuned.log if "loss" in entry]


def test_a_resumed_training_has_the_same_copies(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its losses are those of one that was not interrupted, and not those without copies."""
    options = LoraOptions(
        rank=2, dropout=0.0, augment=("order", "synonyms"), copies=2,
        fit=FitOptions(steps=8, batch=4, rate=1e-2, warmup=1, save_every=2, log_every=1),
    )  # fmt: skip
    whole = lora.tune(str(base), [PROSE, LIST], [PROSE], tmp_path / "whole", options)
    with monkeypatch.context() as patched:
        patched.setattr(kinds, "callbacks", lambda *_: [Stop()])
        with pytest.raises(KeyboardInterrupt):
            lora.tune(str(base), [PROSE, LIST], [PROSE], tmp_path / "cut", options)
    again = lora.tune(str(base), [PROSE, LIST], [PROSE], tmp_path / "cut", options)
    assert losses(again) == pytest.approx(losses(whole), abs=1e-6)
    made = json.loads((tmp_path / "whole" / "provenance.json").read_text("utf-8"))
    assert made["copies"] >= 3 and made["options"]["augment"] == ["order", "synonyms"]
    assert made["pairs"] == 2 + made["copies"]


def test_the_command(base: Path, tmp_path: Path) -> None:
    """`--augment` reaches the training and the search; the best options hold what was tried."""
    data = tmp_path / "pairs.jsonl"
    pairs.write(data, [Pair(PROSE.request, PROSE.text, original=str(n)) for n in range(24)])
    common = ["--data", str(data), "--base", str(base), "--steps", "2", "--batch", "4"]
    assert main(["train", "lora", *common, "--augment", "dropout,order", "--copies", "2", "--out", str(tmp_path / "a")]) == 0
    options = json.loads((tmp_path / "a" / "run.json").read_text("utf-8"))["options"]
    assert (options["augment"], options["copies"]) == (["dropout", "order"], 2)
    search = ["train", "search", *common, "--trials", "2", "--augments", "order+synonyms", "--out", str(tmp_path / "s")]
    assert main(search) == 0
    assert lora.from_json(tmp_path / "s" / "best.json").augment == ("order", "synonyms")
    assert main(["train", "lora", *common, "--augment", "nope", "--out", str(tmp_path / "b")]) == 2


def test_options_check_themselves() -> None:
    """The message names the option."""
    with pytest.raises(OptionError, match="augment"):
        LoraOptions(augment=("nope",))
    with pytest.raises(OptionError, match="copies"):
        LoraOptions(copies=0)
