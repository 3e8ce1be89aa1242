"""The feedback store: which texts were shown, and what people made of them. One SQLite file; knows no HTTP and no model.

What `record` and `add` have returned from is on the disk: neither a killed process nor a power cut takes it
(https://www.sqlite.org/wal.html, `synchronous=FULL`). Of who was shown a text nothing is kept.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from edgegen import folders
from edgegen.durable import storing
from edgegen.errors import NotFoundError, OptionError, StorageError, UsageError

FILE = "feedback.db"
_APPLICATION = 0x65646766  # "edgf": tells our file from others'
_BUSY_MS = 10_000
_PRUNE_EVERY = 500  # texts between two looks at what is too old
_DAY_S = 86_400.0
_LONGEST_S = 24 * 3600.0
_LONGEST_TEXT = 20_000

Kind = Literal["accepted", "edited", "rejected", "up", "down", "dwell"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def default_path() -> Path:
    """`$EDGEGEN_HOME/feedback.db`."""
    return folders.data() / FILE


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody made of a text: used it, changed it, refused it, thumbs up or down, or looked at it for a while."""

    kind: Kind
    text: str | None = None
    """What it was changed to; of `edited` alone."""
    seconds: float | None = None
    """How long it was looked at; of `dwell` alone."""
    at: float = field(default_factory=time.time)
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        """Check that it is whole. Raises UsageError, OptionError."""
        if self.kind not in KINDS:
            raise UsageError(f"Unknown event {self.kind!r}. Known: {', '.join(KINDS)}.")
        if (self.kind == "edited") != (self.text is not None):
            raise UsageError("The event 'edited' takes the new text, and no other event does.", "text")
        if (self.kind == "dwell") != (self.seconds is not None):
            raise UsageError("The event 'dwell' takes seconds, and no other event does.", "seconds")
        if self.text is not None and not 0 < len(self.text.strip()) <= len(self.text) <= _LONGEST_TEXT:
            raise OptionError(f"text must have 1 to {_LONGEST_TEXT} characters, got {len(self.text)}", "text")
        if self.seconds is not None and not (math.isfinite(self.seconds) and 0 <= self.seconds <= _LONGEST_S):
            raise OptionError(f"seconds must be in [0, {_LONGEST_S:g}], got {self.seconds}", "seconds")


@dataclass(frozen=True, slots=True)
class Shown:
    """A text that was shown; `request` as `wire` writes it, `slotted` the text with slots as `<|vN|>`, None where unknown."""

    task: str
    lang: str
    request: Mapping[str, Any]
    text: str
    source: str
    slotted: str | None = None
    pack: str | None = None
    """name@version of the pack that was asked."""
    seed: int = 0
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: float = field(default_factory=time.time)
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A text that was shown and its events in order."""

    shown: Shown
    events: tuple[Event, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        events = [{name: value for name, value in asdict(event).items() if value is not None} for event in self.events]
        return asdict(self.shown) | {"events": events}


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept."""

    days: float = 180.0
    """Texts that are older go, with their events; above 0."""
    silent: int = 100_000
    """Texts on which nobody has said anything: the newest so many stay; at least 1."""

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError."""
        if not self.days > 0:
            raise OptionError(f"days must be above 0, got {self.days}")
        if self.silent < 1:
            raise OptionError(f"silent must be at least 1, got {self.silent}")


def _first(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE shown (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, task TEXT NOT NULL,"
        " lang TEXT NOT NULL, pack TEXT, request TEXT NOT NULL, text TEXT NOT NULL, slotted TEXT, source TEXT NOT NULL,"
        " seed INTEGER NOT NULL) STRICT"
    )
    db.execute(
        "CREATE TABLE event (number INTEGER PRIMARY KEY, shown INTEGER NOT NULL REFERENCES shown ON DELETE CASCADE,"
        " at REAL NOT NULL, kind TEXT NOT NULL, text TEXT, seconds REAL) STRICT"
    )
    db.execute("CREATE INDEX event_shown ON event (shown)")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first,)
"""From each version of the schema to the next; a file's `user_version` counts those that it has had."""


