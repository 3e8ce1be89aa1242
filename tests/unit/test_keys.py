"""The keys of callers: a file of hashes, and the command that keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from edgegen.cli import main
from edgegen.errors import DataError, NotFoundError, UsageError
from edgegen.server import Keys, keys


def test_a_key_is_known_by_its_secret_alone(tmp_path: Path) -> None:
    """The file holds names and hashes, no secret."""
    path = tmp_path / "sub" / "keys.json"
    first, second = keys.add(path, "kiosk-1"), keys.add(path, "kiosk-2")
    known = Keys(path)
    assert (known.name(first), known.name(second), known.name("eg-other"), known.name("")) == ("kiosk-1", "kiosk-2", None, None)
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first not in text and hashlib.sha256(first.encode()).hexdigest() in text and len(first) > 40
    assert known.names == ["kiosk-1", "kiosk-2"]


def test_changes_count_at_once_and_a_broken_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is taken away lets nobody in any more; a file half edited, or gone, locks nobody out, as the log says."""
    path = tmp_path / "keys.json"
    first, second = keys.add(path, "a"), keys.add(path, "b")
    known = Keys(path)
    keys.remove(path, "a")
    assert (known.name(first), known.name(second)) == (None, "b")
    for spoil, word in ((lambda: path.write_text("{"), "no file of keys"), (path.unlink, "cannot be read")):
        caplog.clear()
        spoil()
        assert [known.name(second) for _ in range(3)] == ["b"] * 3
        assert len(caplog.messages) == 1 and word in caplog.text and "stay valid" in caplog.text
    other = keys.add(path, "c")
    assert (known.name(second), known.name(other)) == (None, "c")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"keys": 1}', '{"keys": [{"name": "a"}]}', '{"keys": [{"name": "a", "sha256": "x"}]}']
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """At the start, with what to do."""
    path = tmp_path / "keys.json"
    with pytest.raises(NotFoundError, match="edgegen key add"):
        Keys(path)
    path.write_text(text)
    with pytest.raises(DataError, match="edgegen key add"):
        Keys(path)


def test_the_file_stays_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where root adds a key: the file's owner, or the folder's, is the user that the server runs as."""
    given = list[tuple[int, int]]()
    monkeypatch.setattr(os, "fchown", lambda _, *owner: given.append(owner))
    keys.add(tmp_path / "keys.json", "a")
    keys.add(tmp_path / "keys.json", "b")
    folder, file = tmp_path.stat(), (tmp_path / "keys.json").stat()
    assert given == [(folder.st_uid, folder.st_gid), (file.st_uid, file.st_gid)]


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whose it must be."""
    keys.add(tmp_path / "keys.json", "a")

    def refuse(*args: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied. Give it to the user"):
        Keys(tmp_path / "keys.json")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The secret goes to stdout, once; names are listed; the last one removed leaves a file that lets nobody in."""
    path = tmp_path / "keys.json"
    assert main(["key", "add", "shop", "--keys", str(path)]) == 0
    secret = capsys.readouterr().out.strip()
    assert Keys(path).name(secret) == "shop"
    assert main(["key", "list", "--keys", str(path)]) == 0 and capsys.readouterr().out == "shop\n"
    for wrong in (["add", "shop"], ["add", "no spaces"], ["remove", "other"]):
        assert main(["key", *wrong, "--keys", str(path)]) in (UsageError.exit_code, NotFoundError.exit_code)
        assert capsys.readouterr().err.startswith("edgegen: ")
    assert main(["key", "remove", "shop", "--keys", str(path)]) == 0
    assert json.loads(path.read_text()) == {"keys": []}
    with pytest.raises(DataError, match="holds no key"):
        Keys(path)
