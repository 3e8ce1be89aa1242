"""Search of hyper-parameters: it finds what is better, ends what lags, and goes on where it was interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from edgegen.cli import main
from edgegen.errors import DataError, NotFoundError, OptionError, UsageError
from edgegen.train import lora, pairs, search
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from tests.fakes.checkpoints import PAIRS, make_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
USUAL = LoraOptions(dropout=0.0, fit=FitOptions(steps=8, batch=4, warmup=1, save_every=8, log_every=8))
SPACE = search.Space(ranks=(2, 4), scales=(2.0,), rates=(1e-6, 3e-2), dropouts=(0.0, 0.01))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with edgegen's tokens."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


def states(out: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials that the file holds."""
    return optuna.load_study(study_name="lora", storage=f"sqlite:///{out / search.STUDY}").trials


def queue(out: Path, *rates: float) -> None:
    """Trials of these rates, to be run first."""
    study = search._study(out, 0)
    for rate in rates:
        rest = {"rank": 2, "kind": "lora", "adversarial": "none", "scale": 2.0, "dropout": 0.0, "augment": "none"}
        study.enqueue_trial({"rate": rate, **rest})


def test_a_search_goes_on_and_finds_the_better(base: Path, tmp_path: Path) -> None:
    """An interrupted search keeps its trials; the best is what is written, and it is better than most."""
    queue(tmp_path, 1e-6, 3e-2)

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=6, space=SPACE, say=stop)
    assert [trial.state.is_finished() for trial in states(tmp_path)] == [True, False]
    found = search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=6, space=SPACE)
    done = [trial for trial in states(tmp_path) if trial.state.is_finished() and trial.value is not None]
    assert found.finished + found.pruned in (6, 7) and found.finished == len([t for t in done if t.state.name == "COMPLETE"])
    values = sorted(trial.value for trial in done if trial.value is not None)
    assert found.loss == values[0] < values[-1] - 0.1
    assert lora.from_json(tmp_path / search.BEST) == found.options
    assert (found.options.fit.steps, found.options.fit.save_every) == (8, 8)
    again = search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=6, space=SPACE)
    assert again == found
    with pytest.raises(UsageError, match="another base, other pairs or options"):
        search.search(str(base), PAIRS * 3, PAIRS, tmp_path, USUAL, trials=6, space=SPACE)


def test_a_trial_that_lags_is_pruned(base: Path, tmp_path: Path) -> None:
    """After a few good trials, one that hardly learns ends before its last evaluation."""
    queue(tmp_path, 1e-2, 1.5e-2, 2e-2, 3e-2, 1e-6, 2e-6)
    found = search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=6, space=SPACE)
    assert found.pruned == 2
    assert max(len(t.intermediate_values) for t in states(tmp_path) if t.state.name == "PRUNED") < 8


def test_a_trial_whose_loss_is_no_number_ends_alone(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told and counts as pruned; where no trial comes to its end, that is said."""
    plain, said = search._loss, list[str]()

    def loss(*given: Any) -> float:
        if given[-1].number != 1:
            raise DataError("The loss is no number after step 3.")
        return plain(*given)

    monkeypatch.setattr(search, "_loss", loss)
    with pytest.raises(DataError, match="No trial came to its end"):
        search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=1, space=SPACE)
    found = search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=3, space=SPACE, say=said.append)
    assert (found.finished, found.pruned) == (1, 2) and "trial 2: The loss is no number after step 3." in said


def test_a_search_that_goes_on_draws_new_trials(base: Path, tmp_path: Path) -> None:
    """And not those again that it began with; another space is another search."""
    for trials in (1, 2, 3):
        search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=trials, space=SPACE)
    assert len({trial.params["rate"] for trial in states(tmp_path)}) == 3
    with pytest.raises(UsageError, match="another base, other pairs or options"):
        search.search(str(base), PAIRS * 4, PAIRS, tmp_path, USUAL, trials=4, space=replace(SPACE, ranks=(3,)))


def test_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finds options and tunes with them; without enough pairs it says so."""
    data, out = tmp_path / "pairs.jsonl", tmp_path / "search"
    pairs.write(data, PAIRS * 12)
    common = ["--data", str(data), "--base", str(base), "--steps", "4", "--batch", "4"]
    assert main(["train", "search", *common, "--rank", "8", "--out", str(out)]) == UsageError.exit_code
    assert "--rank is what a search tries" in capsys.readouterr().err and not out.exists()
    assert main(["train", "search", *common, "--trials", "2", "--out", str(out)]) == 0
    best = Path(capsys.readouterr().out.strip())
    assert main(["train", "lora", *common, "--options", str(best), "--out", str(tmp_path / "tuned")]) == 0
    config = json.loads((tmp_path / "tuned" / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["r"] == json.loads(best.read_text("utf-8"))["options"]["rank"]


def test_what_cannot_be_searched(base: Path, tmp_path: Path) -> None:
    """No trial, no pairs held out, no file of options."""
    with pytest.raises(OptionError, match="trials"):
        search.search(str(base), PAIRS, PAIRS, tmp_path / "a", USUAL, trials=0)
    with pytest.raises(DataError, match="held out"):
        search.search(str(base), PAIRS, [], tmp_path / "b", USUAL, trials=1)
    with pytest.raises(NotFoundError, match=r"best\.json"):
        lora.from_json(tmp_path / "none")
    (tmp_path / "best.json").write_text("{}", "utf-8")
    with pytest.raises(DataError, match="holds no options"):
        lora.from_json(tmp_path / "best.json")
