"""What a tuning takes: parameters exactly, the rest by what it grows with; a base that does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel

from convert import config as configs
from edgegen import pack
from edgegen.cli import main
from edgegen.errors import UsageError
from edgegen.train import lora, memory, pairs
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from tests.fakes.checkpoints import PAIRS, edited, make_checkpoint

USUAL = LoraOptions(fit=FitOptions(batch=16))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


def test_parameters_are_counted_exactly(base: Path) -> None:
    """Of a config, as PyTorch counts them."""
    config = configs.checked(configs.read(base), "")
    assert memory.parameters(config) == GPT2LMHeadModel.from_pretrained(base).num_parameters()


def test_what_it_grows_with(base: Path) -> None:
    """The batch, less so with checkpointing; the rank; each matrix that gets an adapter."""
    config = configs.checked(configs.read(base), "")
    whole, passing = memory.needed(config, USUAL.fit, USUAL, 16)
    assert memory.needed(config, USUAL.fit, USUAL, 8) == (whole, passing / 2)
    assert memory.needed(config, replace(USUAL.fit, checkpointing=True), USUAL, 16)[1] < passing
    attention = replace(USUAL, targets=("c_attn",))
    assert whole > memory.needed(config, USUAL.fit, attention, 16)[0] > 4 * memory.parameters(config)
    assert memory.needed(config, USUAL.fit, None, 16) == (16 * memory.parameters(config), passing)


def test_a_base_that_does_not_fit_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is loaded; where only the pass is too large, the advice is another."""
    huge = edited(base, tmp_path / "huge", n_embd=65536, n_layer=500)
    with pytest.raises(UsageError, match=r"huge has 25,\d+,\d+M parameters.* Take a smaller base"):
        lora.check(str(huge), USUAL)
    monkeypatch.setattr(memory, "available", lambda: 3 << 20)
    with pytest.raises(UsageError, match=r"Give a smaller --batch than 16"):
        lora.check(str(base), USUAL)
    monkeypatch.setattr(memory, "available", lambda: 60 << 20)
    with pytest.raises(UsageError, match=r"bundled has 14M parameters"):
        lora.check(lora.BUNDLED, replace(USUAL, fit=replace(USUAL.fit, batch=1)))
    with pytest.raises(UsageError, match=r"has 14M parameters"):
        lora.check(str(pack.bundled()), USUAL)


def test_the_commands_say_so(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and nothing in the folder."""
    huge, data = edited(base, tmp_path / "huge", n_embd=65536, n_layer=500), tmp_path / "pairs.jsonl"
    pairs.write(data, PAIRS)
    start = ["--start", str(huge), "--recipe", "models/recipes/own.toml"]
    for stage, more in (("lora", []), ("search", []), ("ablate", ["--vary", "rank=2"]), ("base", start)):
        which = more if stage == "base" else ["--base", str(huge), *more]
        assert main(["train", stage, "--data", str(data), *which, "--out", str(tmp_path / "out")]) == 2
        assert "of memory" in capsys.readouterr().err and not (tmp_path / "out").exists()
