"""What is scored: a pack, or a checkpoint, which is converted to F32 and run by the same engine as packs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgegen import licensing, pack, tasks
from edgegen.commands import _shared
from edgegen.engine import open_engine
from edgegen.engine.loop import Engine
from edgegen.errors import ConvertError, PackError, extra
from edgegen.explain import Explainer

_CONFIGS = ("config.json", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that runs, and what is known of it; `size` is that of its GGUF in bytes. A checkpoint may know any task."""

    label: str
    quantization: str
    size: int
    explainer: Explainer
    engine: Engine
    provenance: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = field(default_factory=tasks.every)


def is_checkpoint(path: Path) -> bool:
    """Whether a folder holds a checkpoint or an adapter and no pack."""
    return not (path / pack.MANIFEST).is_file() and any((path / name).is_file() for name in _CONFIGS)


@contextmanager
def opened(path: Path | None, threads: int | None = None, adapter: Path | None = None) -> Iterator[Subject]:
    """A pack or checkpoint with an engine on it, closed at the end.

    Raises PackError, NotFoundError, EngineError, and for a checkpoint MissingExtraError, ConvertError, StorageError.
    """
    if path is not None and is_checkpoint(path):
        with _converted(path, threads, adapter) as subject:
            yield subject
        return
    found = _shared.open_pack(path)
    if not found.manifest.tasks:
        raise PackError(
            f"The pack {found.manifest.label} names no tasks: its model has no slot tokens and only completes plain text. Use "
            "another one."
        )
    about = found.manifest
    with _shared.pack_engine(found, threads, adapter) as engine:
        explainer = Explainer(engine, _shared.licensing(found, adapter))
        size = found.model.stat().st_size
        yield Subject(about.label, about.quantization, size, explainer, engine, about.provenance, about.tasks)


@contextmanager
def _converted(path: Path, threads: int | None, adapter: Path | None) -> Iterator[Subject]:
    with extra("Scoring checkpoints"):
        from convert import gpt2
        from convert.checkpoint import open_checkpoint
        from convert.merge import open_adapted
    checkpoint = open_checkpoint(path) if (path / _CONFIGS[0]).is_file() else open_adapted(path, None)
    if lacking := checkpoint.words.missing:
        raise ConvertError(
            f"{path}: the tokenizer lacks edgegen's tokens ({', '.join(lacking[:3])}, ...), so it can serve no task. Train it "
            "for them first with `edgegen train lora`."
        )
    with TemporaryDirectory(prefix="edgegen-") as folder:
        model = gpt2.write(checkpoint, Path(folder) / pack.MODEL)
        with _engine(model, threads, adapter) as engine:
            table = None if adapter else _table(path)
            label = "/".join(path.resolve().parts[-2:])  # of many runs the last name is `merged`
            explainer = Explainer(engine, table)
            yield Subject(label, "f32", model.stat().st_size, explainer, engine, _shared.provenance(path))


def _engine(model: Path, threads: int | None, adapter: Path | None) -> Engine:
    from dataclasses import replace

    from edgegen import hardware

    setting = hardware.known(model).setting
    return open_engine(model, setting=replace(setting, threads=threads) if threads else setting, adapter=adapter)


def _table(folder: Path) -> licensing.Table | None:
    """What training wrote beside the checkpoint about its words."""
    path = folder / licensing.FILE
    if not path.is_file():
        return None
    try:
        return licensing.from_text(path.read_text("utf-8"))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PackError(f"{path} cannot be read: {error}. Train again, or delete it.") from error
