"""Files and folders that are there whole or not at all, also after a kill or a power cut.

Everything is written under a temporary name in the target's own folder, brought to the disk, and renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgegen.errors import StorageError

PART = ".part-"
"""How the name of what is not finished begins."""
_ADVICE = "Free some space, or choose another place."


@contextmanager
def storing(where: Path) -> Iterator[None]:
    """Turn what the system refuses into a StorageError that names the place."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"Cannot write {where}: {error.strerror or error}. {_ADVICE}") from error


def need(folder: Path, size: int) -> None:
    """Raise StorageError unless `size` bytes are free where `folder` is or will be."""
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise StorageError(f"{there} has {free >> 20} MiB free, {-(-size >> 20)} MiB are needed. {_ADVICE}")


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` for what is being made; what is still in it at the end is removed."""
    parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=PART, dir=parent))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def move(part: Path, target: Path) -> None:
    """Give a finished folder its name. Its files are on the disk already."""
    part.chmod(0o755)  # mkdtemp's folders are their maker's only
    _sync_folder(part)
    part.rename(target)
    _sync_folder(target.parent)


def write_new(path: Path, chunks: Iterable[bytes], mode: int = 0o644) -> None:
    """Write a file that is not there yet and bring it to the disk. Raises FileExistsError where it is there."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())


def replace(target: Path, write: Callable[[BinaryIO], object], mode: int = 0o644) -> None:
    """Write a file whole, in place of one that may be there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PART, dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode)  # mkstemp's files are their maker's only
        part.replace(target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished. Only for who knows that no other process is at work there."""
    for part in folder.glob(PART + "*"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock. The system lets go of it when the process ends, however it does."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes at one time are not told apart
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
