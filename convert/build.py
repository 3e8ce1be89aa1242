"""Checkpoint -> packs: convert, compare with the checkpoint, quantize, compare again, describe. A pack for each quantization."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.numpy import load_file, save_file

from convert import calibrate, gpt2, plain, quantize, report, stages, verify
from convert import config as configs
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.merge import open_adapted
from convert.output import whole
from convert.quantize import Plan
from convert.report import Row
from convert.samples import of_corpus
from convert.stages import Stages
from edgegen import __version__, licensing, pack
from edgegen import tasks as known
from edgegen.domain import LANGS, Lang
from edgegen.engine.native import describe
from edgegen.errors import ConvertError, UsageError
from edgegen.pack import building, modelfile, signing
from edgegen.pack.manifest import SIGNATURE, check_label
from edgegen.pack.source import SUFFIX
from edgegen.progress import Progress, silent
from edgegen.train.pairs import Pair

_CALIBRATION = 8  # pairs of each task and language
_COMPARISON = 2
_LLAMA = "llama-cpp-python"
Samples = Callable[[], Sequence[Pair]]


@dataclass(frozen=True, slots=True)
class About:
    """What a pack says of itself beside what conversion finds out."""

    name: str
    version: str = "1"
    languages: Sequence[Lang] = LANGS
    tasks: Sequence[str] = ()
    licence: str = "Apache-2.0"
    provenance: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)


def build_packs(
    checkpoint: str | Path | None,
    out: Path,
    about: About,
    *,
    adapter: Path | None = None,
    quants: Sequence[str] = ("q8_0",),
    key: Path | None = None,
    pairs: Sequence[Pair] | None = None,
    calibration: Sequence[Pair] | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Build a verified pack for each quantization and return where they are: see `targets`. Packs that are there are replaced.

    `checkpoint` is a folder or hub name; with an `adapter`, which is merged into it, None takes the base that the adapter names.
    The comparison runs on `pairs`; None takes ones of the corpus that no training sees. Importance matrices come from
    `calibration`; None takes pairs of the corpus's training part. `key` signs the packs. A quantization beyond its bound is an
    error unless `force`.

    Raises UsageError, OptionError, NotFoundError, ConvertError, StorageError; then every `out` is as it was.
    """
    made = check(out, about, quants, key)
    kinds = [quantize.check_type(kind) for kind in dict.fromkeys(quants)]
    opened = _opened(checkpoint, adapter)
    _check_tasks(opened, about)
    compared = of_corpus("test", _COMPARISON, about.tasks, about.languages) if pairs is None else pairs
    usual = partial(of_corpus, "train", _CALIBRATION, about.tasks, about.languages)
    learnt = usual if calibration is None else lambda: calibration
    sources = [opened.folder, *([adapter] if adapter else [])]
    made_from = stages.fingerprint(sources, about, compared, calibration, __version__, describe())
    with stages.opened(out, made_from, progress) as work:
        rows = _converted(opened, about, kinds, compared, learnt, work)
        for kind in kinds if not force else ():
            report.require_within(rows[kind])
        source = Path(checkpoint or opened.folder).absolute().name
        with ExitStack() as parts:  # when all are made, they get their names
            for target, kind in zip(made, kinds, strict=True):
                shown = [rows[name] for name in dict.fromkeys(("f32", kind))]
                parts.enter_context(_made(target, work.folder, kind, opened, about, shown, source, key))
                progress(f"pack {target.name}", 1, 1)
    return made


def check(out: Path, about: About, quants: Sequence[str], key: Path | None = None) -> list[Path]:
    """Raise what can be refused before any work, as `build_packs` does; gives where the packs will be."""
    kinds = [quantize.check_type(kind) for kind in dict.fromkeys(quants)]
    said = {name: getattr(about, name) for name in ("licence", "provenance", "evaluation")}
    check_label(about.name, about.version, **said)
    if key is not None:
        signing.sign(b"", key)
    made = targets(out, kinds)
    for target in made:
        _check(target, about)
    return made


def targets(out: Path, kinds: Sequence[str]) -> list[Path]:
    """Where the packs go: `out`, and where there are several quantizations each beside it, as `shop-q8_0.egpack`."""
    stem, suffix = (out.stem, SUFFIX) if out.suffix == SUFFIX else (out.name, "")
    return [out] if len(kinds) == 1 else [out.with_name(f"{stem}-{kind}{suffix}") for kind in kinds]


