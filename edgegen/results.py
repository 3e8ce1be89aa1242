"""A file of records that survives an interruption: JSONL or CSV, appended line by line, completed by a later run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from edgegen.errors import StorageError, UsageError

COLUMNS = ("id", "task", "lang", "text", "source", "claims", "withheld", "rejected", "note", "tokens", "timings")


class ResultFile:
    """Records by id. `done` holds the ids that the file has already; a half-written last line is cut off.

    Raises UsageError for a file that exists where `resume` is off, StorageError where it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if path.suffix not in (".jsonl", ".csv"):
            raise UsageError(f"{path}: results are written as .jsonl or .csv. Give a name that ends so.")
        if path.exists() and not resume:
            raise UsageError(f"{path} exists. Add --resume to complete it, or give another name.")
        self._path, self._csv = path, path.suffix == ".csv"
        self.done: set[str] = set()
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the file, the good part of an earlier run kept."""
        try:
            kept = self._kept() if self._path.exists() else ""
            self._file = self._path.open("w" if not kept else "r+", encoding="utf-8", newline="")
            self._file.seek(0)
            self._file.write(kept)
            self._file.truncate()
            if self._csv and not kept:
                csv.writer(self._file).writerow(COLUMNS)
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
        self.done.add(str(record["id"]))

    def _cannot(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path} cannot be written: {error.strerror}. Free some space and run again with --resume.")

    def _kept(self) -> str:
        text = self._path.read_text("utf-8")
        return "".join(self._whole_csv(text) if self._csv else self._whole_jsonl(text))

    def _whole_jsonl(self, text: str) -> Iterator[str]:
        for line in text.splitlines(keepends=True):
            try:
                self.done.add(str(json.loads(line)["id"]))
            except (ValueError, KeyError, TypeError):
                return
            yield line if line.endswith("\n") else line + "\n"

    def _whole_csv(self, text: str) -> Iterator[str]:
        whole = text[: text.rfind("\r\n") + 2] if "\r\n" in text else ""
        for row in csv.reader(whole.splitlines(keepends=True)):
            if len(row) == len(COLUMNS) and row[0] != "id":
                self.done.add(row[0])
        yield whole


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
