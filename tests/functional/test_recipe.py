"""`edgegen train run`: the example recipe whole on a tiny base, what it leaves and keeps, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edgegen import licensing, pack
from edgegen.cli import main
from edgegen.commands import evaluate
from edgegen.errors import DataError
from edgegen.evaluation import html, report
from edgegen.pack import modelfile, signing
from edgegen.train import lora
from tests.fakes.checkpoints import edited, make_checkpoint

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "shop.toml"
STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a model gains nothing from two, and waits where other processes are busy."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, long enough for the example's prompts."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base", n_positions=512)


def recipe(folder: Path, base: Path, **changes: Any) -> Path:
    """The example with its data in a folder of its own, on the tiny base, in few steps; `tune_rate=1` changes more."""
    folder.mkdir(parents=True, exist_ok=True)
    text = EXAMPLE.read_text("utf-8").replace("../../edgegen/data/sample/en.json", "en.json")
    (folder / "shop.txt").write_bytes(EXAMPLE.with_suffix(".txt").read_bytes())
    (folder / "en.json").write_bytes((EXAMPLE.parent / "../../edgegen/data/sample/en.json").read_bytes())
    usual = {"tune_base": str(base), "tune_steps": STEPS, "tune_evaluate-every": 2, "tune_batch": 8, "evaluate_limit": 2}
    for key, value in {**usual, "evaluate_n": 1, "evaluate_threads": 1, **changes}.items():
        table, _, name = key.partition("_")
        text = re.sub(rf"(?<=\n){name} = .*\n", "", text) + ("" if f"[{table}]\n" in text else f"\n[{table}]\n")
        text = text.replace(f"[{table}]\n", f"[{table}]\n{name} = {json.dumps(value)}\n")
    (folder / "shop.toml").write_text(text, "utf-8")
    return folder / "shop.toml"


def run(path: Path, *more: str) -> int:
    """The command on a recipe."""
    return main(["train", "run", str(path), *more])


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that has run; its folder is `shop.run` beside it."""
    path = recipe(tmp_path_factory.mktemp("whole"), base)
    assert run(path) == 0
    return path


def state(folder: Path) -> dict[str, int]:
    """When each file of a folder was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def losses(out: Path) -> list[dict[str, float]]:
    """The losses that a run's training noted, by step."""
    found: list[dict[str, float]] = json.loads((out / "tune" / "provenance.json").read_text("utf-8"))["log"]
    return found


def test_from_texts_to_a_pack(whole: Path) -> None:
    """The pack verifies and holds what convert makes of a training, and the evaluation, in figures and as pages."""
    out = whole.with_suffix(".run")
    found = pack.load(out / "shop.egpack").manifest
    assert (found.label, found.languages, found.tasks, found.quantization) == ("shop@1", ("en",), ("product",), "q8_0")
    assert {pack.MODEL, pack.DRAFT, modelfile.NAME, report.FILE, html.FILE, "report.json", "REPORT.md"} <= set(found.files)
    assert licensing.FILE not in found.files  # it would forbid the words that the texts teach
    written = json.loads((out / "evaluate" / report.FILE).read_text("utf-8"))
    assert found.evaluation == report.kept(written, written["packs"][0]) and found.evaluation["rows"][0]["texts"] == 2
    assert found.provenance["options"]["fit"]["steps"] == STEPS and found.provenance["log"] == losses(out)
    assert [entry["step"] for entry in losses(out) if "eval_loss" in entry] == [2, 4, 6]


def test_the_documentation_shows_the_example() -> None:
    """Line by line."""
    shown = (EXAMPLE.parents[1] / "training.md").read_text("utf-8")
    assert "\n".join(f"    {line}".rstrip() for line in EXAMPLE.read_text("utf-8").splitlines()[1:]) in shown


