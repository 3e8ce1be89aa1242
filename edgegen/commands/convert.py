"""Turn a GPT-2 checkpoint into a pack: GGUF, quantized, compared with the original."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from edgegen import pack, tasks
from edgegen.commands._shared import language, provenance, say
from edgegen.domain import LANGS
from edgegen.errors import DataError, NotFoundError, UsageError, extra
from edgegen.pack.source import SUFFIX
from edgegen.progress import Progress

_OF_PACKS = ("quant", "force", "data", "key", "name", "pack_version", "langs", "tasks", "licence", "provenance", "evaluation")

_MOST_LEARNT, _MOST_HELD = 160, 60  # pairs: more take longer and say the same


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("checkpoint", nargs="?", help="folder with config, weights and tokenizer, or a hub name")
    parser.add_argument("--adapter", type=Path, help="folder of a PEFT adapter to merge; default base: the one it names")
    parser.add_argument("--as-adapter", action="store_true", help="write the adapter itself as GGUF, not merged")
    parser.add_argument(
        "--out", type=Path,
        help="the pack: a folder, or a file NAME.egpack; with several types NAME-TYPE.egpack; with --as-adapter a .gguf file",
    )  # fmt: skip
    parser.add_argument(
        "--quant", default="q8_0",
        help="f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0, ...; several with commas; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print sizes and what falls back to another type, write nothing")
    parser.add_argument("--force", action="store_true", help="keep a quantization that loses more than its type may")
    parser.add_argument("--data", type=Path, help="JSONL of own pairs to compare and to calibrate on; default: the corpus")
    parser.add_argument("--key", type=Path, help="private key to sign the pack with")
    parser.add_argument("--name", help="of the pack; default: the name of --out")
    parser.add_argument("--pack-version", default="1", help="default: %(default)s")
    parser.add_argument("--langs", default=",".join(LANGS), help="default: %(default)s")
    parser.add_argument("--tasks", default="", help="names, with commas, or `none` for a model of plain text; default: all")
    parser.add_argument("--licence", default="Apache-2.0", help="default: %(default)s")
    parser.add_argument("--provenance", type=Path, help="JSON file on the training; default: what it wrote beside the checkpoint")
    parser.add_argument("--evaluation", type=Path, help="JSON file of `edgegen evaluate --report`")


def run(args: argparse.Namespace) -> int:
    """Convert; prints where the packs are, or the adapter's file."""
    if args.dry_run and args.as_adapter:
        raise UsageError("--dry-run is said of packs, and --as-adapter writes none. Leave one of them out.")
    if args.dry_run:
        return _dry_run(args)
    if args.out is None:
        raise UsageError("There is no place for the pack. Give one with --out, or look first with --dry-run.")
    if args.as_adapter:
        return _adapter_alone(args)
    with _progress() as progress:
        made = converted(args, progress)
    for path in made:
        _say_what_it_lost(pack.read_manifest(path))
        sys.stdout.write(f"{path}\n")
    return 0


def converted(args: argparse.Namespace, progress: Progress) -> list[Path]:
    """Convert to packs as the options say; gives where they are. Raises MissingExtraError, and what `build_packs` raises."""
    about = _about(args)
    learnt, held = _own(args.data) if args.data else (None, None)
    made: list[Path] = _building().build_packs(
        args.checkpoint, args.out, about, adapter=args.adapter, quants=args.quant.split(","), key=args.key,
        pairs=held, calibration=learnt, force=args.force, progress=progress,
    )  # fmt: skip
    return made


def check(args: argparse.Namespace) -> list[Path]:
    """Raise what the options of a conversion are refused for before any work; gives where the packs will be."""
    made: list[Path] = _building().check(args.out, _about(args), args.quant.split(","), args.key)
    return made


def _about(args: argparse.Namespace) -> Any:
    return _building().About(
        name=args.name or args.out.name.removesuffix(SUFFIX),
        version=args.pack_version,
        languages=[language(lang) for lang in args.langs.split(",")],
        tasks=[] if args.tasks == "none" else [name for name in args.tasks.split(",") if name] or list(tasks.names()),
        licence=args.licence,
        provenance=_json(args.provenance) or _training(args) | _sources(args),
        evaluation=_evaluation(args.evaluation),
    )


def _building() -> Any:
    with extra("Converting"):
        from convert import build
    return build


def _own(path: Path) -> tuple[list[Any], list[Any]]:
    """Pairs of a file to calibrate and to compare on, the ones that `edgegen train lora` learns from and holds out."""
    from edgegen.train import pairs

    learnt, held = pairs.split(list(pairs.read(path)))
    if not held:
        raise DataError(f"{path} holds no pairs. Each line needs task, lang, sections and text.")
    return learnt[:: 1 + len(learnt) // _MOST_LEARNT], held[:: 1 + len(held) // _MOST_HELD]


def _dry_run(args: argparse.Namespace) -> int:
    build = _building()
    from convert.report import fallback_notes

    for plan in build.plans(args.checkpoint, args.quant.split(","), args.adapter):
        sys.stdout.write("  ".join([f"{plan.kind:8} {plan.size / 1e6:10.1f} MB", *fallback_notes(plan.fallbacks)]) + "\n")
    return 0


def _say_what_it_lost(manifest: pack.Manifest) -> None:
    for kind, figures in manifest.equality.items():
        say(f"{kind}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar for each stage on a terminal, else a line as each is finished."""
    console = Console(stderr=True)
    if not console.is_terminal:
        told = set[str]()

        def tell(stage: str, done: int, total: int, _note: str = "") -> None:
            if done == total and stage not in told:
                told.add(stage)
                say(f"{stage}: done")

        yield tell
        return
    columns = (TextColumn("{task.description:22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console) as bar:
        jobs: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int, _note: str = "") -> None:
            if stage not in jobs:
                jobs[stage] = bar.add_task(stage, total=total)
            bar.update(jobs[stage], completed=done, total=total)

        yield progress


def _adapter_alone(args: argparse.Namespace) -> int:
    usual = argparse.ArgumentParser()
    add_arguments(usual)
    if args.adapter is None:
        raise UsageError("--as-adapter writes an adapter as GGUF. Name its folder with --adapter.")
    if given := [name for name in _OF_PACKS if getattr(args, name) != usual.get_default(name)]:
        raise UsageError(f"--{given[0].replace('_', '-')} is said of packs, and --as-adapter writes none. Leave it out.")
    _building()
    from convert import adapter

    sys.stdout.write(f"{adapter.write(args.adapter, args.out, args.checkpoint)}\n")
    return 0


def _training(args: argparse.Namespace) -> dict[str, Any]:
    """What the training of an adapter, else of a checkpoint, says of itself."""
    return provenance(Path(args.adapter or args.checkpoint)) if args.adapter or args.checkpoint else {}


def _sources(args: argparse.Namespace) -> dict[str, str]:
    named = {"checkpoint": args.checkpoint, "adapter": args.adapter}
    return {key: Path(value).absolute().name for key, value in named.items() if value is not None}


def _evaluation(path: Path | None) -> dict[str, Any]:
    """What a report says of its first pack."""
    from edgegen.evaluation import report

    if path is None:
        return {}
    found = _json(path)
    try:
        if found["schema"] == report.SCHEMA:
            return report.kept(found, found["packs"][0])
    except (LookupError, TypeError):
        pass
    raise DataError(f"{path} is no report of `edgegen evaluate --report` with schema {report.SCHEMA}. Evaluate again.")


def _json(path: Path | None) -> Any:
    if path is None:
        return None
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}. Check the path.")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
