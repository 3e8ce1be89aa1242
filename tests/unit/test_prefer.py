"""Learning from preferences on a tiny model: the margin rises on held-out requests, and the report says what it brought."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convert.checkpoint import open_checkpoint
from edgegen import cli, selection, slots
from edgegen.domain import Request
from edgegen.errors import DataError, OptionError, UsageError
from edgegen.explain import ExplainOptions, Explanation
from edgegen.store import Entry, Event, Store
from edgegen.train import dpo, kinds, prefer, preferences
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from edgegen.train.prefer import PreferOptions
from tests.fakes.checkpoints import make_checkpoint
from tests.fakes.feedback import request, shown

QUICK = FitOptions(steps=16, batch=4, rate=5e-3, warmup=1, save_every=8, log_every=4, weight_decay=0.0)
OPTIONS = PreferOptions(LoraOptions(rank=4, alpha=8.0, dropout=0.0, fit=QUICK), n=2, measured=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with edgegen's tokens."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


class Two:
    """Writes the same two texts for everything."""

    def explain(self, request: Request, options: ExplainOptions) -> Explanation:
        """A good one and a poor one."""
        plan = tuple(section.facts for section in request.sections)
        prompt = selection.prompt(request, plan)
        texts = tuple(slots.parse(text, prompt) for text in ("<|v1|> is a desk.", "<|v1|> costs <|v4|>."))
        return Explanation("reason", "en", "", "model", (), (), prompt, texts)


def entries(count: int = 10) -> list[Entry]:
    """People like one way to say it and dislike another."""
    found = []
    for price in range(100, 100 + count):
        found.append(Entry(shown("<|v1|> costs <|v4|>.", price), (Event("accepted"),)))
        found.append(Entry(shown("the lamp, <|v1|> for <|v4|>.", price), (Event("down"),)))
    return found


def test_the_margin_rises_on_requests_held_out(base: Path, tmp_path: Path) -> None:
    """DPO on some requests moves the likelihoods on others; the base below the adapter is as it was; a second run goes on."""
    before = {name: weight.clone() for name, weight in open_checkpoint(base).model.state_dict().items()}
    found = prefer.prefer(str(base), entries(), [], tmp_path / "out", OPTIONS, lambda _: None)
    assert found.margin is not None and found.preferred is not None and found.held_pairs == 2
    assert found.margin[1] > found.margin[0] + 1 and found.preferred[1] == 1.0
    tuned = open_checkpoint(found.merged).model
    rows = prefer.rows(open_checkpoint(base), preferences.from_store(entries()[:2]).found)
    assert dpo.margins(tuned, rows)[0] > dpo.margins(open_checkpoint(base).model, rows)[0] + 1
    assert all(torch.equal(before[name], weight) for name, weight in open_checkpoint(base).model.state_dict().items())
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["kinds"] == {"accepted over rejected": 10} and report["before"]["texts"] == report["after"]["texts"] == 4
    assert {"reward", "grounded", "covered"} <= set(report["after"])
    again = prefer.prefer(str(base), entries(), [], tmp_path / "out", OPTIONS, lambda _: None)
    assert again.margin == pytest.approx(found.margin, abs=1e-3)
    with pytest.raises(UsageError, match="another base, other pairs"):
        prefer.prefer(str(base), entries(11), [], tmp_path / "out", OPTIONS, lambda _: None)
    with pytest.raises(UsageError, match="or options"):
        prefer.prefer(str(base), entries(), [], tmp_path / "out", replace(OPTIONS, beta=0.5), lambda _: None)


def test_a_killed_run_goes_on(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the base wrote is kept, and training goes on from its last checkpoint."""
    plain: Any = dpo.fit
    written, begun = list[int](), list[int]()

    class Writes(Two):
        """Counts its texts."""

        def explain(self, request: Request, options: ExplainOptions) -> Explanation:
            """As Two does."""
            written.append(1)
            return super().explain(request, options)

    @contextmanager
    def writer(*_: object) -> Iterator[Writes]:
        yield Writes()

    def fit(*given: Any, **rest: Any) -> Any:
        *rows, steps, options = given
        begun.append(len(list(steps.glob("checkpoint-*"))))
        if len(begun) == 1:
            plain(*rows, steps, replace(options, steps=8), **rest)
            raise KeyboardInterrupt
        return plain(*given, **rest)

    monkeypatch.setattr(prefer, "_writer", writer)
    monkeypatch.setattr(dpo, "fit", fit)
    run = ([request(price) for price in range(10)], tmp_path / "out", replace(OPTIONS, teach="reward"))
    with pytest.raises(KeyboardInterrupt):
        prefer.prefer(str(base), [], *run, lambda _: None)
    assert len(written) == 12  # one for each request, and one for each of the two held out
    found = prefer.prefer(str(base), [], *run, lambda _: None)
    assert begun == [0, 1] and len(written) == 14 and found.kinds == {"best of n by reward": 10}