def plans(checkpoint: str | Path | None, quants: Sequence[str], adapter: Path | None = None) -> list[Plan]:
    """The size of each quantization and what falls back; nothing is written but a header in a temporary folder."""
    kinds = [quantize.check_type(kind) for kind in dict.fromkeys(quants)]
    with TemporaryDirectory() as folder:
        header = gpt2.write(_opened(checkpoint, adapter), Path(folder) / "header.gguf", hollow=True)
        return [quantize.plan(header, kind) for kind in kinds]


def _converted(
    opened: Checkpoint, about: About, kinds: Sequence[str], samples: Sequence[Pair], learnt: Samples, work: Stages
) -> dict[str, Row]:
    """The F32 file and the others as stages, and what each is like."""
    write = partial(gpt2.write, opened, name=about.name, licence=about.licence)
    exact = work.file("f32.gguf", "write f32", lambda part: write(part, each=partial(work.progress, "write f32")))
    rows = {"f32": _row(opened, exact, exact, "f32", samples, work, learnt)}
    verify.require_equal(rows["f32"].equality, exact)
    for kind in [kind for kind in kinds if kind != "f32"]:
        weights = _importance(opened, learnt, work) if kind in quantize.CALIBRATED else None
        made = partial(quantize.quantize, exact, type_name=kind, importance=weights)
        rows[kind] = _row(opened, exact, work.file(f"{kind}.gguf", f"quantize {kind}", made), kind, samples, work)
    return rows


def _row(
    opened: Checkpoint, exact: Path, model: Path, kind: str, samples: Sequence[Pair], work: Stages, parity: Samples = tuple
) -> Row:  # fmt: skip
    """What a file is like; with the pairs of `parity` its tokens alone are compared, once for all types."""
    stage = f"compare {kind}"

    def compared() -> dict[str, Any]:
        return asdict(verify.compare(opened, model, samples, each=partial(work.progress, stage), parity=parity()))

    found = work.value(f"{kind}.json", stage, compared)
    return Row(
        kind, model.stat().st_size, verify.Equality(**found), quantize.tensor_types(model),
        quantize.plan(exact, kind).fallbacks, kind in quantize.CALIBRATED,
    )  # fmt: skip


def _importance(opened: Checkpoint, learnt: Samples, work: Stages) -> dict[str, Any]:
    stage = "importance matrix"

    def make(part: Path) -> None:
        encoder = plain.encoder(opened.tokenizer)
        texts = [encoder.pair(pair) for pair in learnt()]
        fitting = [e for e in texts if len(e.ids) <= opened.config.n_positions]
        found = calibrate.importance(opened, fitting, lambda done: work.progress(stage, done, len(fitting)))
        save_file(dict(found), part)

    return load_file(work.file("importance.safetensors", stage, make))


@contextmanager
def _made(
    target: Path, room: Path, kind: str, opened: Checkpoint, about: About, rows: Sequence[Row], source: str, key: Path | None
) -> Iterator[None]:  # fmt: skip
    """A finished pack in `room`, which takes the place of `target` when the block ends well."""
    model = room / f"{kind}.gguf"
    with whole(target, room) as part:
        if target.suffix != SUFFIX:
            _fill(part, model, opened, about, rows, source)
            if key is not None:
                (part / SIGNATURE).write_bytes(signing.sign((part / pack.MANIFEST).read_bytes(), key))
        else:
            with TemporaryDirectory(dir=room) as folder:
                _fill(Path(folder) / "pack", model, opened, about, rows, source)
                building.build(pack.load(Path(folder) / "pack"), Path(folder) / target.name, key=key).replace(part)
        yield


