"""Packs: a folder or one file with `manifest.json` and what it lists. Reads, verifies, signs, installs; loads no model itself.

A pack says of itself what it is, where it comes from, how well it does and what every file's SHA-256 and size are. It is
used only when all of that holds. `manifest` and `schema` read what it says, `archive` is the one-file form, `source` reads
either form, `signing` and `trust` decide who may have made it, `loading` gives a pack to use, `installed` keeps those of
this machine and says which one is the default, `building` finishes one. See docs/packs.md.
"""

from edgegen.pack.loading import Pack, bundled, describe, load, read_manifest, write_manifest
from edgegen.pack.manifest import DRAFT, FORMAT, MANIFEST, MODEL, PROMPT_FORMAT, SIGNATURE, FileEntry, Manifest, to_text
from edgegen.pack.source import SUFFIX

__all__ = [
    "DRAFT", "FORMAT", "MANIFEST", "MODEL", "PROMPT_FORMAT", "SIGNATURE", "SUFFIX", "FileEntry", "Manifest", "Pack", "bundled",
    "describe", "load", "read_manifest", "to_text", "write_manifest",
]  # fmt: skip
