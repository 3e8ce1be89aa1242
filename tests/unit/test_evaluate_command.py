"""`edgegen evaluate` on a tiny checkpoint and its pack, whose texts are all refused: what it reads, prints and writes."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from edgegen import cli, pack
from edgegen.evaluation import html, plots, report
from edgegen.evaluation.plots import Bar
from edgegen.train import pairs, tokenizer
from edgegen.train.dataset import Encoder
from tests.fakes.checkpoints import PAIRS, build, make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, which says how its training went."""
    folder = make_checkpoint(tmp_path_factory.mktemp("made") / "tiny")
    log = [{"step": step, "loss": 9.0 - step} for step in (1, 2, 3)] + [{"step": 3, "eval_loss": 6.5}]
    (folder / "provenance.json").write_text(json.dumps({"log": log}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def packed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of it."""
    return build(checkpoint, tmp_path_factory.mktemp("packs") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line in each language, the English one twice with other words."""
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    texts = ("<|v1|> costs <|v4|>.", "<|v1|>只要<|v4|>，很结实。", "Have <|v1|> for <|v4|>.")
    pairs.write(path, [pairs.Pair(pair.request, text) for pair, text in zip([*PAIRS, PAIRS[0]], texts, strict=True)])
    return path


def test_checkpoints_and_packs_side_by_side(
    checkpoint: Path, packed: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are scored on the same texts; the reports hold every score of both, with baselines, curves and the worst texts."""
    paths = tmp_path / "report.json", tmp_path / "report.html"
    command = ["evaluate", str(checkpoint), str(packed), "--against", str(packed), "--data", str(data), "--n", "1"]
    assert cli.main([*command, "--worst", "1", "--report", str(paths[0]), "--html", str(paths[1])]) == 0
    out = capsys.readouterr().out
    assert "/tiny f32, " in out and "## tiny@1.0.0 q8_0, " in out and "/tiny f32 less tiny@1.0.0 q8_0; " in out
    assert "| means of all tasks | MB |" in out
    assert "template: " in out  # why the worst text is one
    found = json.loads(paths[0].read_text("utf-8"))
    assert found["schema"] == report.SCHEMA and [p["quantization"] for p in found["packs"]] == ["f32", "q8_0"]
    rows = [(row["task"], row["lang"], row["texts"]) for row in found["packs"][0]["rows"]]
    assert rows == [("reason", "en", 1), ("reason", "zh", 1)]
    scores = found["packs"][0]["rows"][1]["figures"]
    systems = {"model", "unchecked", "template", "shuffled", "constant"}
    assert set(scores["bleu"]) == set(scores["chrf"]) == systems and "bleu_words" in scores
    assert scores["perplexity"]["reference"]["value"] > 1 and scores["slot_error"]["reference"]["value"] == 0
    assert found["packs"][0]["losses"] == {"loss": [[1, 8], [2, 7], [3, 6]]}  # one point is no curve
    same = [row for row in found["comparison"]["rows"] if row["score"] == "perplexity"]
    assert len(same) == 2 and all(0 < row["p"] <= 1 for row in same)
    page = paths[1].read_text("utf-8")
    assert "loss, nats a token" in page and "Quality against size" in page and "approximate randomisation" in page
    assert not re.search(r"(?:src|href)=|<script", page)
    for drawn in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(drawn)  # noqa: S314 - our own text


def test_the_engines_perplexity_is_pytorchs(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """The same prompts, the same texts, the same end: what training measures on these pairs."""
    command = ["evaluate", str(checkpoint), "--data", str(data), "--n", "1", "--report", str(tmp_path / "r.json")]
    assert cli.main(command) == 0
    model, encoder = GPT2LMHeadModel.from_pretrained(checkpoint).eval(), Encoder(tokenizer.load(checkpoint))
    rows = json.loads((tmp_path / "r.json").read_text("utf-8"))["packs"][0]["rows"]
    for row, pair in zip(rows, pairs.read(data), strict=False):
        example = encoder.pair(pair)
        ids = torch.from_numpy(example.ids.astype(np.int64))[None]
        labels = ids.clone()
        labels[:, : example.start] = -100
        with torch.no_grad():
            loss = float(model(ids, labels=labels).loss)
        assert row["figures"]["perplexity"]["reference"]["value"] == pytest.approx(math.exp(loss), rel=0.01)


def test_the_report_travels_in_the_pack(checkpoint: Path, packed: Path, data: Path, tmp_path: Path) -> None:
    """Recorded, it is in the manifest and a page beside it, and the pack still verifies; `convert` takes a report as well."""
    written = tmp_path / "report.json"
    assert cli.main(["evaluate", str(packed), "--data", str(data), "--n", "1", "--record", "--report", str(written)]) == 0
    found = pack.load(packed).manifest
    assert found.evaluation["schema"] == report.SCHEMA and len(found.evaluation["rows"]) == 2
    assert json.loads((packed / report.FILE).read_text("utf-8"))["packs"][0]["worst"] and report.FILE in found.files
    assert html.FILE in found.files and "tiny@1.0.0" in (packed / html.FILE).read_text("utf-8")
    whole = json.loads(written.read_text("utf-8"))
    assert found.evaluation == report.kept(whole, whole["packs"][0])
    assert cli.main(["evaluate", str(packed), "--data", str(data), "--n", "1", "--langs", "en", "--record"]) == 0
    assert len(pack.load(packed).manifest.evaluation["rows"]) == 1
    (packed / pack.SIGNATURE).touch()
    assert cli.main(["evaluate", str(packed), "--data", str(data), "--record"]) != 0
    (packed / pack.SIGNATURE).unlink()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ([], "Give one of --data FILE, --corpus FOLDER and --catalogue FILE", 2),
        (["--data", "{data}", "--corpus", "x"], "Give one of --data", 2),
        (["--data", "nowhere.jsonl"], "There is no file nowhere.jsonl", 4),
        (["--data", "{empty}"], "holds no pairs", 3),
        (["--data", "{data}", "--limit", "0"], "--limit must be at least 1, got 0", 2),
        (["--data", "{data}", "--worst", "-1"], "--worst must be at least 0, got -1", 2),
        (["--data", "{data}", "--n", "99"], "n must be in [1, 16], got 99", 2),
        (["--data", "{data}", "--tasks", "poem"], "Unknown task 'poem'", 2),
        (["--data", "{data}", "--tasks", "guide"], "There is nothing to score", 3),
        (["--data", "{data}", "nowhere"], "no pack", 4),
        (["--data", "{data}", "--html", "nowhere/a.html"], "nowhere/a.html cannot be written", 4),
        (["--data", "{slots}"], "pair 2: its text has <|v9|>, which stands for no value of its facts", 3),
        (["--data", "{unfit}"], "pair 1: Task 'guide' needs", 3),
        (["--data", "{data}", "one", "--pack", "two"], "Name the pack either with --pack or without", 2),
        (["--data", "{data}", "{checkpoint}", "--record"], "is a checkpoint, and --record writes into packs", 2),
    ],
)
def test_bad_calls(
    arguments: list[str], message: str, code: int, checkpoint: Path, data: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One clear error, and nothing is scored."""
    (tmp_path / "empty.jsonl").touch()
    places = {"data": data, "checkpoint": checkpoint} | {name: tmp_path / f"{name}.jsonl" for name in ("empty", "slots", "unfit")}
    pairs.write(places["slots"], [pairs.Pair(PAIRS[0].request, text) for text in ("<|v1|>.", "<|v9|> costs <|v4|>.")])
    pairs.write(places["unfit"], [pairs.Pair(replace(PAIRS[0].request, task="guide"), "<|v1|>.")])
    assert cli.main(["evaluate", *(argument.format(**places) for argument in arguments)]) == code
    said = capsys.readouterr()
    assert message in said.err and said.out == "" and said.err.count("\n") == 1


def test_products_alone(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without references nothing is compared, and without another pack nothing is tested."""
    shop = tmp_path / "shop.json"
    shop.write_text('[{"title": "Oak Tray", "price": 20, "category": "tray"}]', "utf-8")
    command = ["evaluate", "--pack", str(packed), "--catalogue", str(shop), "--langs", "en", "--tasks", "reason", "--n", "1"]
    assert cli.main([*command, "--html", str(tmp_path / "r.html")]) == 0
    out = capsys.readouterr().out
    assert "| reason | en | 1 |" in out and "BLEU (words)" not in out and "approximate" not in out
    assert "Quality against size" not in (tmp_path / "r.html").read_text("utf-8")


def test_an_old_report_is_refused(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list of rows, as reports were once."""
    (tmp_path / "old.json").write_text("[]", "utf-8")
    assert cli.main(["convert", str(checkpoint), "--out", str(tmp_path / "p"), "--evaluation", str(tmp_path / "old.json")]) == 3
    assert "is no report of `edgegen evaluate --report`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.31, [0.15, 0.2, 0.25, 0.3]),
        (-3, 3, [-2, 0, 2]),
        (31, 32.1, [31, 31.2, 31.4, 31.6, 31.8, 32]),
    ],
)
def test_ticks(low: float, high: float, wanted: list[float]) -> None:
    """Round numbers inside the range."""
    assert plots.ticks(low, high) == pytest.approx(wanted)


def test_plots_hold_names_as_text() -> None:
    """A name cannot become markup, and one point or equal values have axes too."""
    drawn = plots.points([("<b>&", 1.0, Bar(2.0)), ("c", 1.0, Bar(2.0, 1.0, 3.0))], "MB", "score")
    drawn += plots.bars({"<i>": {"a": Bar(0.0)}}, "t", ["b", "a"])
    assert "<b>" not in drawn and "<i>" not in drawn and "&lt;b&gt;&amp;" in drawn
    assert plots.curves({"loss": [(1, 2.0), (2, 2.0)]}, "step", "loss").count("polyline") == 1
