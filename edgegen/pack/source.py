"""A pack's files where they lie, as a folder or in one file: read with their sizes and SHA-256s checked, and copied.

Reads regular files only and follows no links inside a pack. Knows no keys and no models.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgegen import durable
from edgegen.errors import NotFoundError, PackError
from edgegen.pack import archive
from edgegen.pack.archive import Place
from edgegen.pack.manifest import MANIFEST, MAX_MANIFEST, SIGNATURE, FileEntry, Manifest, parse

SUFFIX = ".egpack"
"""How the name of a pack in one file ends."""
_CHUNK = 1 << 20
_MAX_SIGNATURE = 4096
_AGAIN = "Copy the pack again."


@dataclass(frozen=True, slots=True)
class Source:
    """A pack whose manifest was read; its files are unchecked until they are read."""

    path: Path
    manifest_bytes: bytes
    signature: bytes | None
    manifest: Manifest
    places: dict[str, Place]

    def chunks(self, name: str) -> Iterator[bytes]:
        """A listed file's content. Raises PackError where size or SHA-256 is not the manifest's, at the latest at the end."""
        entry, place = self.manifest.files[name], self.places[name]
        digest = hashlib.sha256()
        for chunk in _read(place):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != entry.sha256:
            raise PackError(f"{place.label} is damaged: its SHA-256 is not the manifest's. {_AGAIN}")

    def content(self, name: str, most: int) -> bytes:
        """All of a listed file that may have `most` bytes. Raises PackError, also for a larger one."""
        _bound(self.places[name], most)
        return b"".join(self.chunks(name))

    def verify(self) -> None:
        """Read every listed file. Raises PackError for the first that is not as the manifest says."""
        for name in self.manifest.files:
            for _ in self.chunks(name):
                pass

    def copy(self, folder: Path) -> None:
        """Write the pack into an empty folder and bring it to the disk; checks as `verify` does."""
        durable.write_new(folder / MANIFEST, [self.manifest_bytes])
        if self.signature is not None:
            durable.write_new(folder / SIGNATURE, [self.signature])
        for name in self.manifest.files:
            durable.write_new(folder / name, self.chunks(name))


def read(path: Path) -> Source:
    """A pack in a folder or file. Raises NotFoundError where there is none, PackError where it cannot be one."""
    try:
        return _from_file(path.resolve()) if path.is_file() else _from_folder(path)
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror or error}. Check the disk and your rights to it.") from error


def _from_folder(folder: Path) -> Source:
    if not (folder / MANIFEST).is_file():
        raise NotFoundError(f"There is no pack at {folder}: it has no {MANIFEST}. Give the folder of a pack, or a {SUFFIX} file.")
    data = _small(_place(folder / MANIFEST), MAX_MANIFEST)
    signature = folder / SIGNATURE
    signed = _small(_place(signature), _MAX_SIGNATURE) if os.path.lexists(signature) else None
    manifest = parse(data, folder / MANIFEST)
    places = {name: _sized(_place(folder / name), entry) for name, entry in manifest.files.items()}
    return Source(folder, data, signed, manifest, places)


def _from_file(path: Path) -> Source:
    if not path.stat().st_size:
        raise PackError(f"{path} is empty. {_AGAIN}")
    places = archive.index(path)
    if next(iter(places), None) != MANIFEST:
        raise PackError(f"{path} does not begin with {MANIFEST}: it is not a pack file. {_AGAIN}")
    data = _small(places[MANIFEST], MAX_MANIFEST)
    manifest = parse(data, f"{path}: {MANIFEST}")
    signed = _small(places[SIGNATURE], _MAX_SIGNATURE) if SIGNATURE in places else None
    expected = [MANIFEST, *([SIGNATURE] if signed is not None else []), *manifest.files]
    if list(places) != expected:
        odd = next((name for name in (*expected, *places) if (name in places) != (name in expected)), "their order")
        raise PackError(f"{path}: what it holds is not what its manifest lists ({odd}). {_AGAIN}")
    for name, entry in manifest.files.items():
        _sized(places[name], entry)
    return Source(path, data, signed, manifest, places)


def _place(path: Path) -> Place:
    """A regular file. Raises PackError for a missing one, and for a link, folder or device."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise PackError(f"{path} is missing. {_AGAIN}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a link" if stat.S_ISLNK(found.st_mode) else "not a regular file"
        raise PackError(f"{path} is {kind}; a pack holds regular files only. Do not use this pack.")
    return Place(path, 0, found.st_size, str(path))


def _sized(place: Place, entry: FileEntry) -> Place:
    if place.size != entry.size:
        raise PackError(f"{place.label} has {place.size} bytes, {entry.size} are expected: it is damaged or cut off. {_AGAIN}")
    return place


def _small(place: Place, most: int) -> bytes:
    _bound(place, most)
    return b"".join(_read(place))


def _bound(place: Place, most: int) -> None:
    if place.size > most:
        raise PackError(f"{place.label} has {place.size} bytes, {most} are the most. Do not use this pack.")


def _read(place: Place) -> Iterator[bytes]:
    """Exactly the bytes of a place; opened so that a link or pipe put there in the meantime is not followed."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(place.path, flags), "rb") as file:
            file.seek(place.start)
            left = place.size
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise PackError(
            f"{place.label} cannot be read: {error.strerror or error}. Check the disk and your rights to it."
        ) from error
    if left:
        raise PackError(f"{place.label} became shorter while it was read. {_AGAIN}")
