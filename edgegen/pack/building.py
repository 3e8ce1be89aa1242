"""Finishes a pack: adds the Modelfile and further files, signs the manifest, writes a folder or one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from edgegen import durable
from edgegen.errors import UsageError
from edgegen.pack import archive, loading, modelfile, signing, source
from edgegen.pack.loading import Pack
from edgegen.pack.manifest import DRAFT, MANIFEST, MODEL, SIGNATURE, Manifest, check_label, parse, to_text
from edgegen.pack.source import SUFFIX


def build(
    pack: Pack, out: Path, *, key: Path | None = None, extra: Sequence[Path] = (), name: str | None = None,
    version: str | None = None,
) -> Path:  # fmt: skip
    """Write a pack anew to `out`: one file where its name ends in `.egpack`, else a folder; signed where a key is given.

    A signature of the old pack is left out, because the manifest changes. Raises UsageError for a bad name, and for an `out`
    that is there as something else, NotFoundError, DataError for the key, PackError, StorageError; then nothing is written.
    """
    manifest = replace(pack.manifest, name=name or pack.manifest.name, version=version or pack.manifest.version)
    check_label(manifest.name, manifest.version)
    _check_free(out)
    for path in extra:
        if not path.is_file() or path.name in (MANIFEST, SIGNATURE, modelfile.NAME, MODEL):
            raise UsageError(f"{path} cannot be added: it must be a file, and not be called like a pack's own. Rename it.")
    with durable.storing(out), durable.staging(out.absolute().parent) as part:
        _fill(part, pack, manifest, extra)
        if key is not None:
            durable.write_new(part / SIGNATURE, [signing.sign((part / MANIFEST).read_bytes(), key)])
        made = source.read(part)
        made.verify()
        loading.check(made)
        if out.suffix == SUFFIX:
            durable.replace(out, lambda file: _write_file(file, made.path, made.signature is not None, made.manifest))
        else:
            durable.move(part, out)
    return out


def _check_free(out: Path) -> None:
    if out.suffix == SUFFIX and not out.is_dir():
        return
    if out.exists():
        raise UsageError(f"{out} is there already. Choose another path, or one that ends in {SUFFIX} for a file.")


def _fill(part: Path, pack: Pack, manifest: Manifest, extra: Iterable[Path]) -> None:
    """All files and a manifest that lists them."""
    there = source.read(pack.folder)
    durable.need(part, manifest.total)
    # A new draft table takes the place of the old one.
    added = {path.name for path in extra} & {DRAFT}
    own = [name for name in manifest.files if name not in {modelfile.NAME, *added}]
    for name in own:
        durable.write_new(part / name, there.chunks(name))
    durable.write_new(part / modelfile.NAME, [modelfile.text(part / MODEL, manifest).encode("utf-8")])
    for path in extra:
        if path.name in own:
            raise UsageError(f"The pack has a file {path.name} already. Rename {path}.")
        durable.write_new(part / path.name, [path.read_bytes()])
    names = dict.fromkeys([*manifest.files, modelfile.NAME, *(path.name for path in extra)])
    text = to_text(replace(manifest, files=loading.describe(part, names))).encode("utf-8")
    parse(text, part / MANIFEST)
    durable.write_new(part / MANIFEST, [text])


def _write_file(file: BinaryIO, folder: Path, signed: bool, manifest: Manifest) -> None:
    names = [MANIFEST, *([SIGNATURE] if signed else []), *manifest.files]
    archive.write(file, ((name, (folder / name).stat().st_size, _chunks(folder / name)) for name in names))


def _chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
