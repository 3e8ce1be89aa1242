"""The file that keeps an endpoint's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgegen.train import asked

ROWS = [{"id": 1, "texts": ["a\u2028b"]}, {"id": 2, "texts": ["灯"]}]
WHOLE = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


CUT = {"a row": '{"id": 3, "te', "no texts": '{"id": 3}\n', "no row": "3\n", "half a letter": "\ufffd"}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_what_a_kill_cut_short_is_taken_out(tmp_path: Path, cut: str) -> None:
    """The rows before it stay, in the file too, and what is added next is a row of its own."""
    path = tmp_path / "asked.jsonl"
    path.write_text(WHOLE + cut, "utf-8")
    assert asked.read(path) == ROWS
    assert path.read_text("utf-8") == WHOLE


def test_a_row_that_lacks_its_end_of_line_is_whole(tmp_path: Path) -> None:
    """It gets one: the next row would be joined to it."""
    path = tmp_path / "asked.jsonl"
    path.write_text(WHOLE.rstrip("\n"), "utf-8")
    assert asked.read(path) == ROWS
    assert path.read_text("utf-8") == WHOLE


def test_whole_files_are_not_written(tmp_path: Path) -> None:
    """And none is no error."""
    path = tmp_path / "asked.jsonl"
    assert asked.read(path) == [] and not path.exists()
    path.write_text(WHOLE, "utf-8")
    before = path.stat()
    assert asked.read(path) == ROWS
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
