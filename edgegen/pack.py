"""Packs: a folder with `manifest.json` and the files it lists. Reads, verifies and writes manifests; loads no model.

A pack says of itself what it is, where it comes from, how well it does and what every file's SHA-256 and size are. It is
used only when all of that holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from edgegen.engine.gguf import read_header
from edgegen.errors import NotFoundError, PackError

FORMAT = 1
"""The manifest's format: the highest that this edgegen reads."""
PROMPT_FORMAT = 1
"""The layout of prompts (see `edgegen.slots`): a model reads only the one it was trained with."""
MANIFEST, MODEL = "manifest.json", "model.gguf"
_PACKAGE = Path(__file__).parent
_TEXTS = ("name", "version", "architecture", "quantization", "licence")
_LISTS = ("languages", "tasks")
_TABLES = ("provenance", "evaluation", "equality")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a pack: its size in bytes and the SHA-256 of its content, in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a pack says of itself. `equality` compares its model with the checkpoint it was converted from."""

    name: str
    version: str
    languages: tuple[str, ...]
    tasks: tuple[str, ...]
    architecture: str
    quantization: str
    files: dict[str, FileEntry]
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    equality: dict[str, Any] = field(default_factory=dict)
    prompt_format: int = PROMPT_FORMAT
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, `format` first."""
        return {"format": self.format, **{k: v for k, v in asdict(self).items() if k != "format"}}


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that was verified."""

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The GGUF file."""
        return self.folder / MODEL


def bundled() -> Path:
    """The folder of the pack that comes with edgegen: in the installed package, or in a checkout. Raises PackError."""
    for folder in (_PACKAGE / "_pack", _PACKAGE.parent / "models" / "bundled"):
        if (folder / MANIFEST).is_file():
            return folder
    raise PackError("This installation has no bundled pack. Give the folder of a pack, or install edgegen again.")


def load(path: Path) -> Pack:
    """Verify a pack and give it. Raises NotFoundError where it is missing, PackError where it is damaged, incomplete or
    newer than this edgegen.
    """
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        _verify(path / name, entry)
    try:
        architecture = read_header(path / MODEL).architecture
    except NotFoundError as error:
        raise PackError(str(error)) from error
    if architecture != manifest.architecture:
        raise PackError(f"{path}: the manifest says {manifest.architecture}, the model is {architecture}. Build the pack again.")
    return Pack(path, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a pack, its files unchecked. Raises NotFoundError, PackError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFoundError(f"There is no pack at {folder}: it has no {MANIFEST}. Give the folder of a pack.")
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read: {error}. Copy the pack again.") from error
    if not isinstance(raw, dict):
        raise PackError(f"{path} is not a JSON object. Copy the pack again.")
    _check_versions(raw, path)
    return _manifest(raw, path)


def _check_versions(raw: dict[str, Any], path: Path) -> None:
    for key, ours in (("format", FORMAT), ("prompt_format", PROMPT_FORMAT)):
        value = raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PackError(f"{path}: {key} is {value!r}, not a number from 1 on. Copy the pack again.")
        if value > ours:
            raise PackError(f"{path} has {key} {value}; this edgegen reads up to {ours}. Update edgegen.")


def _manifest(raw: dict[str, Any], path: Path) -> Manifest:
    kinds = ((_TEXTS, _is_text, "a text"), (_LISTS, _is_texts, "a list of texts"), (_TABLES, _is_table, "an object"))
    for keys, check, what in kinds:
        for key in keys:
            if not check(raw.get(key)):
                raise PackError(f"{path}: {key} is missing or not {what}. Copy the pack again.")
    known = {f.name for f in fields(Manifest)}
    values = {key: value for key, value in raw.items() if key in known}
    values |= {key: tuple(raw[key]) for key in _LISTS}
    return Manifest(**{**values, "files": _files(raw.get("files"), path)})


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _files(raw: object, path: Path) -> dict[str, FileEntry]:
    if not isinstance(raw, dict) or MODEL not in raw:
        raise PackError(f"{path}: files does not list {MODEL}. Copy the pack again.")
    found: dict[str, FileEntry] = {}
    for name, entry in raw.items():
        if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):  # never outside the pack's own folder
            raise PackError(f"{path}: {name!r} is not a plain file name. Do not use this pack.")
        try:
            found[name] = FileEntry(int(entry["size"]), str(entry["sha256"]))
        except (TypeError, KeyError, ValueError) as error:
            raise PackError(f"{path}: the entry of {name} lacks its size or sha256. Copy the pack again.") from error
    return found


def _verify(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise PackError(f"{path} is missing. Copy the pack again.")
    size = path.stat().st_size
    if size != entry.size:
        raise PackError(f"{path} has {size} bytes, {entry.size} are expected: it is damaged or cut off. Copy the pack again.")
    if sha256(path) != entry.sha256:
        raise PackError(f"{path} is damaged: its SHA-256 is not the manifest's. Copy the pack again.")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises PackError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror}. Check the disk and copy the pack again.") from error


def describe(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """The entries of files in a folder."""
    return {name: FileEntry((folder / name).stat().st_size, sha256(folder / name)) for name in names}


def to_text(manifest: Manifest) -> str:
    """A manifest as JSON; the same manifest gives the same text."""
    return json.dumps(manifest.to_json(), ensure_ascii=False, indent=2) + "\n"


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write a manifest into the folder of a pack that is being built."""
    path = folder / MANIFEST
    path.write_text(to_text(manifest), "utf-8")
    return path
