"""Packs that are used from where they lie: a folder, a file, the bundled one. Verifies all of a pack; loads no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgegen import durable, folders, licensing
from edgegen.engine import ngrams
from edgegen.engine.gguf import read_header
from edgegen.engine.ngrams import NGrams
from edgegen.errors import EdgegenError, PackError
from edgegen.licensing import Table
from edgegen.pack import source, trust
from edgegen.pack.manifest import DRAFT, MANIFEST, MODEL, FileEntry, Manifest, to_text
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

    @property
    def drafts(self) -> NGrams | None:
        """What mostly follows what in the texts of the model's training, where the pack says so. Raises PackError."""
        if DRAFT not in self.manifest.files:
            return None
        try:
            return ngrams.from_bytes((self.folder / DRAFT).read_bytes())
        except (OSError, ValueError) as error:
            raise PackError(f"{self.folder / DRAFT} cannot be read: {error}. Build the pack again.") from error


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
    check(found)
    return signer


def check(found: Source) -> None:
    """Raise PackError unless the model's header holds together, and what the manifest and the draft table say fits it."""
    place, manifest = found.places[MODEL], found.manifest
    header = read_header(place.path, place.start, place.size)
    if header.architecture != manifest.architecture:
        raise PackError(
            f"{place.label}: the manifest says {manifest.architecture}, the model is {header.architecture!r}. "
            "Build the pack again."
        )
    if DRAFT in manifest.files:
        _check_drafts(found, header.lengths.get("tokenizer.ggml.tokens", 0))


def _check_drafts(found: Source, n_vocab: int) -> None:
    label = found.places[DRAFT].label
    try:
        table = ngrams.from_bytes(found.content(DRAFT, ngrams.LARGEST))
    except ValueError as error:
        raise PackError(f"{label} cannot be read: {error}. Build the pack again.") from error
    if table.n_vocab != n_vocab:
        raise PackError(f"{label} is for {table.n_vocab} tokens, the model has {n_vocab}. Make it anew with this model.")


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
    check(found)
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
