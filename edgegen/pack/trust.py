"""The trust store: a folder of public keys whose packs may be used. Decides about signatures; reads no pack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgegen import durable, folders
from edgegen.errors import DataError, NotFoundError, SignatureError, UsageError
from edgegen.pack import signing
from edgegen.pack.signing import PUBLIC, PublicKey
from edgegen.pack.source import Source

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRUST = "edgegen pack trust FILE.pub"


def trusted_folder() -> Path:
    """Where trusted keys are: `trust` in edgegen's data folder."""
    return folders.data() / "trust"


def keys(folder: Path) -> tuple[PublicKey, ...]:
    """The trusted keys, by name. Raises DataError for a file that is no key: what cannot be read is not passed over."""
    return tuple(signing.read_public(path) for path in sorted(folder.glob(f"*{PUBLIC}")))


def add(folder: Path, file: Path, label: str | None = None) -> PublicKey:
    """Trust the key in a file from now on. Raises NotFoundError, DataError, UsageError for a name that is taken."""
    found = signing.read_public(file)
    label = label or found.label
    if not _LABEL.fullmatch(label):
        raise UsageError(f"{label!r} cannot name a key: use letters a-z, digits and . _ -. Give it a --name.")
    for known in keys(folder):
        if known.raw == found.raw:
            return known
        if known.label.casefold() == label.casefold():
            raise UsageError(f"Another key is called {known}. Give the new one another --name.")
    target = folder / (label + PUBLIC)
    with durable.storing(target):
        data = file.read_bytes()
        durable.replace(target, lambda out: out.write(data))
    return PublicKey(found.raw, label)


def remove(folder: Path, wanted: str) -> PublicKey:
    """Trust a key, given by its name or id, no longer. Raises NotFoundError."""
    for known in keys(folder):
        if wanted in (known.label, known.id):
            with durable.storing(folder):
                (folder / (known.label + PUBLIC)).unlink()
            return known
    raise NotFoundError(f"No trusted key is called {wanted}. `edgegen pack trust` lists them.")


def signer(source: Source, trusted: Sequence[PublicKey]) -> PublicKey | None:
    """Who signed a pack; None for one without a signature.

    Raises SignatureError for a signature by nobody in `trusted`, and for one that does not fit the manifest.
    """
    if source.signature is None:
        return None
    found = signing.parse(source.signature, f"{source.path}: signature.json")
    for key in trusted:
        if key.id == found.key_id:
            signing.verify(source.manifest_bytes, found, key, source.path)
            return key
    raise SignatureError(
        f"{source.path} is signed by {found.key_id}, whom this machine does not trust. "
        f"If you know whose key that is, add it: {_TRUST}"
    )


def known_signer(source: Source) -> PublicKey | None:
    """`signer` by the keys of this machine; the store is read only where there is a signature."""
    if source.signature is None:
        return None
    try:
        return signer(source, keys(trusted_folder()))
    except DataError as error:
        raise SignatureError(f"The trust store is damaged: {error}") from error
