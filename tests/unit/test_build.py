"""From checkpoint to packs in one call: several types, one file, signed, resumed, refused beyond a bound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import build as build_module
from convert import gpt2, quantize, report, verify
from convert.build import About, build_packs, record_evaluation
from convert.calibrate import importance
from convert.checkpoint import Checkpoint, open_checkpoint
from edgegen import folders, licensing, pack
from edgegen.cli import main
from edgegen.engine import quantizing
from edgegen.errors import ConvertError, DataError, EngineError, NotFoundError, SignatureError, StorageError, UsageError
from edgegen.pack import describe, signing, trust
from edgegen.train import pairs
from edgegen.train.dataset import Encoder
from tests.fakes.checkpoints import PAIRS, build, edited, make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose rows divide by 256."""
    return make_checkpoint(tmp_path_factory.mktemp("wide") / "checkpoint", n_embd=256, n_layer=1)


def test_build_makes_a_pack_that_verifies(checkpoint: Path, tmp_path: Path) -> None:
    """The manifest says how alike checkpoint and pack are; building again gives the same bytes."""
    made = pack.load(build(checkpoint, tmp_path / "pack"))
    found = made.manifest.equality
    assert found["f32"]["max_logit_error"] < 0.01 * found["f32"]["logit_spread"]
    assert found["f32"]["greedy_equal"] == found["f32"]["greedy_prompts"] == 2
    assert 0 < found["q8_0"]["mean_kl"] < 0.05
    assert found["q8_0"]["top1_agreement"] > 0.8
    assert made.manifest.provenance == {"recipe": "test", "tensor_types": {"Q8_0": 9, "F32": 19}}
    assert sorted(p.name for p in made.folder.iterdir()) == [
        "Modelfile",
        "REPORT.md",
        "manifest.json",
        "model.gguf",
        "report.json",
    ]
    first = {p.name: p.read_bytes() for p in made.folder.iterdir()}
    record_evaluation(made.folder, {"slot_error": 0.0})
    assert pack.load(made.folder).manifest.evaluation == {"slot_error": 0.0}
    (made.folder / pack.SIGNATURE).touch()
    with pytest.raises(UsageError, match="is signed, so its manifest cannot change"):
        record_evaluation(made.folder, {})
    again = build(checkpoint, made.folder)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == first


