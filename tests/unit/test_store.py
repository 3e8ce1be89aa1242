"""The feedback store: what was kept is there, after a kill too; what cannot be kept is an error that says what to do."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgegen import cli, store
from edgegen.errors import NotFoundError, OptionError, StorageError, UsageError
from edgegen.store import Event, Retention, Store
from tests.fakes.feedback import shown


def raw(path: Path) -> sqlite3.Connection:
    """The file as any program sees it."""
    return sqlite3.connect(path, isolation_level=None)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    """Each text with its own events in order, from the file and not from memory; only the shop's own user may read it."""
    path = tmp_path / "new" / "feedback.db"
    first, second = shown(), shown("它只要<|v4|>。", 99)
    with Store(path) as opened:
        opened.record(first)
        opened.record(second)
        events = [Event("dwell", seconds=2.5), Event("edited", text="茶"), Event("up")]
        for event in events:
            opened.add(second.id, event)
    with Store(path) as opened:
        found = list(opened.entries())
        assert [(entry.shown, entry.events) for entry in found] == [(first, ()), (second, tuple(events))]
        assert found[1].to_json()["events"][1] == {"kind": "edited", "text": "茶", "at": events[1].at}
        counts = opened.counts()
        assert (counts["shown"], counts["with events"], counts["up"], counts["down"]) == (2, 1, 1, 0)
    assert path.stat().st_mode & 0o077 == 0


def test_a_killed_writer_loses_nothing_that_it_had_kept(tmp_path: Path) -> None:
    """SIGKILL while it writes: every id that it said is there with its event, and the file is sound."""
    path = tmp_path / "feedback.db"
    with subprocess.Popen([sys.executable, "-m", "tests.fakes.feedback", str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline().strip() for _ in range(25)]
        child.send_signal(signal.SIGKILL)
        said += [line.strip() for line in child.stdout if line.endswith("\n")]
    with Store(path) as opened:
        kept = {entry.shown.id: [event.kind for event in entry.events] for entry in opened.entries()}
    assert len(said) >= 25 and {kept.get(one) and kept[one][0] for one in said} == {"edited"}
    assert raw(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_each_commit_goes_to_the_disk(tmp_path: Path) -> None:
    """What a power cut needs, beyond a kill."""
    with Store(tmp_path / "f.db") as opened:
        asked = [opened._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode", "foreign_keys")]
    assert asked == [2, "wal", 1]


def test_several_processes_may_use_it(tmp_path: Path) -> None:
    """A second one reads and deletes while the first writes."""
    with Store(tmp_path / "f.db") as server, Store(tmp_path / "f.db", create=False) as command:
        one = server.record(shown())
        server.add(one, Event("accepted"))
        assert command.counts()["accepted"] == 1 and command.clear() == 1
        with pytest.raises(NotFoundError, match="No text"):
            server.add(one, Event("up"))


def test_old_texts_go_and_silent_ones_beyond_a_number() -> None:
    """By age all of them, by number only those that nobody said anything on."""
    now = time.time()
    with Store(retention=Retention(days=2, silent=3)) as opened:
        opened.record(shown(at=now - 3 * 86400))
        ids = [opened.record(shown(price=100 + i, at=now - 60 + i)) for i in range(6)]
        opened.add(ids[0], Event("down"))
    with Store(retention=Retention(days=2, silent=3)) as opened:
        assert [entry.shown.id for entry in opened.entries()] == [ids[0], *ids[3:]]
    with pytest.raises(OptionError, match="days must be above 0"):
        Retention(days=0)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"kind": "bought"}, "Unknown event"), ({"kind": "edited"}, "takes the new text"), ({"kind": "dwell"}, "takes seconds"),
        ({"kind": "up", "text": "x"}, "no other"), ({"kind": "edited", "text": "  "}, "1 to"),
        ({"kind": "dwell", "seconds": -1.0}, "seconds"),
        ({"kind": "dwell", "seconds": float("nan")}, "seconds"),
    ],
)  # fmt: skip
def test_events_are_whole(event: dict[str, object], why: str) -> None:
    """What an event lacks, or has too much, is told."""
    with pytest.raises(UsageError, match=why):
        Event(**event)  # type: ignore[arg-type]


