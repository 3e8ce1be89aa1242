"""Ed25519 keys and signatures: over the exact bytes of a manifest, in `signature.json`. Knows no trust.

`cryptography` is imported where a key is used, so that what needs no key starts without it. Key files are PEM
(PKCS 8 and SubjectPublicKeyInfo), as `openssl pkey` reads them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen import durable
from edgegen.errors import DataError, MissingExtraError, NotFoundError, SignatureError, UsageError
from edgegen.pack.manifest import read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE, PUBLIC = ".key", ".pub"
"""How the names of key files end."""
_ALGORITHM = "ed25519"
_ID = re.compile(r"[0-9a-f]{16}")
_MAX_KEY = 4096


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its 32 bytes and what its owner is called here."""

    raw: bytes
    label: str

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the key's SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        """In words."""
        return f"{self.label} ({self.id})"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, and the 64 bytes."""

    key_id: str
    raw: bytes

    def to_bytes(self) -> bytes:
        """As `signature.json`; the same signature gives the same bytes."""
        values = {"algorithm": _ALGORITHM, "key": self.key_id, "signature": self.raw.hex()}
        return (json.dumps(values, indent=2) + "\n").encode("ascii")


def parse(data: bytes, where: object) -> Signature:
    """The signature in the bytes of a `signature.json`. Raises PackError for bytes that `to_bytes` would not write."""
    raw = read_json(data, where)
    try:
        found = Signature(str(raw["key"]), bytes.fromhex(raw["signature"]))
    except (KeyError, TypeError, ValueError):
        found = None
    if found is None or not _ID.fullmatch(found.key_id) or len(found.raw) != 64 or found.to_bytes() != data:
        raise SignatureError(f"{where} is damaged or of another kind than {_ALGORITHM}. Copy the pack again.")
    return found


def sign(manifest: bytes, key_file: Path) -> bytes:
    """The bytes of `signature.json` for a manifest. Raises NotFoundError, DataError."""
    key = _private(key_file)
    public = PublicKey(key.public_key().public_bytes_raw(), key_file.stem)
    return Signature(public.id, key.sign(manifest)).to_bytes()


def verify(manifest: bytes, signature: Signature, key: PublicKey, where: object) -> None:
    """Raise SignatureError unless the key made the signature of exactly these bytes."""
    _needed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature.raw, manifest)
    except InvalidSignature:
        raise SignatureError(
            f"{where}: the signature is not {key}'s for this manifest: one of the two was changed. Do not use this pack."
        ) from None


def generate(out: Path) -> PublicKey:
    """Write a new pair of keys, `out`.key for its owner only and `out`.pub. Raises UsageError where one is there."""
    _needed()
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = out.with_name(out.name + PRIVATE), out.with_name(out.name + PUBLIC)
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} is there already, and a key that is overwritten is lost. Choose another name.")
    key = Ed25519PrivateKey.generate()
    with durable.storing(private):
        private.parent.mkdir(parents=True, exist_ok=True)
        secret = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        durable.write_new(private, [secret], mode=0o600)
        durable.write_new(public, [key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)])
    return PublicKey(key.public_key().public_bytes_raw(), out.name)


def read_public(path: Path) -> PublicKey:
    """The public key in a file, called by the file's name. Raises NotFoundError, DataError."""
    data = _key_bytes(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise DataError(f"{path} is not a public Ed25519 key in PEM. Give the {PUBLIC} file of `edgegen pack keygen`.")
    return PublicKey(key.public_bytes_raw(), path.stem)


def _private(path: Path) -> Ed25519PrivateKey:
    data = _key_bytes(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise DataError(f"{path} is not a private Ed25519 key in PEM. Give the {PRIVATE} file of `edgegen pack keygen`.")
    return key


def _key_bytes(path: Path) -> bytes:
    _needed()
    if not path.is_file():
        raise NotFoundError(f"There is no key at {path}. Check the path, or make one: edgegen pack keygen.")
    with path.open("rb") as file:
        return file.read(_MAX_KEY)


def _needed() -> None:
    try:
        import cryptography
    except ImportError as error:
        raise MissingExtraError("Signatures need the package cryptography. Install it: pip install cryptography.") from error
    del cryptography
