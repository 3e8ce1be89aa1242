"""Whole output or none: what is written gets its name only when it is finished. Knows no model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from edgegen.errors import StorageError

PARTIAL = ".partial-"
"""Stands in the name of what is not finished."""
_ADVICE = "Free some space, or choose another path."


@contextmanager
def whole(target: Path, room: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `target`, or in `room`, for a file or folder; it takes its place when the block ends well.

    Raises StorageError where the disk is full or the target cannot be written; then nothing is left behind.
    """
    part = (room or target.parent) / f".{target.name}{PARTIAL}{os.getpid()}"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        yield part
        _swap(part, target)
    except OSError as error:
        raise StorageError(f"Cannot write {target}: {error.strerror or error}. {_ADVICE}") from error
    except SafetensorError as error:
        raise StorageError(f"Cannot write {target}: {error}. {_ADVICE}") from error
    finally:
        remove(part)


def _swap(part: Path, target: Path) -> None:
    """Put `part` in the target's place; a folder that is there is moved aside first, because folders cannot be replaced."""
    if not target.is_dir():
        part.replace(target)
        return
    old = part.with_name(part.name + ".old")
    remove(old)
    target.replace(old)
    try:
        part.replace(target)
    except OSError:
        old.replace(target)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def need(folder: Path, size: int) -> None:
    """Raise StorageError unless `size` bytes are free where `folder` is or will be."""
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise StorageError(f"{there} has {free >> 20} MiB free, {-(-size >> 20)} MiB are needed. {_ADVICE}")