def test_build_refuses_before_it_writes(checkpoint: Path, tmp_path: Path) -> None:
    """Unknown tasks and languages, names that no manifest may have, and a folder that is not a pack."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"tasks": ["nope"]}, "Unknown task"), ({"languages": ["xx"]}, "Unknown language"), ({"languages": []}, "one language"),
        ({"tasks": []}, "one task at least"),
        ({"name": "../x"}, "the pack's name is '../x'"), ({"version": "1 2"}, "the pack's version is '1 2'"),
    ]  # fmt: skip
    for changes, what in wrong:
        with pytest.raises(UsageError, match=what):
            build(checkpoint, tmp_path / "pack", **changes)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UsageError, match="not a pack"):
        build(checkpoint, tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_several_types_in_one_run(checkpoint: Path, tmp_path: Path) -> None:
    """A pack file for each, named by it; each has a report in JSON and as a table."""
    about = About("tiny", tasks=["reason"])
    made = build_packs(checkpoint, tmp_path / "shop.egpack", about, quants=["q4_0", "f16", "f32"], pairs=PAIRS, force=True)
    assert [path.name for path in made] == ["shop-q4_0.egpack", "shop-f16.egpack", "shop-f32.egpack"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in made)
    for path, kind in zip(made, ("q4_0", "f16", "f32"), strict=True):
        opened = pack.load(path)
        assert opened.manifest.quantization == kind
        found = json.loads((opened.folder / "report.json").read_text("utf-8"))
        assert [row["kind"] for row in found["quantizations"]] == (["f32"] if kind == "f32" else ["f32", kind])
        assert found["quantizations"][-1]["size"] == opened.model.stat().st_size
        assert f"| {kind} |" in (opened.folder / "REPORT.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["shop", "shop.egpack"])
def test_packs_get_their_names_together(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:  # fmt: skip
    """The disk is full at the second pack: the first is not left alone."""
    told, fill = [], describe

    def full(folder: Path, names: Any) -> Any:
        told.append(folder)
        if len(told) == 2:
            raise OSError(28, "No space left on device")
        return fill(folder, names)

    monkeypatch.setattr(pack, "describe", full)
    with pytest.raises(StorageError, match="No space left"):
        build(checkpoint, tmp_path / name, quants=["f16", "q8_0"])
    assert len(told) == 2
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_in_a_pack_is_found_out_before_the_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A key that cannot sign, a licence and a provenance that no manifest may have."""
    monkeypatch.setattr(gpt2, "write", _interrupt)
    signing.generate(tmp_path / "shop")
    with pytest.raises(NotFoundError, match="no key at"):
        build(checkpoint, tmp_path / "pack", key=tmp_path / "none.key")
    with pytest.raises(DataError, match="not a private Ed25519 key"):
        build(checkpoint, tmp_path / "pack", key=tmp_path / "shop.pub")
    with pytest.raises(UsageError, match="the pack's licence is ''"):
        build(checkpoint, tmp_path / "pack", licence="")
    with pytest.raises(UsageError, match=r"the pack's provenance is \[1\], not an object"):
        build(checkpoint, tmp_path / "pack", provenance=[1])
    (tmp_path / "report.json").write_text('{"schema": 1, "packs": []}', "utf-8")
    command = ["convert", str(checkpoint), "--out", str(tmp_path / "pack"), "--evaluation", str(tmp_path / "report.json")]
    assert main(command) == 3


def test_tables_of_the_base_stay_where_they_fit(checkpoint: Path, tmp_path: Path) -> None:
    """With an adapter merged, words that the base's training lacked are not forbidden; drafts are for the same tokens."""
    opened = open_checkpoint(checkpoint)
    folder = edited(checkpoint, tmp_path / "base")
    for name in (licensing.FILE, pack.DRAFT):
        (folder / name).write_bytes(b"{}")

    def beside(merged: Checkpoint) -> set[str]:
        part = tmp_path / "part"
        part.mkdir(exist_ok=True)
        return set(build_module._beside(merged, part))

    plain = replace(opened, folder=folder)
    assert beside(plain) == {licensing.FILE, pack.DRAFT}
    assert beside(replace(plain, built=opened.model)) == {pack.DRAFT}
    grown = replace(opened.config, vocab_size=opened.config.vocab_size + 1)
    assert beside(replace(plain, built=opened.model, config=grown)) == set()


def test_a_signed_file_in_one_call(checkpoint: Path, tmp_path: Path) -> None:
    """`key` signs; the pack loads once the key is trusted."""
    signing.generate(tmp_path / "shop")
    for name in ("pack.egpack", "pack"):
        made = build(checkpoint, tmp_path / name, key=tmp_path / "shop.key")
        with pytest.raises(SignatureError):
            pack.load(made)
    trust.add(folders.data() / "trust", tmp_path / "shop.pub")
    for name in ("pack.egpack", "pack"):
        signer = pack.load(tmp_path / name).signer
        assert signer is not None
        assert signer.label == "shop"


