"""Keys of callers: each has a name, and the file keeps only the SHA-256 of its secret.

A secret is 32 random bytes, so that a slow hash would add nothing. The file is read anew when it changes: a key that is
removed there is refused at once. A file that is gone or broken changes nothing, so that no slip of an editor closes a shop.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from edgegen import durable
from edgegen.errors import DataError, NotFoundError, UsageError

LOG = logging.getLogger(__name__)
_PREFIX = "eg-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Keys:
    """The keys of a file as it is now."""

    def __init__(self, path: Path) -> None:
        """Raises NotFoundError or DataError for a file that is not there, is broken or holds no key."""
        self.path = path
        self._seen: tuple[int, int] | None = _stamp(path)
        self._hashes = read(path)
        if not self._hashes:
            raise DataError(f"{path} holds no key. Make one: edgegen key add NAME --keys {path}")

    @property
    def names(self) -> list[str]:
        """Whose keys they are."""
        return list(self._current())

    def name(self, secret: str) -> str | None:
        """Whose secret it is. All keys are compared, each in constant time."""
        given, found = _hash(secret), None
        for name, known in self._current().items():
            if hmac.compare_digest(given, known):
                found = name
        return found

    def _current(self) -> Mapping[str, str]:
        """The keys; where the file is gone or broken, those that were there before, which the log says once."""
        stamp = None
        try:
            stamp = _stamp(self.path)
            if stamp != self._seen:
                self._hashes = read(self.path)
        except (NotFoundError, DataError) as error:
            if stamp != self._seen:
                LOG.warning("%s The %d keys as they were stay valid until it can be read again", error, len(self._hashes))
        self._seen = stamp
        return self._hashes


def read(path: Path) -> dict[str, str]:
    """The hashes of a file by their names. Raises NotFoundError or DataError."""
    return {str(entry["name"]): str(entry["sha256"]) for entry in _entries(path)}


def add(path: Path, name: str) -> str:
    """Add a key to a file, which is made where there is none; returns the secret. Raises UsageError, DataError, StorageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"The name {name!r} must be of letters, digits, '.', '_' and '-', 64 at most.")
    with _changing(path):
        entries = _entries(path) if path.exists() else []
        if any(entry["name"] == name for entry in entries):
            raise UsageError(f"{path} has a key {name!r} already. Take another name, or remove that one first.")
        secret = _PREFIX + secrets.token_urlsafe(32)
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        _write(path, [*entries, {"name": name, "sha256": _hash(secret), "made": made}])
    return secret


def remove(path: Path, name: str) -> None:
    """Take a key out of a file. Raises NotFoundError, DataError, StorageError."""
    with _changing(path):
        entries = _entries(path)
        left = [entry for entry in entries if entry["name"] != name]
        if len(left) == len(entries):
            raise NotFoundError(f"{path} has no key {name!r}. Known: {', '.join(e['name'] for e in entries) or 'none'}.")
        _write(path, left)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        why = f"The keys {path} cannot be read: {error.strerror}."
        raise NotFoundError(f"{why} Make one: edgegen key add NAME --keys {path}") from None
    return found.st_mtime_ns, found.st_ino


def _entries(path: Path) -> list[dict[str, Any]]:
    _stamp(path)
    try:
        entries = json.loads(path.read_text("utf-8"))["keys"]
        for entry in entries:
            if not (_NAME.fullmatch(entry["name"]) and _HASH.fullmatch(entry["sha256"])):
                raise ValueError(f"the key {entry['name']!r} is malformed")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Give it to the user that the server runs as.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of keys: {error}. Make one: edgegen key add NAME --keys FILE") from None
    return list(entries)


def _changing(path: Path) -> Any:
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    return durable.locked(path.absolute().parent)


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    path = path.absolute()

    def write(file: BinaryIO) -> None:
        file.write((json.dumps({"keys": entries}, indent=1) + "\n").encode())
        owner = (path if path.exists() else path.parent).stat()
        # Where root adds a key, the server's user must still be able to read it. Windows has no such owners.
        with suppress(PermissionError, AttributeError):
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)

    with durable.storing(path):
        durable.replace(path, write, 0o600)  # nobody else's business
