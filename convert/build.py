"""Checkpoint folder -> pack: convert, compare with the checkpoint, quantize, compare again, describe."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convert import gpt2, quantize, verify
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.merge import open_adapted
from convert.output import whole
from edgegen import licensing, pack
from edgegen import tasks as known
from edgegen.domain import LANGS, Lang
from edgegen.errors import UsageError
from edgegen.pack.manifest import check_label
from edgegen.train.pairs import Pair


def build_pack(
    checkpoint: str | Path | None,
    out: Path,
    *,
    adapter: Path | None = None,
    quant: str = "q8_0",
    name: str,
    version: str,
    languages: Sequence[Lang],
    tasks: Sequence[str],
    provenance: dict[str, Any],
    evaluation: dict[str, Any],
    licence: str,
    pairs: Sequence[Pair] | None = None,
) -> Path:
    """Build and verify a pack in `out`, replacing one that is there; returns `out`.

    `checkpoint` is a folder or hub name; with an `adapter`, which is merged into it, None takes the base that the adapter names.
    The comparison runs on `pairs`; None takes held-out ones of the corpus, one of every task and language.

    Raises UsageError, OptionError, NotFoundError, ConvertError, StorageError; then `out` is as it was.
    """
    kind = quantize.check_type(quant)
    check_label(name, version)
    _check(out, languages, tasks)
    opened = _opened(checkpoint, adapter)
    pairs = _samples(languages, tasks) if pairs is None else pairs
    with whole(out) as part:
        part.mkdir()
        model, exact = part / pack.MODEL, part / "exact.gguf"
        gpt2.write(opened, exact, name=name, licence=licence)
        equality = {"f32": asdict(found := verify.compare(opened, exact, pairs))}
        verify.require_equal(found, exact)
        if kind == "f32":
            exact.replace(model)
        else:
            quantize.quantize(exact, model, kind)
            exact.unlink()
            equality[kind] = asdict(verify.compare(opened, model, pairs))
        manifest = pack.Manifest(
            name=name, version=version, languages=tuple(languages), tasks=tuple(tasks), architecture="gpt2", quantization=kind,
            files=pack.describe(part, [pack.MODEL, *_beside(opened.folder, part)]), licence=licence,
            evaluation=evaluation, equality=equality, provenance=provenance | {"tensor_types": quantize.tensor_types(model)},
        )  # fmt: skip
        pack.write_manifest(part, manifest)
        pack.load(part)
    return out


def _beside(folder: Path, part: Path) -> list[str]:
    """What a checkpoint holds for the pack beside its weights: the table that training made for its tokenizer."""
    if not (folder / licensing.FILE).is_file():
        return []
    shutil.copyfile(folder / licensing.FILE, part / licensing.FILE)
    return [licensing.FILE]


def _opened(checkpoint: str | Path | None, adapter: Path | None) -> Checkpoint:
    if adapter is not None:
        return open_adapted(adapter, checkpoint)
    if checkpoint is None:
        raise UsageError("There is nothing to convert. Give a checkpoint, an adapter, or both.")
    return open_checkpoint(checkpoint)


def record_evaluation(folder: Path, evaluation: dict[str, Any]) -> None:
    """Write an evaluation into a pack that was evaluated after it was built.

    Raises PackError, StorageError, and UsageError for a signed pack, whose signature would not fit any more.
    """
    if (folder / pack.SIGNATURE).exists():
        raise UsageError(f"{folder} is signed, so its manifest cannot change. Record into the pack it was built from.")
    manifest = replace(pack.load(folder).manifest, evaluation=evaluation)
    with whole(folder / pack.MANIFEST) as part:
        part.write_text(pack.to_text(manifest), "utf-8")


def _samples(languages: Sequence[Lang], tasks: Sequence[str]) -> list[Pair]:
    from edgegen.train.corpus import generate  # loads the whole lexicon, which own pairs do without

    return [pair for task in tasks for lang in languages for pair in generate.pairs(task, lang, "test", 1, 1)]


def _check(out: Path, languages: Sequence[Lang], tasks: Sequence[str]) -> None:
    if not languages or not tasks:
        raise UsageError("A pack needs one language and one task at least. Name them.")
    for lang in languages:
        if lang not in LANGS:
            raise UsageError(f"Unknown language {lang!r}. Known: {', '.join(LANGS)}.")
    for task in tasks:
        known.get(task)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; a pack is a folder. Choose another path.")
    if out.is_dir() and any(out.iterdir()) and not (out / pack.MANIFEST).is_file():
        raise UsageError(f"{out} holds something that is not a pack. Choose an empty or new folder.")