def test_the_reference_is_the_base(base: Path, tmp_path: Path) -> None:
    """The first loss is log 2: with a fresh adapter, model and reference agree; the anchor is on top."""
    opened = open_checkpoint(base)
    rows = prefer.rows(opened, preferences.from_store(entries(6)).found)
    shape = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ("c_attn",), "steps": 2, "fresh": [], "base": str(base)}
    fit = FitOptions(steps=2, batch=2, rate=1e-9, warmup=0, save_every=2, log_every=1)
    config = kinds.config("lora", **shape)  # type: ignore[arg-type]
    _, log = dpo.fit(opened.model, config, opened.tokenizer, rows, [], tmp_path / "steps", fit, beta=0.1, anchor=0.0)
    assert [entry["loss"] for entry in log if "loss" in entry] == pytest.approx([0.6931, 0.6931], abs=1e-3)


def test_nothing_to_prefer_and_wrong_options_are_told(base: Path, tmp_path: Path) -> None:
    """Before anything is trained."""
    with pytest.raises(DataError, match="nothing to learn"):
        prefer.prefer(str(base), entries()[::2], [], tmp_path / "out", OPTIONS, lambda _: None)
    for wrong in ({"beta": 0.0}, {"n": 1}, {"teach": "style"}, {"adapter": LoraOptions(kind="prefix")}):
        with pytest.raises(OptionError):
            PreferOptions(**wrong)


def test_the_command_reads_the_store(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says before and after; --self without a request says what it needs."""
    assert cli.main(["train", "prefer", "--self", "--base", str(base)]) == UsageError.exit_code
    with Store() as store:
        for entry in entries(6):
            store.add(store.record(entry.shown), entry.events[0])
    out = tmp_path / "out"
    few = ["--steps", "4", "--batch", "2", "--measured", "1", "--rate", "0.005"]
    assert cli.main(["train", "prefer", "--base", str(base), "--out", str(out), *few]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out / 'merged'}\n" and "accepted over rejected: 6 preferences" in told.err and "margin" in told.err


def test_self_training_asks_the_base_for_texts(base: Path, tmp_path: Path) -> None:
    """A base that writes no text gives nothing to choose from, which is counted and told."""
    said: list[str] = []
    with pytest.raises(DataError, match="nothing to learn"):
        prefer.prefer(str(base), [], [request(1), request(2)], tmp_path / "out", OPTIONS, said.append)
    assert said == ["not used, candidates all true, or all untrue: 2"]


def test_self_training_learns_what_the_reward_likes(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the base's candidates the one that tells more is chosen, and gets likelier on requests that were held out."""

    @contextmanager
    def writer(*_: object) -> Iterator[Two]:
        yield Two()

    monkeypatch.setattr(prefer, "_writer", writer)
    by_reward = replace(OPTIONS, teach="reward")
    found = prefer.prefer(str(base), [], [request(price) for price in range(10)], tmp_path / "out", by_reward, lambda _: None)
    assert found.kinds == {"best of n by reward": 10} and found.before.covered == 0.75 and found.before.grounded == 1.0
    assert found.margin is not None and found.margin[1] > found.margin[0] + 1
