"""Training survives a kill and can be shared by processes: the losses are those of one uninterrupted process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from edgegen.train import pairs
from tests.fakes.checkpoints import PAIRS, make_checkpoint

ONE = [sys.executable, "-m"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
TRAINED = "tests.fakes.trained"


def run(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A training in processes of its own, on one thread each."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=env)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the training printed."""
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process that nothing disturbs."""
    found = told(run(ONE, TRAINED, str(tmp_path_factory.mktemp("whole") / "steps")))
    losses = [loss for _, name, loss in found["losses"] if name == "loss"]
    assert len(losses) == 6 and losses[-1] < losses[0] - 0.3
    return found


def test_a_killed_run_goes_on_as_if_nothing_had_been(whole: dict[str, Any], tmp_path: Path) -> None:
    """Killed between two checkpoints, it repeats what was lost: the same losses, the same weights."""
    assert run(ONE, TRAINED, str(tmp_path / "steps"), "5").returncode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "steps").iterdir() if path.name.startswith("checkpoint")) == [
        "checkpoint-2", "checkpoint-4",
    ]  # fmt: skip
    assert told(run(ONE, TRAINED, str(tmp_path / "steps"))) == whole


def test_two_processes_train_as_one(whole: dict[str, Any], tmp_path: Path) -> None:
    """Each takes half of every batch; gradients are averaged over the tokens of both."""
    both = told(run(TWO, TRAINED, str(tmp_path / "steps")))
    assert [row[:2] for row in both["losses"]] == [row[:2] for row in whole["losses"]]
    for (_, _, ours), (_, _, theirs) in zip(both["losses"], whole["losses"], strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)
    assert both["sum"] == pytest.approx(whole["sum"], rel=1e-3)


def test_the_command_in_two_processes_writes_what_one_writes(tmp_path: Path) -> None:
    """One run folder, one adapter, merged once; a batch that cannot be shared is refused."""
    dry = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)  # each process drops out otherwise
    base, data = make_checkpoint(tmp_path / "base", **dry), tmp_path / "pairs.jsonl"
    pairs.write(data, PAIRS * 6)
    asked = ["edgegen", "train", "lora", "--data", str(data), "--base", str(base), "--steps", "3", "--dropout", "0"]
    one = run(ONE, *asked, "--batch", "4", "--out", str(tmp_path / "one"))
    two = run(TWO, *asked, "--batch", "4", "--out", str(tmp_path / "two"))
    assert (one.returncode, two.returncode) == (0, 0), two.stderr[-2000:]
    assert two.stdout == f"{tmp_path / 'two' / 'merged'}\n"
    first, second = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two"))
    grown, apart = (
        sum(float(abs(change).mean()) for change in changes)
        for changes in zip(*((first[name], first[name] - second[name]) for name in first if "lora_B" in name), strict=True)
    )
    assert apart < 0.15 * grown
    odd = run(TWO, *asked, "--batch", "3", "--out", str(tmp_path / "odd"))
    assert odd.returncode != 0 and "cannot be shared by 2 processes" in odd.stderr