def test_a_full_disk_is_told_and_costs_nothing(tmp_path: Path) -> None:
    """Nothing of what was kept; and the store goes on once there is space."""
    with Store(tmp_path / "f.db") as opened:
        first = opened.record(shown())
        (pages,) = opened._db.execute("PRAGMA page_count").fetchone()
        opened._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="no space left. Free some"):
            for _ in range(1000):
                opened.record(shown("A long text. " * 20))
        opened._db.execute("PRAGMA max_page_count = 100000")
        opened.add(first, Event("accepted"))
        assert opened.counts()["accepted"] == 1


def test_places_and_files_that_cannot_be_used_are_left_alone(tmp_path: Path) -> None:
    """A file in place of a folder, a damaged one, another program's, and one of a later edgegen."""
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(StorageError, match="Cannot write"):
        Store(tmp_path / "file" / "f.db")
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"no database " * 200)
    with pytest.raises(StorageError, match="damaged"):
        Store(junk)
    assert junk.read_bytes() == b"no database " * 200
    other = raw(tmp_path / "other.db")
    other.execute("CREATE TABLE cups (x)")
    with pytest.raises(StorageError, match="another program"):
        Store(tmp_path / "other.db")
    Store(tmp_path / "later.db").close()
    raw(tmp_path / "later.db").execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="later edgegen"):
        Store(tmp_path / "later.db")
    with pytest.raises(NotFoundError, match="edgegen serve --feedback"):
        Store(tmp_path / "none.db", create=False)


def test_a_torn_page_and_a_read_only_file_are_told(tmp_path: Path) -> None:
    """At the start, before anything is trusted to it."""
    with Store(tmp_path / "f.db") as opened:
        for i in range(60):
            opened.record(shown(price=i))
        opened._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StorageError, match="cannot be written"):
            opened.record(shown())
    torn = bytearray((tmp_path / "f.db").read_bytes())
    torn[4096 * 2 : 4096 * 4] = b"\xff" * 8192
    (tmp_path / "torn.db").write_bytes(torn)
    with pytest.raises(StorageError, match="damaged"):
        Store(tmp_path / "torn.db")


def test_a_later_schema_keeps_what_an_earlier_one_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrations run from where a file stands, once; one that fails leaves the file as it was."""
    one = shown()
    with Store(tmp_path / "f.db") as opened:
        opened.record(one)
    shutil.copy(tmp_path / "f.db", tmp_path / "g.db")

    def more(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE event ADD COLUMN place TEXT")

    def fails(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(store, "MIGRATIONS", (*store.MIGRATIONS, more))
    for _ in range(2):
        with Store(tmp_path / "f.db") as opened:
            assert [entry.shown for entry in opened.entries()] == [one]
            assert opened._db.execute("PRAGMA user_version").fetchone() == (2,)
    monkeypatch.setattr(store, "MIGRATIONS", (store.MIGRATIONS[0], fails))
    with pytest.raises(StorageError):
        Store(tmp_path / "g.db")
    assert raw(tmp_path / "g.db").execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)


def test_the_command_counts_writes_out_and_deletes(capsys: pytest.CaptureFixture[str]) -> None:
    """What is in $EDGEGEN_HOME."""
    assert cli.main(["feedback", "count"]) == NotFoundError.exit_code
    with Store() as opened:
        opened.add(opened.record(shown(at=time.time() - 5 * 86400)), Event("accepted"))
        opened.record(shown(price=5))
    assert cli.main(["feedback", "count"]) == 0 and "shown: 2\nwith events: 1\naccepted: 1" in capsys.readouterr().out
    assert cli.main(["feedback", "export"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["events"]) for line in lines] == [1, 0] and lines[0]["slotted"] == "<|v1|> costs <|v4|>."
    assert cli.main(["feedback", "clear", "--older-than", "4"]) == 0 and "deleted 1 texts" in capsys.readouterr().err
    assert cli.main(["feedback", "clear", "--all"]) == 0
    with Store() as opened:
        assert opened.counts()["shown"] == 0
