"""The draft table on its way: made from pairs, carried into a pack, verified with it, replaced, refused where it does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convert.build import About, build_packs
from edgegen import pack
from edgegen.cli import main
from edgegen.engine.gguf import read_header
from edgegen.engine.ngrams import NGrams
from edgegen.errors import PackError
from edgegen.pack import building
from edgegen.train import pairs as pair_files
from tests.fakes import packs
from tests.fakes.checkpoints import PAIRS, make_checkpoint


def vocabulary(folder: Path) -> int:
    """Tokens of a pack's model."""
    return read_header(folder / pack.MODEL).lengths["tokenizer.ggml.tokens"]


def with_table(folder: Path, data: bytes) -> Path:
    """A tiny pack that lists these bytes as its draft table."""
    packs.make(folder)
    (folder / pack.DRAFT).write_bytes(data)
    packs.change(folder, files={k: {"size": v.size, "sha256": v.sha256} for k, v in pack.describe(
        folder, [pack.MODEL, "card.md", pack.DRAFT]).items()})  # fmt: skip
    return folder


def table(n_vocab: int, token: int = 3) -> NGrams:
    """One that knows a single context."""
    return NGrams(n_vocab, [7], [token], [9])


def test_a_pack_gives_its_table(tmp_path: Path) -> None:
    """As it was written; a pack without one has none."""
    bare = packs.make(tmp_path / "bare")
    assert pack.load(bare).drafts is None
    found = pack.load(with_table(tmp_path / "pack", table(vocabulary(bare)).to_bytes())).drafts
    assert found is not None and found.to_bytes() == table(vocabulary(bare)).to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"not a table at all, but some text", "no draft table"),
        (table(9).to_bytes()[:-1], "size"),
        (table(9).to_bytes(), "for 9 tokens, the model has"),
        (bytes(9 << 20), "bytes, 8388608 are the most"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """By whatever verifies a pack: a broken table, one for another vocabulary, a huge one."""
    folder = with_table(tmp_path / "pack", data)
    with pytest.raises(PackError, match=message):
        pack.load(folder)
    assert main(["pack", "verify", str(folder)]) == PackError.exit_code


def test_a_new_table_takes_the_old_ones_place(tmp_path: Path) -> None:
    """`pack build --add draft.bin` adds one or replaces it, and refuses one for another model."""
    bare = packs.make(tmp_path / "bare")
    n_vocab, new = vocabulary(bare), tmp_path / pack.DRAFT
    new.write_bytes(table(n_vocab).to_bytes())
    first = building.build(pack.load(bare), tmp_path / "first", extra=[new])
    new.write_bytes(table(n_vocab, token=5).to_bytes())
    second = building.build(pack.load(first), tmp_path / "second", extra=[new], version="2")
    found = pack.load(second).drafts
    assert found is not None and list(found.tokens) == [5]
    new.write_bytes(table(n_vocab + 1).to_bytes())
    with pytest.raises(PackError, match="Make it anew with this model"):
        building.build(pack.load(second), tmp_path / "third", extra=[new])
    assert not (tmp_path / "third").exists()


def test_conversion_carries_it_and_training_makes_it(tmp_path: Path) -> None:
    """From pairs, in the tokens of a pack's model; what lies beside a checkpoint goes into its pack."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    about = About("tiny", tasks=["reason"])
    bare = build_packs(checkpoint, tmp_path / "bare", about, pairs=PAIRS)[0]
    pair_files.write(tmp_path / "pairs.jsonl", PAIRS * 5)
    arguments = ["--pack", str(bare), "--data", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "made")]
    assert main(["train", "drafts", *arguments]) == 0
    shutil.copy(tmp_path / "made" / pack.DRAFT, checkpoint)
    found = pack.load(build_packs(checkpoint, tmp_path / "pack", about, pairs=PAIRS)[0]).drafts
    assert found is not None and found.n_vocab == vocabulary(bare)
    assert len(found.keys) > 5