def test_again_there_is_nothing_to_do(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written but where the pack is."""
    out = whole.with_suffix(".run")
    before = state(out)
    assert run(whole) == 0
    told = capsys.readouterr()
    assert told.out == f"{out / 'shop.egpack'}\n"
    stages = ("prepare", "tune", "evaluate", "convert", "pack")
    assert told.err.splitlines() == [f"[{i}/5] {name}: done before" for i, name in enumerate(stages, 1)]
    after = state(out)
    assert {name for name in after if after[name] != before.get(name)} <= {"run.json"}


KILLED = """
import sys
import torch
from edgegen.cli import main
from edgegen.train import kinds
from tests.fakes.trained import Kill
torch.set_num_threads(1)
kinds.callbacks = lambda *_: [Kill(5)]
main(["train", "run", sys.argv[1]])
"""


def test_a_kill_in_the_midst_of_tuning_changes_nothing(
    whole: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on from the last checkpoint to the losses of a run that nothing disturbed; what fails later loses nothing."""
    path, out = recipe(tmp_path, base), tmp_path / "shop.run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert (out / "tune" / "steps" / "checkpoint-4").is_dir() and not (out / "tune" / "merged").exists()

    def failing(*_: object) -> None:
        raise DataError("the disk of somebody else")

    monkeypatch.setattr(evaluate, "scored", failing)
    assert run(path) == 3
    err = capsys.readouterr().err
    assert "[1/5] prepare: done before" in err and "step 6 of 6" in err and "step 2 of 6" not in err
    assert err.splitlines()[-1] == "edgegen: the disk of somebody else"
    ours, theirs = losses(out), losses(whole.with_suffix(".run"))
    assert [entry["step"] for entry in ours] == [entry["step"] for entry in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert json.loads((out / "run.json").read_text("utf-8"))["tune"]["done"]


def test_another_recipe_in_the_folder_is_refused(
    whole: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other options, other data; nothing of the folder is touched. Words between the lines and where losses go do not count."""
    out = whole.with_suffix(".run")
    before = state(out)
    for change, value in (("tune_rate", 0.01), ("prepare_seed", 3), ("convert_quant", "f16")):
        stage = change.partition("_")[0]
        other = recipe(tmp_path / stage, base, **{change: value})
        assert run(other, "--out", str(out)) == 2
        assert f"holds a run of another recipe: the options or the files of [{stage}] were others" in capsys.readouterr().err
    other = recipe(tmp_path / "more", base)
    with (other.parent / "shop.txt").open("a", encoding="utf-8") as file:
        file.write("The Halvic Cast Pot 26 costs $95.\n")
    assert run(other, "--out", str(out)) == 2 and "[prepare]" in capsys.readouterr().err
    assert state(out) == before
    other = recipe(tmp_path / "same", base, tune_track="none")
    other.write_text("# mine\n" + other.read_text("utf-8"), "utf-8")
    assert run(other, "--out", str(out), "--check") == 0


def test_from_a_stage_on(whole: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other types of the model that was tuned before, signed; what was done before is kept."""
    key, out = signing.generate(tmp_path / "shop"), whole.with_suffix(".run")
    tuned = state(out / "tune")
    (whole.parent / "card.md").write_text("Our own shop.", "utf-8")
    signed = {"pack_key": str(tmp_path / "shop.key"), "pack_add": ["card.md"]}
    changed = recipe(whole.parent, base, convert_quant=["f16", "q8_0"], convert_name="own", **signed)
    assert run(changed) == 2 and "--from convert" in capsys.readouterr().err
    assert run(changed, "--from", "convert") == 0
    assert capsys.readouterr().out.splitlines() == [str(out / f"own-{kind}.egpack") for kind in ("f16", "q8_0")]
    assert main(["pack", "trust", str(tmp_path / "shop.pub")]) == 0
    for kind in ("f16", "q8_0"):
        found = pack.load(out / f"own-{kind}.egpack")
        assert found.signer is not None and found.signer.id == key.id
        assert found.manifest.label == "own@1" and {"card.md", html.FILE} <= set(found.manifest.files)
    assert state(out / "tune") == tuned


def test_a_check_writes_nothing(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says where it would run."""
    path = recipe(tmp_path, base)
    assert run(path, "--check") == 0
    assert f"can run in {tmp_path / 'shop.run'}" in capsys.readouterr().err and not (tmp_path / "shop.run").exists()


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"prepare_data": "none.txt"}, "There is no none.txt, which the recipe's data names", 4),
        ({"prepare_catalog": "en.json"}, "[prepare]: unknown option catalog. Did you mean catalogue?", 2),
        ({"tune_evaluate_every": 3}, "[tune]: unknown option evaluate_every. Did you mean evaluate-every?", 2),
        ({"tune_steps": "many"}, "[tune]: argument --steps: invalid int value: 'many'", 2),
        ({"tune_steps": 0}, "steps must be at least 1, got 0", 2),
        ({"tune_checkpointing": 3}, "[tune]: argument --checkpointing", 2),
        ({"tune_kind": "prefix"}, "[tune]: a prefix cannot be merged", 2),
        ({"tune_out": "here"}, "[tune]: out is for the run itself to set", 2),
        ({"tune_base": "/no/where"}, "There is no checkpoint folder /no/where", 4),
        ({"evaluate_corpus": "c"}, "[evaluate]: corpus is for the run itself to set", 2),
        ({"evaluate_packs": "p"}, "[evaluate]: packs is for the run itself to set", 2),
        ({"evaluate_n": 99}, "n must be in [1, 16], got 99", 2),
        ({"evaluate_langs": "fr"}, "Unknown language 'fr'", 2),
        ({"evaluate_against": "ghost"}, "ghost", 4),
        ({"convert_quant": "q9"}, "quantization must be one of", 2),
        ({"convert_tasks": "poem"}, "Unknown task 'poem'", 2),
        ({"pack_key": "none.key"}, "There is no key at none.key", 4),
        ({"pack_add": ["none.md"]}, "There is no none.md, which the recipe's add names", 4),
        ({"pack_pack-version": "a b"}, "version", 2),
    ],
)
def test_what_cannot_run_is_refused_before_any_work(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str, code: int
) -> None:
    """One line, by name, and no folder."""
    assert run(recipe(tmp_path, base, **changes)) == code
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1 and not (tmp_path / "shop.run").exists()


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("[prepare", "is not TOML", 3),
        ("[prepar]\ndata = 'shop.txt'\n", "unknown table [prepar]. Did you mean prepare?", 2),
        ("prepare = 3\n", "prepare is a table", 2),
        ("[tune]\nsteps = 3\n", "[prepare]: the following arguments are required: --data", 2),
        ("[prepare]\ndata = 'shop.txt'\n'data set' = 3\n", "[prepare]: unknown option data_set.", 2),
        (None, "There is no recipe", 4),
    ],
)
def test_what_is_no_recipe_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str, code: int
) -> None:
    """With what is wrong."""
    path = tmp_path / "shop.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    assert run(path) == code
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1 and not (tmp_path / "shop.run").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.txt", "", "empty.txt is empty"),
        ("wrong.csv", "product,colour\nOak desk,brown\nElm desk,red\n", "no column is the text"),
        ("one.txt", "The Halvic Cast Pot 26 costs $95.\n", "holds one text"),
        ("two.txt", "The Halvic Cast Pot 26 costs $95.\nThe Amberlow Soy Candle costs $19.\n", "came into the test split"),
    ],
)
def test_bad_data(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str) -> None:
    """One clear error, and the data may be put right in the same folder."""
    (tmp_path / name).write_text(text, "utf-8")
    path = recipe(tmp_path, base, prepare_data=name, prepare_test=0.0001)
    assert run(path) == 3
    err = capsys.readouterr().err.splitlines()
    assert message in err[-1] and err[-1].startswith("edgegen: ") and sum(line.startswith("edgegen: ") for line in err) == 1
    assert not (tmp_path / "shop.run" / "tune").exists()


def test_a_base_that_does_not_fit(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything else is done."""
    huge = edited(base, tmp_path / "huge", n_embd=65536, n_layer=500)
    assert run(recipe(tmp_path / "shop", huge)) == 2
    err = capsys.readouterr().err
    assert "of memory" in err and len(err.splitlines()) == 1 and not (tmp_path / "shop" / "shop.run").exists()


def test_a_loss_that_is_no_number(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with its step; the pairs and the checkpoints before it stay."""
    adapted = lora.adapted

    def broken(*args: Any) -> Any:
        model = adapted(*args)
        model.get_base_model().transformer.ln_f.weight.data[0] = float("nan")
        return model

    monkeypatch.setattr(lora, "adapted", broken)
    assert run(recipe(tmp_path, base)) == 3
    err = capsys.readouterr().err.splitlines()
    assert "loss is nan at step" in err[-1] and "Lower the rate" in err[-1]
    note = json.loads((tmp_path / "shop.run" / "run.json").read_text("utf-8"))
    assert (note["prepare"]["done"], note["tune"]["done"]) == (True, False)
    assert run(recipe(tmp_path, base, tune_rate=0.0001)) == 2
    assert "--from tune" in capsys.readouterr().err


def test_several_processes_are_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would all write the same files; the same is so of every stage but `lora`."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(recipe(tmp_path, base)) == 2
    assert "`edgegen train run` runs in one process" in capsys.readouterr().err
    for command in ("search --data x", "ablate --data x --vary rank=2", "prefer", "base", "fuse a b"):
        assert main(["train", *command.split()]) == 2
        assert f"`edgegen train {command.split()[0]}` runs in one process" in capsys.readouterr().err
