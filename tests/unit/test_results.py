"""The result file: what is in it is never lost, what is not ours is never touched."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgegen.errors import StorageError, UsageError
from edgegen.results import ResultFile

NAMES = ("a.jsonl", "a.csv")


def record(id_: str, task: str = "reason", lang: str = "zh") -> dict[str, Any]:
    """A record as `edgegen explain` writes it, with a text of two lines and a quotation."""
    text = f"清单：\n- 暮山“手冲壶” {id_}，“价格”为 ¥239"
    return {"id": id_, "task": task, "lang": lang, "text": text, "source": "model", "claims": [{"text": "¥239", "facts": []}]}


def write(path: Path, *ids: str, task: str = "reason", resume: bool = False) -> None:
    """Add records, those that are there already left out."""
    with ResultFile(path, resume=resume) as results:
        for id_ in ids:
            if (id_, task, "zh") not in results.done:
                results.add(record(id_, task))


def read(path: Path) -> list[tuple[str, str]]:
    """The id and the task of each record."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
    return [(row["id"], row["task"]) for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_wherever_it_was_cut_each_record_is_there_once(tmp_path: Path, name: str) -> None:
    """Cut at any byte, inside a Chinese character too, the whole records stay as they were and the others are added."""
    path = tmp_path / name
    write(path, "p1", "p2")
    whole = path.read_bytes()
    first = whole.index(b"p2") - (0 if name == "a.csv" else len(b'{"id": "'))
    for at in range(len(whole) + 1):
        path.write_bytes(whole[:at])
        with ResultFile(path, resume=True) as results:
            assert ("p1", "reason", "zh") in results.done or at < first
        write(path, "p1", "p2", resume=True)
        assert path.read_bytes() == whole, at


@pytest.mark.parametrize("name", NAMES)
def test_another_task_is_added(tmp_path: Path, name: str) -> None:
    """A product may have a text of each task; the records of one do not stand for those of another."""
    path = tmp_path / name
    write(path, "p1")
    write(path, "p1", "p2", task="product", resume=True)
    write(path, "p1", "p2", resume=True)
    assert read(path) == [("p1", "reason"), ("p1", "product"), ("p2", "product"), ("p2", "reason")]


FOREIGN: list[tuple[str, bytes]] = [
    ("a.jsonl", b'{"id": "p1", "title": "Oak Tray"}\n'),
    ("a.jsonl", b'{"id": "p1", "title": "Oak Tray"}'),
    ("a.jsonl", b'{"id": "p1", "title": "Oak'),
    ("a.jsonl", b"notes of mine"),
    ("a.jsonl", b'{"task": "reason"}'),
    ("a.jsonl", b"\xff\xfe\n"),
    ("a.jsonl", b"[" * 100_000 + b"\n"),
    ("a.csv", b"id,name\r\np1,Oak Tray\r\n"),
    ("a.csv", b"id,name\np1,Oak Tray"),
    ("a.csv", b"id,name"),
    ("a.csv", b"\xff\xfe\r\n"),
    ("a.csv", b'"' + b"x" * 200_000 + b'"\r\n'),
]


@pytest.mark.parametrize(("name", "raw"), FOREIGN)
def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, name: str, raw: bytes) -> None:
    """--resume with the name of another file destroys nothing."""
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=r":1 is not from `edgegen explain`.*Give another name"):
        write(path, "p1", resume=True)
    assert path.read_bytes() == raw


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_line_among_ours(tmp_path: Path, name: str) -> None:
    """What somebody wrote between the records is not thrown away either."""
    path = tmp_path / name
    write(path, "p1")
    raw = path.read_bytes() + b"mine\n"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match="is not from `edgegen explain`"):
        write(path, "p2", resume=True)
    assert path.read_bytes() == raw


def test_a_last_line_without_its_line_break_is_kept(tmp_path: Path) -> None:
    """An editor may have taken it away."""
    path = tmp_path / "a.jsonl"
    write(path, "p1")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    write(path, "p1", "p2", resume=True)
    assert read(path) == [("p1", "reason"), ("p2", "reason")]


def test_existing_files_and_other_names(tmp_path: Path) -> None:
    """Without --resume an existing file is refused, and so is a name that says no format."""
    path = tmp_path / "a.jsonl"
    path.touch()
    with pytest.raises(UsageError, match="exists. Add --resume"):
        ResultFile(path, resume=False)
    with pytest.raises(UsageError, match=r"\.jsonl or \.csv"):
        ResultFile(tmp_path / "a.txt", resume=False)
    (tmp_path / "b.jsonl").mkdir()
    with pytest.raises(UsageError, match="is not a file"):
        ResultFile(tmp_path / "b.jsonl", resume=True)


def test_the_advice_fits_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing folder is not a matter of space."""
    with pytest.raises(StorageError, match=r"there is no folder .*nodir\. Create it"):
        write(tmp_path / "nodir" / "x.jsonl")
    for code, advice in ((errno.ENOSPC, "run again with --resume"), (errno.EACCES, "a file that you may write")):
        monkeypatch.setattr(Path, "open", _refuse(OSError(code, os.strerror(code))))
        with pytest.raises(StorageError, match=advice):
            write(tmp_path / "x.jsonl")


def _refuse(error: OSError) -> Any:
    def refused(*args: object, **kwargs: object) -> None:
        raise error

    return refused