def test_beyond_its_bound_nothing_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A random model of this size loses much at two bits: an error with both figures, unless it is forced."""
    monkeypatch.setitem(quantize.BOUNDS, "q4_0", 1e-6)
    with pytest.raises(ConvertError, match=r"q4_0 loses too much: mean KL divergence .*, the bound is 1e-06.*--force"):
        build(checkpoint, tmp_path / "pack", quants=["q8_0", "q4_0"])
    assert not list(tmp_path.iterdir())
    about = About("tiny", tasks=["reason"])
    made = build_packs(checkpoint, tmp_path / "pack", about, quants=["q4_0"], pairs=PAIRS, force=True)[0]
    assert json.loads((made / "report.json").read_text("utf-8"))["quantizations"][1]["within"] is False


def test_a_killed_run_goes_on(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made before is not made again, the result is the same, and an error with a message leaves nothing."""
    written: list[str] = []
    write, quantized = gpt2.write, quantize.quantize

    def counted(*args: Any, **options: Any) -> Path:
        written.append("f32")
        return write(*args, **options)

    monkeypatch.setattr(gpt2, "write", counted)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize, "quantize", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(checkpoint, tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == [".pack.stages"]
    monkeypatch.setattr(quantize, "quantize", quantized)
    (tmp_path / ".pack.stages" / ".q8_0.gguf.partial-1").touch()
    (tmp_path / ".pack.stages" / "tmp1").mkdir()
    finished = build_module._made

    def swept(target: Path, room: Path, *rest: Any) -> Any:
        assert not {"tmp1", ".q8_0.gguf.partial-1"} & {path.name for path in room.iterdir()}
        return finished(target, room, *rest)

    monkeypatch.setattr(build_module, "_made", swept)
    resumed = build(checkpoint, tmp_path / "pack")
    assert written == ["f32"]
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    plain = build(checkpoint, tmp_path / "again")
    assert {p.name: p.read_bytes() for p in resumed.iterdir()} == {p.name: p.read_bytes() for p in plain.iterdir()}

    def failed(*_: object, **__: object) -> None:
        raise EngineError("no")

    monkeypatch.setattr(quantize, "quantize", failed)
    with pytest.raises(EngineError):
        build(checkpoint, tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "pack"]


def test_stages_of_another_model_are_not_taken(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage is found again only where nothing it was made from has changed."""
    with monkeypatch.context() as patch:
        patch.setattr(report, "require_within", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(checkpoint, tmp_path / "pack")
    other = make_checkpoint(tmp_path / "other", initializer_range=0.1)
    made = build(other, tmp_path / "pack")
    assert verify.compare(open_checkpoint(other), made / "model.gguf", PAIRS).top1_agreement > 0.8


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", quantize.TYPES)
def test_a_plan_is_what_comes_of_it(wide: Path, tmp_path: Path, kind: str) -> None:
    """Every type is written; the plan from a header alone has the size, and the report the types."""
    opened = open_checkpoint(wide)
    exact = gpt2.write(opened, tmp_path / "exact.gguf")
    hollow = gpt2.write(opened, tmp_path / "hollow.gguf", hollow=True)
    ones = {name: np.ones(row, np.float32) for name, row in _rows(exact).items()}
    made = quantize.quantize(exact, tmp_path / "made.gguf", kind, ones)
    plan = quantize.plan(hollow, kind)
    assert abs(plan.size - made.stat().st_size) < 512  # the quantizer adds two keys to the header
    assert plan.fallbacks == []
    assert sum(quantize.tensor_types(made).values()) == 16


def test_short_rows_fall_back_and_are_told(checkpoint: Path, tmp_path: Path) -> None:
    """64 values do not divide by 256: what becomes of them is in the plan, the report and the words."""
    hollow = gpt2.write(open_checkpoint(checkpoint), tmp_path / "hollow.gguf", hollow=True)
    found = quantize.plan(hollow, "q4_k_m").fallbacks
    assert {(f.row, f.block) for f in found} == {(64, 256)}
    assert all(f.type in ("q5_0", "q8_0") for f in found)
    assert "rows of 64 values, which do not divide by 256, and become q5_0" in " ".join(report.fallback_notes(found))
    assert quantize.plan(hollow, "q8_0").fallbacks == []


def test_the_importance_matrix_is_of_mean_squares(checkpoint: Path) -> None:
    """Of what a matrix is multiplied with: the last one is with the normed hidden states."""
    opened = open_checkpoint(checkpoint)
    example = Encoder(opened.tokenizer).pair(PAIRS[0])
    found = importance(opened, [example, example])
    assert set(found) == {"token_embd.weight"} | {
        f"blk.{layer}.{name}.weight" for layer in (0, 1) for name in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
    }
    import torch

    with torch.inference_mode():
        hidden = opened.model.transformer(torch.tensor(example.ids[None].astype(np.int64))).last_hidden_state[0]
    assert np.allclose(found["token_embd.weight"], hidden.square().mean(0).numpy(), rtol=1e-4)
    assert found["blk.1.ffn_down.weight"].shape == (256,)


def test_types_that_need_a_matrix_say_so(wide: Path, tmp_path: Path) -> None:
    """llama.cpp's own reason comes through."""
    exact = gpt2.write(open_checkpoint(wide), tmp_path / "exact.gguf")
    with pytest.raises(EngineError, match="importance matrix"):
        quantizing.quantize(exact, tmp_path / "made.gguf", "iq2_xxs")


def test_dry_run_prints_sizes(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each type, and nothing is written."""
    assert main(["convert", str(checkpoint), "--quant", "q8_0,q4_k_m", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["q8_0", "q4_k_m"]
    assert "MB" in lines[0]
    assert "do not divide by 256" in lines[1]
    assert not list(tmp_path.iterdir())


def test_the_folder_one_is_in_has_a_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pack says what it was made of, where that is `.` too; a dry run is of packs."""
    data = tmp_path / "pairs.jsonl"
    pairs.write(data, PAIRS)
    monkeypatch.chdir(checkpoint)
    assert main(["convert", ".", "--data", str(data), "--out", str(tmp_path / "own"), "--tasks", "reason", "--force"]) == 0
    made = pack.load(tmp_path / "own")
    assert made.manifest.provenance["checkpoint"] == checkpoint.name
    assert json.loads((made.folder / "report.json").read_text("utf-8"))["source"] == checkpoint.name
    assert main(["convert", ".", "--adapter", "lora", "--as-adapter", "--dry-run"]) == 2
    assert "--dry-run is said of packs" in capsys.readouterr().err


def test_own_pairs_to_compare_and_to_calibrate_on(wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every twentieth compares, the others weigh; an empty file and a broken line are one error each."""
    data, out = tmp_path / "pairs.jsonl", tmp_path / "own.egpack"
    pairs.write(data, PAIRS * 15)
    command = ["convert", str(wide), "--quant", "q4_k_m", "--data", str(data), "--out", str(out), "--tasks", "reason", "--force"]
    assert main(command) == 0
    shown = pack.read_manifest(out).equality
    expected = len(Encoder(open_checkpoint(wide).tokenizer).pair(PAIRS[0]).ids)
    assert shown["q4_k_m"]["positions"] == 2 * expected
    data.write_text("", "utf-8")
    assert main(command) == 3
    data.write_text("{}", "utf-8")
    assert main(command) == 3
    data.write_bytes(b"\xff\xfe")
    assert main(command) == 3
    data.write_text("[1]", "utf-8")
    assert main(command) == 3
    assert "holds no pairs" in (told := capsys.readouterr().err)
    assert f"{data}:1" in told


def _rows(path: Path) -> dict[str, int]:
    import gguf

    return {t.name: int(t.shape[0]) for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2}


def test_stages_are_told_once_and_a_name_keeps_its_dots(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal a line for each stage; the pack is called as its folder is."""
    out = tmp_path / "shop.v2"
    assert main(["convert", str(checkpoint), "--langs", "en", "--tasks", "reason", "--out", str(out), "--force"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.endswith(": done")]
    assert told == [f"{stage}: done" for stage in ("write f32", "compare f32", "quantize q8_0", "compare q8_0", "pack shop.v2")]
    assert pack.load(out).manifest.name == "shop.v2"
