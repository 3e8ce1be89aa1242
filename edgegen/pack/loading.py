"""Packs that are used from where they lie: a folder, a file, the bundled one. Verifies all of a pack; loads no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgegen import durable, folders, licensing
from edgegen.engine.gguf import read_header
from edgegen.errors import EdgegenError, PackError
from edgegen.licensing import Table
from edgegen.pack import source, trust
from edgegen.pack.archive import Place
from edgegen.pack.manifest import MANIFEST, MODEL, FileEntry, Manifest, to_text
from edgegen.pack.signing import PublicKey
from edgegen.pack.source import Source

_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that was verified."""

    folder: Path
    manifest: Manifest
    signer: PublicKey | None = None
    """The trusted key that signed it; None for a pack without a signature."""

    @property
    def model(self) -> Path:
        """The GGUF file."""
        return self.folder / MODEL

    @property
    def licensing(self) -> Table | None:
        """Which facts license which words of the model, where the pack says so. Raises PackError."""
        if licensing.FILE not in self.manifest.files:
            return None
        try:
            return licensing.from_text((self.folder / licensing.FILE).read_text("utf-8"))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PackError(f"{self.folder / licensing.FILE} cannot be read: {error}. Build the pack again.") from error


def bundled() -> Path:
    """The folder of the pack that comes with edgegen: in the installed package, or in a checkout. Raises PackError."""
    for folder in (_PACKAGE / "_pack", _PACKAGE.parent / "models" / "bundled"):
        if (folder / MANIFEST).is_file():
            return folder
    raise PackError("This installation has no bundled pack. Give the folder of a pack, or install edgegen again.")


def load(path: Path) -> Pack:
    """Verify a pack in a folder or file and give it; one in a file is unpacked into the cache.

    A signature that is there must be by a trusted key; one that is not there is not asked for. Raises NotFoundError where
    the pack is missing, PackError where it is damaged, incomplete or newer than this edgegen, SignatureError, StorageError.
    """
    found = source.read(path)
    if path.is_file():
        return _unpacked(found)
    return Pack(path, found.manifest, verify(found))


def verify(found: Source) -> PublicKey | None:
    """Check signature, files and the model's header; gives who signed. Raises PackError, SignatureError."""
    signer = trust.known_signer(found)
    found.verify()
    check_model(found.places[MODEL], found.manifest)
    return signer


def check_model(place: Place, manifest: Manifest) -> None:
    """Raise PackError unless the model's header holds together and is of the manifest's architecture."""
    architecture = read_header(place.path, place.start, place.size).architecture
    if architecture != manifest.architecture:
        raise PackError(
            f"{place.label}: the manifest says {manifest.architecture}, the model is {architecture!r}. Build the pack again."
        )


def _unpacked(found: Source) -> Pack:
    """A pack file's folder in the cache, named by what it holds, so that it never has to be replaced."""
    signer = trust.known_signer(found)
    digest = hashlib.sha256(found.manifest_bytes + (found.signature or b"")).hexdigest()
    folder = folders.cache() / "unpacked"
    target = folder / digest[:32]
    with durable.storing(target):
        folder.mkdir(parents=True, exist_ok=True)
        with durable.locked(folder):
            durable.sweep(folder)
            if not _whole(target):
                _unpack(found, target)
    return Pack(target, found.manifest, signer)


def _whole(folder: Path) -> bool:
    """Whether a pack was unpacked here before and nobody has touched it since."""
    try:
        source.read(folder).verify()
    except EdgegenError:
        return False
    return True


def _unpack(found: Source, target: Path) -> None:
    check_model(found.places[MODEL], found.manifest)
    durable.need(target, found.manifest.total)
    with durable.staging(target.parent) as part, durable.staging(target.parent) as old:
        found.copy(part)
        if target.exists():
            target.rename(old / target.name)
        durable.move(part, target)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a pack whose files have the right sizes; their content is not read. Raises NotFoundError, PackError."""
    return source.read(path).manifest


def describe(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """The entries of files in a folder."""
    return {name: FileEntry((folder / name).stat().st_size, sha256(folder / name)) for name in names}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises PackError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror}. Check the disk and copy the pack again.") from error


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write a manifest into the folder of a pack that is being built."""
    path = folder / MANIFEST
    path.write_text(to_text(manifest), "utf-8")
    return path
