"""A file of records that survives an interruption: JSONL or CSV, appended line by line, completed by a later run."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from edgegen.errors import StorageError, UsageError

COLUMNS = ("id", "task", "lang", "text", "source", "claims", "withheld", "rejected", "note", "tokens", "timings")
Key = tuple[str, str, str]
"""A record's id, task and language: one product may have a text of each task in each language."""
_HEADER = (",".join(COLUMNS) + "\r\n").encode()
_BEGINNING = re.compile(rb'\{"id": "(?:[^"\\]|\\.)*"')
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class ResultFile:
    """Records by id, task and language. `done` holds those that the file has already; a half-written last line is cut off.

    Raises UsageError for a file that exists where `resume` is off, and for one that holds anything but such records: it is
    left as it is. Raises StorageError where the file cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if path.suffix not in (".jsonl", ".csv"):
            raise UsageError(f"{path}: results are written as .jsonl or .csv. Give a name that ends so.")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a file that can be completed. Give another name.")
        if path.exists() and not resume:
            raise UsageError(f"{path} exists. Add --resume to complete it, or give another name.")
        self.path, self._csv = path, path.suffix == ".csv"
        self.done: set[Key] = set()
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the file, the good part of an earlier run kept."""
        try:
            raw = self.path.read_bytes() if self.path.exists() else b""
            kept = self._whole(raw)
            if len(kept) < len(raw):
                os.truncate(self.path, len(kept))
            self._file = self.path.open("a", encoding="utf-8", newline="")
            if self._csv and not kept:
                self._file.write(_HEADER.decode())
            elif kept and not kept.endswith(b"\n"):
                self._file.write("\n")
        except OSError as error:
            raise self._cannot(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        if self._file:
            try:
                self._file.close()
            except OSError as failed:
                raise self._cannot(failed) from failed

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record and hand it to the system, so that a killed process loses none."""
        if self._file is None:
            raise UsageError("The result file is not open. Use it in a with statement.")
        try:
            if self._csv:
                csv.writer(self._file).writerow([_cell(record.get(column)) for column in COLUMNS])
            else:
                self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._cannot(error) from error
        self.done.add((str(record["id"]), str(record["task"]), str(record["lang"])))

    def _cannot(self, error: OSError) -> StorageError:
        folder = self.path.parent
        if error.errno in _FULL:
            advice = "Free some space and run again with --resume."
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            return StorageError(f"{self.path} cannot be written: there is no folder {folder}. Create it, or give another name.")
        elif error.errno in _FORBIDDEN:
            advice = "Give the name of a file that you may write."
        else:
            advice = "Check the disk and run again with --resume."
        return StorageError(f"{self.path} cannot be written: {error.strerror}. {advice}")

    def _whole(self, raw: bytes) -> bytes:
        """What is kept of the file: all its whole records, once each is known to be ours."""
        kept = _csv_lines(raw) if self._csv else _json_lines(raw)
        text = self._decoded(kept)
        if not kept and not (_HEADER.startswith(raw) if self._csv else _begins_a_record(raw)):
            raise self._foreign(1)
        if self._csv:
            self._read_csv(text)
        else:
            for number, line in enumerate(text.split("\n"), 1):
                if line:
                    self._know(_parsed(line), number)
        return kept

    def _decoded(self, kept: bytes) -> str:
        try:
            return kept.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._foreign(kept.count(b"\n", 0, error.start) + 1) from None

    def _read_csv(self, text: str) -> None:
        reader = csv.reader(io.StringIO(text, newline=""))
        try:
            for at, row in enumerate(reader):
                if at == 0 and tuple(row) != COLUMNS:
                    raise self._foreign(1)
                if at:
                    self._know(dict(zip(COLUMNS, row, strict=False)) if len(row) == len(COLUMNS) else None, reader.line_num)
        except csv.Error:
            raise self._foreign(reader.line_num) from None

    def _know(self, record: Any, line: int) -> None:
        match record:
            case {"id": str(id_), "task": str(task), "lang": str(lang), "text": str()}:
                self.done.add((id_, task, lang))
            case _:
                raise self._foreign(line)

    def _foreign(self, line: int) -> UsageError:
        self.done.clear()
        return UsageError(f"{self.path}:{line} is not from `edgegen explain`; the file is left as it is. Give another name.")


def _json_lines(raw: bytes) -> bytes:
    """The whole lines; the last one may lack its line break where it is a whole object."""
    cut = raw.rfind(b"\n") + 1
    try:
        return raw if isinstance(_parsed(raw[cut:].decode("utf-8")), dict) else raw[:cut]
    except UnicodeDecodeError:
        return raw[:cut]


def _csv_lines(raw: bytes) -> bytes:
    """The whole rows: up to the last line break that is not inside quotes."""
    end = raw.rfind(b"\n")
    while end >= 0 and raw.count(b'"', 0, end) % 2:
        end = raw.rfind(b"\n", 0, end)
    return raw[: end + 1]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _begins_a_record(raw: bytes) -> bool:
    """Whether a file without a whole line can be the beginning of our first one."""
    if match := _BEGINNING.match(raw):
        begun, follows = raw[match.end() :], b', "task": "'
    else:
        begun, follows = raw, b'{"id": "'
    return begun.startswith(follows) or follows.startswith(begun)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
