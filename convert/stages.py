"""What a conversion has made so far, kept beside its output until it is finished, so that a killed run goes on.

A stage is found again where nothing it was made from has changed. After an error that has a message nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.output import PARTIAL, remove, whole
from edgegen import durable
from edgegen.errors import EdgegenError
from edgegen.progress import Progress

_KEY = "made-from"


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one conversion."""

    folder: Path
    progress: Progress

    def file(self, name: str, stage: str, make: Callable[[Path], object]) -> Path:
        """The file that `make` writes to the path it is given."""
        path = self.folder / name
        if not path.exists():
            self.progress(stage, 0, 1)
            with whole(path) as part:
                make(part)
        self.progress(stage, 1, 1)
        return path

    def value(self, name: str, stage: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The JSON object that `make` gives."""
        path = self.file(name, stage, lambda part: part.write_text(json.dumps(make()), "utf-8"))
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found


@contextmanager
def opened(out: Path, key: str, progress: Progress) -> Iterator[Stages]:
    """The stages of a conversion to `out`; those of one with another key are dropped. Raises StorageError."""
    folder = out.absolute().parent / f".{out.name}.stages"
    with durable.storing(out):
        folder.mkdir(parents=True, exist_ok=True)
    with durable.locked(folder):
        try:
            with durable.storing(out):
                _start(folder, key)
            yield Stages(folder, progress)
        except (EdgegenError, OSError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
    shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, key: str) -> None:
    path = folder / _KEY
    same = path.is_file() and path.read_text("utf-8") == key
    for old in list(folder.iterdir()):
        if not same or old.is_dir() or PARTIAL in old.name:  # what a killed run had not finished is of no use
            remove(old)
    if not same:
        path.write_text(key, "utf-8")


def fingerprint(folders: list[Path], *more: object) -> str:
    """A key of the files in some folders, by name, size and time of change, and of what else matters."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for f in folders for path in sorted(f.iterdir())]
    return hashlib.sha256(repr((stats, more)).encode()).hexdigest()
