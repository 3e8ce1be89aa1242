"""Manifests: what a pack says of itself. Reads and writes the text of `manifest.json`; touches no other file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from edgegen.errors import PackError, UsageError
from edgegen.pack import schema

FORMAT = 1
"""The manifest's format: the highest that this edgegen reads."""
PROMPT_FORMAT = 2
"""The layout of prompts (see `edgegen.slots`): a model reads only the one it was trained with."""
MANIFEST, MODEL, SIGNATURE, DRAFT = "manifest.json", "model.gguf", "signature.json", "draft.bin"
PROVENANCE = "provenance.json"
"""What training writes about itself beside a checkpoint: the `provenance` of a manifest to come."""
MAX_MANIFEST = 4 << 20
"""Bytes a manifest may have: a hundred times those of the bundled one."""
MAX_TOTAL = 16 << 30
"""Bytes that a pack's files may have together."""


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

    @property
    def label(self) -> str:
        """Name and version in one, as installed packs are called."""
        return f"{self.name}@{self.version}"

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, `format` first."""
        return {"format": self.format, **{k: v for k, v in asdict(self).items() if k != "format"}}


def to_text(manifest: Manifest) -> str:
    """A manifest as JSON; the same manifest gives the same text."""
    return json.dumps(manifest.to_json(), ensure_ascii=False, indent=2) + "\n"


def parse(data: bytes, where: object) -> Manifest:
    """The manifest in the bytes of a `manifest.json`; `where` names it in errors. Raises PackError."""
    raw = read_json(data, where)
    try:
        _check_versions(raw, where)
        schema.check(raw, schema.manifest_schema())
    except schema.Mismatch as error:
        raise PackError(f"{where}: {error}. Do not use this pack; get it again from where it was made.") from None
    return _manifest(raw, where)


def check_label(name: str, version: str, **more: Any) -> None:
    """Raise UsageError for a name or version, or `more` of a manifest's values, that no manifest may have."""
    whole = schema.manifest_schema()
    try:
        for key, value in {"name": name, "version": version, **more}.items():
            schema.check(value, whole["properties"][key], f"the pack's {key}", whole)
    except schema.Mismatch as error:
        raise UsageError(f"{error}. Choose another.") from None


def read_json(data: bytes, where: object) -> dict[str, Any]:
    """A JSON object, read strictly: no key twice, no NaN, no text that cannot be written again. Raises PackError."""
    try:
        text = data.decode("utf-8")
        raw = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        json.dumps(raw, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise PackError(f"{where} cannot be read: {error}. Copy the pack again.") from None
    if not isinstance(raw, dict):
        raise PackError(f"{where} is not a JSON object. Copy the pack again.")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _check_versions(raw: dict[str, Any], where: object) -> None:
    """First of all, because a newer format may differ in all the rest."""
    versions = schema.manifest_schema()["properties"]
    for key, ours in (("format", FORMAT), ("prompt_format", PROMPT_FORMAT)):
        schema.check(raw.get(key), versions[key], key)
        if raw[key] > ours:
            raise PackError(f"{where} has {key} {raw[key]}; this edgegen reads up to {ours}. Update edgegen.")
    if raw["prompt_format"] < PROMPT_FORMAT:
        raise PackError(
            f"{where} has prompt_format {raw['prompt_format']}; this edgegen writes prompts of format {PROMPT_FORMAT}, which its "
            "model has not learnt. Train it again, or use the edgegen that it came with."
        )


def _manifest(raw: dict[str, Any], where: object) -> Manifest:
    known = {f.name for f in fields(Manifest)}
    entries = {name: FileEntry(entry["size"], entry["sha256"]) for name, entry in raw["files"].items()}
    lists = {key: tuple(raw[key]) for key in ("languages", "tasks")}
    found = Manifest(**{**{key: value for key, value in raw.items() if key in known}, **lists, "files": entries})
    folded = {name.casefold() for name in (*entries, MANIFEST, SIGNATURE)}
    if len(folded) != len(entries) + 2:
        raise PackError(f"{where}: two of its files have one name. Do not use this pack.")
    if found.total > MAX_TOTAL:
        raise PackError(f"{where}: its files have {found.total >> 30} GiB, more than {MAX_TOTAL >> 30}. Do not use this pack.")
    return found
