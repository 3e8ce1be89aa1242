"""The one-file form of a pack: an uncompressed tar in exactly one shape, so that any other byte is a damaged file.

POSIX ustar: regular files only, mode 0644, no owner, no time, zeros for padding, two zero blocks at the end and nothing
after them. `tar xf` unpacks it; what `tar cf` writes is refused, as are links, folders, extensions and compression.
Format: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06. Knows no manifest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgegen.errors import PackError

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_MOST = 66  # files a manifest may list, manifest and signature
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,98}")
_COMPRESSED = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc": "7z",
}
_KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"5": "a folder", b"6": "a pipe"}
_GET = "Get the pack again from where it was made."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes stand: in a file of their own, or in an archive."""

    path: Path
    start: int
    """In bytes from the beginning of `path`."""
    size: int
    """In bytes."""
    label: str
    """What errors call it."""


def write(file: BinaryIO, members: Iterable[tuple[str, int, Iterable[bytes]]]) -> None:
    """Write an archive of members: name, size, content. The same members give the same bytes."""
    for name, size, chunks in members:
        file.write(header(name.encode("ascii"), size))
        file.writelines(chunks)
        file.write(bytes(-size % _BLOCK))
    file.write(_END)


def header(name: bytes, size: int) -> bytes:
    """The block before a member's content."""
    owner, no_owner_names, device = b"0000000\0" * 2, bytes(64), b"0000000\0" * 2
    before = name.ljust(100, b"\0") + b"0000644\0" + owner + b"%011o\0" % size + b"00000000000\0"
    after = b"0" + bytes(100) + b"ustar\x0000" + no_owner_names + device + bytes(167)
    total = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % total + after


def index(path: Path) -> dict[str, Place]:
    """The members of an archive, in order; no content is read. Raises PackError for any other shape."""
    found: dict[str, Place] = {}
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        _refuse_compressed(file.read(8), path)
        at = 0
        while (block := _read(file, at, _BLOCK)) != bytes(_BLOCK):
            name, size = _member(block, path)
            if name in found or len(found) == _MOST:
                raise PackError(f"{path}: {name!r} is there twice, or it has more than {_MOST} files. Do not use this pack.")
            found[name] = Place(path, at + _BLOCK, size, f"{path}: {name}")
            end, at = at + _BLOCK + size, at + _BLOCK + size + -size % _BLOCK
            if at > length or any(_read(file, end, at - end)):
                raise PackError(f"{path} is cut off or damaged after {name}. {_GET}")
        if _read(file, at, len(_END)) != _END or at + len(_END) != length:
            raise PackError(f"{path} is cut off, or something follows its end. {_GET}")
    return found


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _member(block: bytes, path: Path) -> tuple[str, int]:
    """A member's name and size, if the block is the one that this module writes."""
    name, digits = block[:100].rstrip(b"\0"), block[124:135]
    if len(block) == _BLOCK and re.fullmatch(rb"[0-7]{11}", digits) and header(name, int(digits, 8)) == block:
        if not _NAME.fullmatch(name):
            raise PackError(f"{path}: {name!r} is not a plain file name. Do not use this pack.")
        return name.decode("ascii"), int(digits, 8)
    if len(block) < _BLOCK:
        raise PackError(f"{path} is cut off, or it is not a pack file. {_GET}")
    if block[257:262] != b"ustar":
        raise PackError(f"{path} is not a pack file, or it is damaged. {_GET}")
    if kind := _KINDS.get(block[156:157]):
        raise PackError(f"{path}: {name!r} is {kind}; a pack holds regular files only. Do not use this pack.")
    raise PackError(f"{path}: the entry {name!r} is damaged, or not as `edgegen pack build` writes it. {_GET}")


def _refuse_compressed(first: bytes, path: Path) -> None:
    for magic, kind in _COMPRESSED.items():
        if first.startswith(magic):
            raise PackError(f"{path} is compressed ({kind}); a pack file is not, so that its size is known. {_GET}")