def _fill(part: Path, model: Path, opened: Checkpoint, about: About, rows: Sequence[Row], source: str) -> None:
    """All of a pack that is not signed yet."""
    part.mkdir()
    row = rows[-1]
    shutil.copyfile(model, part / pack.MODEL)
    manifest = pack.Manifest(
        name=about.name, version=about.version, languages=tuple(about.languages), tasks=tuple(about.tasks),
        architecture="gpt2", quantization=row.kind, files={}, licence=about.licence, evaluation=about.evaluation,
        equality={r.kind: asdict(r.equality) for r in rows}, provenance=about.provenance | {"tensor_types": row.types},
    )  # fmt: skip
    texts = {
        report.JSON: report.to_json(rows, source, {"edgegen": __version__, _LLAMA: describe()[_LLAMA]}),
        report.TABLE: report.to_text(rows, manifest.label, len(verify.hard_texts(opened))),
        modelfile.NAME: modelfile.text(part / pack.MODEL, manifest),
    }
    for name, text in texts.items():
        (part / name).write_text(text, "utf-8")
    files = pack.describe(part, [pack.MODEL, *_beside(opened, part), *texts])
    pack.write_manifest(part, replace(manifest, files=files))
    pack.load(part)


def _beside(opened: Checkpoint, part: Path) -> list[str]:
    """What a checkpoint holds for the pack beside its weights: the tables that training made for its tokenizer.

    Of a base with an adapter merged, the table of licensed words is left out, which would forbid those that the adapter was
    trained for, and with more tokens the table of drafts too, which fits the base's.
    """
    fitting = [licensing.FILE, pack.DRAFT]
    if opened.built is not None:
        same = configs.checked(configs.read(opened.folder), str(opened.folder)).vocab_size == opened.config.vocab_size
        fitting = [pack.DRAFT] if same else []
    found = [name for name in fitting if (opened.folder / name).is_file()]
    for name in found:
        shutil.copyfile(opened.folder / name, part / name)
    return found


def _opened(checkpoint: str | Path | None, adapter: Path | None) -> Checkpoint:
    if adapter is not None:
        return open_adapted(adapter, checkpoint)
    if checkpoint is None:
        raise UsageError("There is nothing to convert. Give a checkpoint, an adapter, or both.")
    return open_checkpoint(checkpoint)


def record_evaluation(folder: Path, evaluation: dict[str, Any], files: Mapping[str, str] | None = None) -> None:
    """Write an evaluation into a pack that was evaluated after it was built, with `files` (name: text) that belong to it.

    Raises PackError, StorageError, and UsageError for a signed pack, whose signature would not fit any more.
    """
    if (folder / pack.SIGNATURE).exists():
        raise UsageError(f"{folder} is signed, so its manifest cannot change. Record into the pack it was built from.")
    manifest, texts = pack.load(folder).manifest, files or {}
    with ExitStack() as parts:
        # The manifest takes its place last: until then the old one lists the old files, and a run that ends here is repeated.
        part = parts.enter_context(whole(folder / pack.MANIFEST))
        for name, text in texts.items():
            with whole(folder / name) as file:
                file.write_text(text, "utf-8")
        entries = manifest.files | pack.describe(folder, texts)
        part.write_text(pack.to_text(replace(manifest, evaluation=evaluation, files=entries)), "utf-8")


def _check_tasks(opened: Checkpoint, about: About) -> None:
    """A pack names tasks where its model has the tokens for them, and none where it has not."""
    lacking = opened.words.missing
    if lacking and about.tasks:
        raise ConvertError(
            f"{opened.folder}: the tokenizer lacks edgegen's tokens ({', '.join(lacking[:3])}, ...), so it can serve no task. "
            "Train it for them first with `edgegen train lora`, or name no task (--tasks none): /v1/completions can use it."
        )
    if not lacking and not about.tasks:
        raise UsageError("A pack whose model has edgegen's tokens needs one task at least. Name it.")


def _check(out: Path, about: About) -> None:
    if not about.languages:
        raise UsageError("A pack needs one language at least. Name them.")
    for lang in about.languages:
        if lang not in LANGS:
            raise UsageError(f"Unknown language {lang!r}. Known: {', '.join(LANGS)}.")
    for task in about.tasks:
        known.get(task)
    if out.suffix == SUFFIX:
        if out.is_dir():
            raise UsageError(f"{out} is a folder; a path that ends in {SUFFIX} is for a file. Choose another path.")
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; a pack is a folder, or a file that ends in {SUFFIX}. Choose another path.")
    if out.is_dir() and any(out.iterdir()) and not (out / pack.MANIFEST).is_file():
        raise UsageError(f"{out} holds something that is not a pack. Choose an empty or new folder.")
