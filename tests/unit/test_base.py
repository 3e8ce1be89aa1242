"""The base model by a recipe, at a size of seconds: corpus, tokenizer, weights, licensing table, and going on from weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convert.checkpoint import open_checkpoint
from edgegen import licensing, pack, tasks
from edgegen.engine import ngrams
from edgegen.errors import DataError, NotFoundError, OptionError, UsageError
from edgegen.pack.manifest import PROVENANCE
from edgegen.train import base, pairs
from edgegen.train.base import Recipe
from edgegen.train.fit import FitOptions
from tests.fakes.checkpoints import PAIRS

SMALL = Recipe(
    "tiny", vocab_size=1600, width=64, layers=1, heads=2, fit=FitOptions(steps=2, batch=4, warmup=1, save_every=2, log_every=1)
)
TINY = replace(SMALL, pairs=4, valid=1, test=1)

OWN = pairs.split(PAIRS)


@pytest.mark.slow
def test_a_base_and_the_next_one(tmp_path: Path) -> None:
    """Training leaves a checkpoint with its table and history; another goes on from its weights with the same tokenizer."""
    first = base.train(TINY, tmp_path / "first", lambda _: None)
    opened = open_checkpoint(first)
    table = licensing.from_text((first / licensing.FILE).read_text("utf-8"))
    assert set(table) == {f"{task}.{lang}" for task in tasks.names() if task != "category" for lang in ("en", "zh")}
    assert all(token < len(opened.tokenizer) for licensors in table.values() for token in licensors)
    drafts = ngrams.from_bytes((first / pack.DRAFT).read_bytes())
    assert drafts.n_vocab == len(opened.tokenizer) and len(drafts.keys)
    said: list[str] = []
    second = open_checkpoint(base.train(TINY, tmp_path / "second", said.append, start=str(first)))
    assert not any("tokenizer: training" in line for line in said)
    assert second.tokenizer.get_vocab() == opened.tokenizer.get_vocab()
    history = [json.loads((tmp_path / run / PROVENANCE).read_text("utf-8")) for run in ("first", "second")]
    assert "start" not in history[0] and history[1]["start"] == str(first)
    moved = (second.model.transformer.wte.weight - opened.model.transformer.wte.weight).detach().abs().max()
    assert 0 < float(moved) < 3 * TINY.fit.rate, "two steps from the first run's weights, not new ones"


def test_own_pairs_in_place_of_the_corpus(tmp_path: Path) -> None:
    """Tokenizer and weights come from them alone, without a licensing table; other pairs are refused in the same folder."""
    made = base.train(SMALL, tmp_path, lambda _: None, own=OWN)
    opened = open_checkpoint(made)
    assert not (tmp_path / "corpus").exists() and not (made / licensing.FILE).exists()
    assert len(opened.tokenizer.encode("costs")) < len("costs")
    assert json.loads((tmp_path / PROVENANCE).read_text("utf-8"))["pairs"] == len(OWN[0])
    with pytest.raises(UsageError, match="other pairs"):
        base.train(SMALL, tmp_path, lambda _: None, own=(OWN[0][:-1], OWN[1]))


@pytest.mark.slow
def test_going_on_takes_the_recipes_dropout(tmp_path: Path) -> None:
    """Whatever the weights to begin with were trained with: the checkpoint that comes of it, and what it learns, show it."""
    first = base.train(SMALL, tmp_path / "first", lambda _: None, own=OWN)
    rates = (0.0, 0.5)
    runs = [
        open_checkpoint(
            base.train(replace(SMALL, dropout=rate), tmp_path / str(rate), lambda _: None, start=str(first), own=OWN)
        ).model
        for rate in rates
    ]
    assert [(m.config.resid_pdrop, m.config.embd_pdrop, m.config.attn_pdrop) for m in runs] == [(r, r, r) for r in rates]
    assert not torch.equal(*(model.transformer.wte.weight for model in runs))


def test_own_pairs_are_augmented_by_the_recipe(tmp_path: Path) -> None:
    """Copies in other orders are learnt beside the pairs."""
    recipe = replace(SMALL, augment=("facts",), copies=3)
    base.train(recipe, tmp_path, lambda _: None, own=OWN)
    learnt = len(OWN[0])
    assert learnt < json.loads((tmp_path / PROVENANCE).read_text("utf-8"))["pairs"] <= 4 * learnt


def test_what_a_recipe_says_in_vain_is_refused(tmp_path: Path) -> None:
    """Before anything is written: sizes of a corpus that is not asked for, copies of pairs that are not there."""
    with pytest.raises(DataError, match=r"tiny sets pairs, valid, test, which size the corpus"):
        base.train(TINY, tmp_path, lambda _: None, own=OWN)
    with pytest.raises(DataError, match=r"tiny sets augment, copies, which change pairs of --data"):
        base.train(replace(TINY, augment=("facts",), copies=2), tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose steps another would take for its own."""
    monkeypatch.setattr(base, "_first", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        base.train(TINY, tmp_path, lambda _: None)
    with pytest.raises(UsageError, match="or options"):
        base.train(replace(TINY, width=32), tmp_path, lambda _: None)


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and an unknown setting are named."""
    with pytest.raises(NotFoundError, match="no recipe"):
        base.read(tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_text("widht = 64\n")
    with pytest.raises(DataError, match="widht"):
        base.read(tmp_path / "odd.toml")
    (tmp_path / "way.toml").write_text('augment = ["fact"]\n')
    with pytest.raises(OptionError, match="augment must be none or some of"):
        base.read(tmp_path / "way.toml")
    (tmp_path / "ways.toml").write_text('augment = ["facts"]\ncopies = 2\n')
    assert base.read(tmp_path / "ways.toml") == Recipe("ways", augment=("facts",), copies=2)