class Store:
    """The store in a file. Used by one thread at a time; several processes may have it open."""

    def __init__(self, path: Path | None = None, retention: Retention | None = None, *, create: bool = True) -> None:
        """Open it, bring its schema up to date and let go of what is too old; `retention` None keeps everything.

        Raises NotFoundError where there is none and `create` is off; StorageError where the place cannot be written, the file
        is damaged, another program's, or of a later edgegen: it is left as it is.
        """
        self.path, self._retention, self._recorded = path or default_path(), retention, 0
        if not create and not self.path.is_file():
            raise NotFoundError(f"There is no feedback store {self.path}. `edgegen serve --feedback` makes one.")
        with storing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(0o600)  # what people wrote is their shop's only
        with _told(self.path):
            self._db = sqlite3.connect(self.path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; all that was stored is on the disk already."""
        self._db.close()

    def record(self, shown: Shown) -> str:
        """Keep a text that is shown; gives its id. Raises StorageError."""
        values = {**asdict(shown), "request": json.dumps(shown.request, ensure_ascii=False)}
        with _told(self.path):
            self._db.execute(
                "INSERT INTO shown (id, at, task, lang, pack, request, text, slotted, source, seed)"
                " VALUES (:id, :at, :task, :lang, :pack, :request, :text, :slotted, :source, :seed)",
                values,
            )
            self._recorded += 1
            if self._recorded % _PRUNE_EVERY == 0:
                self._prune()
        return shown.id

    def add(self, id_: str, event: Event) -> None:
        """Keep an event on a text. Raises NotFoundError where no such text was shown, or it is kept no more; StorageError."""
        with _told(self.path):
            done = self._db.execute(
                "INSERT INTO event (shown, at, kind, text, seconds) SELECT number, ?, ?, ?, ? FROM shown WHERE id = ?",
                (event.at, event.kind, event.text, event.seconds, id_),
            )
        if not done.rowcount:
            raise NotFoundError(f"No text {id_[:80]!r} is known. Send the feedback_id of a text that this server gave.", "id")

    def entries(self) -> Iterator[Entry]:
        """All texts with their events, the oldest first."""
        with _told(self.path):
            columns = "id, at, task, lang, pack, request, text, slotted, source, seed"
            for row in self._db.execute(f"SELECT number, {columns} FROM shown ORDER BY number"):  # noqa: S608 - our own names
                named = dict(zip(columns.split(", "), row[1:], strict=True))
                events = self._db.execute("SELECT kind, text, seconds, at FROM event WHERE shown = ? ORDER BY number", row[:1])
                yield Entry(Shown(**named | {"request": json.loads(named["request"])}), tuple(Event(*one) for one in events))

    def counts(self) -> dict[str, int]:
        """How many texts were shown, how many of these anybody said something on, and how many events there are of each kind."""
        with _told(self.path):
            found = dict(self._db.execute("SELECT kind, count(*) FROM event GROUP BY kind").fetchall())
            texts, heard = self._db.execute(
                "SELECT (SELECT count(*) FROM shown), (SELECT count(DISTINCT shown) FROM event)"
            ).fetchone()
        return {"shown": texts, "with events": heard, **{kind: found.get(kind, 0) for kind in KINDS}}

    def clear(self, before: float | None = None) -> int:
        """Let go of texts shown before a time (seconds since 1970), or of all, with their events; gives how many texts."""
        with _told(self.path):
            gone = self._db.execute("DELETE FROM shown WHERE at < ?", (math.inf if before is None else before,)).rowcount
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def _open(self) -> None:
        db = self._db
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            db.execute(f"PRAGMA {pragma}")
        self._check()
        db.execute("PRAGMA journal_mode = WAL")
        self._migrate()
        if faults := [row[0] for row in db.execute("PRAGMA quick_check(1)") if row[0] != "ok"]:
            raise sqlite3.DatabaseError(faults[0])
        self._prune()

    def _check(self) -> None:
        """Raise StorageError for a file that is not ours to write."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != _APPLICATION and (tables or application):
            raise StorageError(f"{self.path} is a database of another program. Give another place with EDGEGEN_HOME.")
        if version > len(MIGRATIONS):
            raise StorageError(
                f"{self.path} is of a later edgegen (schema {version}, this one knows {len(MIGRATIONS)}). Update edgegen; the "
                "file is left as it is."
            )

    def _migrate(self) -> None:
        with _transaction(self._db):
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            for step in MIGRATIONS[version:]:
                step(self._db)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _prune(self) -> None:
        if self._retention is None:
            return
        self._db.execute("DELETE FROM shown WHERE at < ?", (time.time() - self._retention.days * _DAY_S,))
        self._db.execute(
            "DELETE FROM shown WHERE number IN (SELECT number FROM shown WHERE NOT EXISTS"
            " (SELECT 1 FROM event WHERE event.shown = shown.number) ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (self._retention.silent,),
        )


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


_FAULTS = {
    sqlite3.SQLITE_FULL: "there is no space left. Free some; nothing that was stored is lost.",
    sqlite3.SQLITE_READONLY: "it cannot be written. Give the right to, or another place with EDGEGEN_HOME.",
    sqlite3.SQLITE_PERM: "it cannot be written. Give the right to, or another place with EDGEGEN_HOME.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Check the folder and your rights to it.",
    sqlite3.SQLITE_BUSY: f"another program keeps it locked for more than {_BUSY_MS // 1000} s. Try again, or end that one.",
    sqlite3.SQLITE_IOERR: "the disk fails. Check it; what was stored before is not touched.",
}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite refuses into a StorageError that says what to do. Codes: https://www.sqlite.org/rescode.html."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        damaged = f"it is damaged ({error}). Move it away, with its -wal and -shm, and save what `sqlite3 FILE .recover` finds."
        raise StorageError(f"The feedback store {path}: {_FAULTS.get(code, damaged)}") from error
