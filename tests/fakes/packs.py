"""Small real packs for tests: a tiny model, a card, real keys."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from edgegen import folders, pack
from edgegen.pack import archive, signing
from edgegen.pack.manifest import Manifest
from edgegen.pack.signing import PublicKey
from tests.fakes.tiny_gguf import write_tiny_gguf


def make(folder: Path, name: str = "tiny", version: str = "1", seed: int = 0) -> Path:
    """A pack of a tiny model, with a second file."""
    folder.mkdir(parents=True)
    write_tiny_gguf(folder / pack.MODEL, seed=seed)
    (folder / "card.md").write_text("# A pack\n", "utf-8")
    files = pack.describe(folder, [pack.MODEL, "card.md"])
    pack.write_manifest(
        folder, Manifest(name, version, ("en", "zh"), ("reason",), "gpt2", "f32", files, "Apache-2.0", {"seed": 7})
    )
    return folder


def trusted(folder: Path, label: str = "acme") -> Path:
    """A new private key; the machine trusts its public half."""
    key = untrusted(folder, label)
    trust = folders.data() / "trust"
    trust.mkdir(parents=True, exist_ok=True)
    (trust / f"{label}.pub").write_bytes(key.with_suffix(".pub").read_bytes())
    return key


def untrusted(folder: Path, label: str = "stranger") -> Path:
    """A new private key that the machine does not know."""
    signing.generate(folder / label)
    return folder / f"{label}.key"


def sign(folder: Path, key: Path) -> Path:
    """Sign the pack in a folder."""
    (folder / pack.SIGNATURE).write_bytes(signing.sign((folder / pack.MANIFEST).read_bytes(), key))
    return folder


def change(folder: Path, **changes: Any) -> None:
    """Write values into the manifest; None takes a key out."""
    path = folder / pack.MANIFEST
    raw = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}), "utf-8")


def members(folder: Path) -> list[tuple[str, bytes]]:
    """What the one-file form of a folder holds, in order."""
    first = [name for name in (pack.MANIFEST, pack.SIGNATURE) if (folder / name).exists()]
    return [(name, (folder / name).read_bytes()) for name in (*first, *pack.read_manifest(folder).files)]


def write_file(path: Path, content: list[tuple[str, bytes]]) -> Path:
    """An archive of any members."""
    with path.open("wb") as file:
        archive.write(file, ((name, len(data), [data]) for name, data in content))
    return path


def as_bytes(content: list[tuple[str, bytes]]) -> bytes:
    """The same in memory."""
    out = io.BytesIO()
    archive.write(out, ((name, len(data), [data]) for name, data in content))
    return out.getvalue()


def public(key: Path) -> PublicKey:
    """The public half of a private key file."""
    return signing.read_public(key.with_suffix(".pub"))


def leftovers() -> list[str]:
    """Everything in edgegen's folders but folders and trusted keys."""
    found = [path for folder in (folders.data(), folders.cache()) for path in folder.rglob("*")]
    return sorted(path.name for path in found if path.suffix != ".pub" and path.name not in ("packs", "trust", "unpacked"))
