"""Adapters of one base become one: the exact sum of their changes, and what does not go together is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from convert.checkpoint import open_checkpoint
from edgegen import pack
from edgegen.cli import main
from edgegen.errors import ConvertError, DataError, NotFoundError, OptionError
from edgegen.train import fuse, lora
from edgegen.train.dataset import Encoder, PairDataset
from edgegen.train.fit import FitOptions
from edgegen.train.fuse import FuseOptions
from edgegen.train.kinds import Kind
from edgegen.train.lora import LoraOptions
from edgegen.train.pairs import Pair
from tests.fakes.checkpoints import PAIRS, make_checkpoint

# PEFT asks transformers under the older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def options(rank: int, kind: Kind = "lora") -> LoraOptions:
    fit = FitOptions(steps=12, batch=4, rate=2e-2, warmup=1, save_every=12, log_every=4)
    return LoraOptions(kind=kind, rank=rank, dropout=0.0, fit=fit)


def halves() -> tuple[list[Pair], list[Pair]]:
    """What two shops have: different texts."""
    return PAIRS[::2], PAIRS[1::2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base, and the runs of two shops."""
    room = tmp_path_factory.mktemp("shops")
    base = make_checkpoint(room / "base")
    for name, rank, pairs in zip("ab", (4, 2), halves(), strict=True):
        lora.tune(str(base), pairs, (), room / name, options(rank))
    return base, room / "a", room / "b"


def changes(base: Path, merged: Path) -> dict[str, torch.Tensor]:
    """What differs from the base, matrix by matrix."""
    before, after = (open_checkpoint(folder).model.state_dict() for folder in (base, merged))
    return {name: after[name] - before[name] for name in before}


def test_the_changes_are_added_up_with_their_weights(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Ranks may differ; nothing is lost."""
    base, a, b = runs
    found = fuse.fuse([a / "adapter", b / "adapter"], tmp_path, FuseOptions((0.75, -0.5)))
    first, second, both = (changes(base, folder) for folder in (a / "merged", b / "merged", found.merged))
    for name, change in both.items():
        assert torch.allclose(change, 0.75 * first[name] - 0.5 * second[name], atol=1e-5), name
    assert max(float(change.abs().max()) for change in both.values()) > 0.01
    assert json.loads((found.adapter / "adapter_config.json").read_text())["r"] == 6
    assert found.losses == {}


@pytest.mark.parametrize("how", fuse.HOWS[1:])
def test_other_ways_have_the_rank_that_is_asked_for(how: fuse.How, runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """And say the same for the same seed."""
    adapters = [runs[1] / "adapter", runs[2] / "adapter"]
    found = [fuse.fuse(adapters, tmp_path / name, FuseOptions(how=how, rank=3)) for name in "xy"]
    assert json.loads((found[0].adapter / "adapter_config.json").read_text())["r"] == 3
    first, second = (changes(runs[0], one.merged) for one in found)
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert max(float(change.abs().max()) for change in first.values()) > 0.001


def test_losses_tell_whether_it_is_worth_it(
    runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the base, of each alone and of all together, on pairs of all shops; the merged model gets a draft table."""
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair.to_json()) + "\n" for pair in PAIRS))
    assert main(["train", "fuse", str(runs[1]), str(runs[2]), "--data", str(data), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    losses = [float(line.split()[1]) for line in told.err.splitlines() if line.startswith("loss ")]
    assert len(losses) == 4 and max(losses[1:]) < losses[0]
    assert Path(told.out.strip()) == tmp_path / "out" / "merged"
    assert (tmp_path / "out" / "merged" / pack.DRAFT).is_file()
    opened = open_checkpoint(tmp_path / "out" / "merged")
    data_set = PairDataset(Encoder(opened.tokenizer), PAIRS, 256)
    assert abs(fuse.loss(opened.model, data_set) - losses[3]) < 2e-4  # losses are told in four digits


def test_what_does_not_go_together_is_refused(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Another base, another kind, one alone, weights that are missing, pairs that are too long; nothing is written."""
    base, a, b = runs
    other = make_checkpoint(tmp_path / "other", initializer_range=0.1)
    lora.tune(str(other), PAIRS, (), tmp_path / "c", options(2))
    lora.tune(str(base), PAIRS, (), tmp_path / "d", options(2, "dora"))
    adapters = [a / "adapter", b / "adapter"]
    out = tmp_path / "out"
    with pytest.raises(ConvertError, match="another base"):
        fuse.fuse([adapters[0], tmp_path / "c" / "adapter"], out, FuseOptions())
    with pytest.raises(ConvertError, match=r"DoRA.*Only lora and rslora"):
        fuse.fuse([adapters[0], tmp_path / "d" / "adapter"], out, FuseOptions())
    with pytest.raises(OptionError, match="two adapters or more"):
        fuse.fuse(adapters[:1], out, FuseOptions())
    with pytest.raises(OptionError, match=r"holds one of the adapters, which would be written over"):
        fuse.fuse(adapters, adapters[1].parent, FuseOptions())
    with pytest.raises(OptionError, match="2 adapters and 1 weights"):
        fuse.fuse(adapters, out, FuseOptions((1.0,)))
    with pytest.raises(NotFoundError, match=r"adapter_config\.json"):
        fuse.fuse([adapters[0], tmp_path], out, FuseOptions())
    with pytest.raises(OptionError, match="goes with another how"):
        FuseOptions(rank=3)
    with pytest.raises(DataError, match="None of the pairs fits"):
        fuse.fuse(adapters, out, FuseOptions(), [Pair(PAIRS[0].request, "x " * 999)])
    assert not out.exists()
