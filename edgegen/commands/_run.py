"""`edgegen train run`: a recipe's stages from texts to a pack. Each is the very function that its own command calls."""

from __future__ import annotations

import argparse
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.commands import _prepare, _recipe, _shared, _subjects, _tune, convert, evaluate, pack
from edgegen.errors import DataError, UsageError, extra
from edgegen.evaluation import html, report
from edgegen.pack.source import SUFFIX
from edgegen.progress import Display, Progress

if TYPE_CHECKING:
    from edgegen.train.pipeline import Stage

_COMMANDS = {
    "prepare": "train prepare", "tune": "train lora", "evaluate": "evaluate", "convert": "convert", "pack": "pack build",
}  # fmt: skip
_POSITIONAL = ("packs", "checkpoint", "path")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    listed = ", ".join(f"[{stage}] those of `edgegen {command}`" for stage, command in _COMMANDS.items())
    parser.epilog = f"A recipe's tables take the options of commands by their names: {listed}."
    parser.add_argument("recipe", type=Path, help="TOML file; paths in it begin at its folder")
    parser.add_argument("--out", type=Path, help="folder of the run; default: beside the recipe, shop.run for shop.toml")
    parser.add_argument("--check", action="store_true", help="only say whether it can run")
    parser.add_argument("--from", choices=_COMMANDS, dest="start", help="do this stage and those after it anew")


def run(args: Namespace) -> int:
    """Run the recipe; prints where the packs are."""
    with extra("Training"):
        from edgegen.train import pipeline
    recipe: Path = args.recipe.absolute()
    out: Path = (args.out or recipe.with_suffix(".run")).absolute()
    tables = _recipe.read(recipe, _COMMANDS)
    _hush()
    with chdir(recipe.parent):
        stages = _stages(_Run(recipe.stem, tables, out))
        if args.check:
            pipeline.check(stages, out, args.start)
            _shared.say(f"{args.recipe} can run in {out}")
            return 0
        with Display() as display:
            pipeline.run(stages, out, display, args.start)
    sys.stdout.writelines(f"{path}\n" for path in stages[-1].made)
    return 0


def _hush() -> None:
    """One progress display is enough: no bars of transformers, and no warning that is PEFT's matter."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)


@dataclass(frozen=True, slots=True)
class _Run:
    """A recipe's name and tables, and where each stage leaves what the next ones read."""

    name: str
    tables: dict[str, _recipe.Table]
    out: Path

    def split(self, name: str) -> Path:
        """The pairs of a split."""
        return self.out / "prepare" / f"{name}.jsonl"

    @property
    def merged(self) -> Path:
        """The tuned checkpoint."""
        return self.out / "tune" / "merged"

    @property
    def reports(self) -> tuple[Path, Path]:
        """The evaluation as JSON and as a page."""
        return self.out / "evaluate" / report.FILE, self.out / "evaluate" / html.FILE

    def options(
        self, stage: str, add: Callable[[argparse.ArgumentParser], None], own: dict[str, Any], closed: Iterable[str] = ()
    ) -> Namespace:
        """A stage's options; `own` are the run's, `closed` those that it has no use for."""
        return _recipe.options(stage, self.tables[stage], add, own, (*closed, *_POSITIONAL))

    def stage(self, name: str, args: Namespace, own: Iterable[str], made: list[Path], work: Callable[[Progress], str]) -> Stage:
        """A stage with the key of its options."""
        from edgegen.train.pipeline import Stage

        return Stage(name, _recipe.key(args, {*own, *_POSITIONAL}), made, work)


def _stages(run: _Run) -> list[Stage]:
    """All stages, checked as far as they can be before any work. Raises what the commands raise for their options."""
    converting, packs = _converting(run)
    return [_preparing(run), _tuning(run), _evaluating(run), converting, _packing(run, packs)]


def _preparing(run: _Run) -> Stage:
    own = {"out": run.out / "prepare"}
    args = run.options("prepare", _prepare.add_arguments, own)
    _prepare.options(args)

    def work(progress: Progress) -> str:
        found = _prepare.prepared(args, lambda text: progress(text, 1, 1)).outcomes
        if not run.split("test").stat().st_size:
            raise DataError(
                f"No text of {args.data} came into the test split, so the model could not be measured. Give more texts, a "
                "larger share ([prepare] test), or a file of its own (test-data)."
            )
        kept = sum(outcome.kept for part in found.values() for outcome in part)
        return f"{kept} of {sum(map(len, found.values()))} texts kept; see {own['out'] / 'report.html'}"

    return run.stage("prepare", args, own, [run.split(name) for name in ("train", "test")], work)


def _tuning(run: _Run) -> Stage:
    own = {"data": run.split("train"), "valid-data": run.split("valid"), "out": run.out / "tune"}
    args = run.options("tune", _tune.add_lora, own)
    _tune.check(args)
    if _tune.options(args).kind == "prefix":
        raise UsageError("[tune]: a prefix cannot be merged and so makes no pack. Choose another kind.")

    def work(progress: Progress) -> str:
        if not args.valid_data.is_file() or not args.valid_data.stat().st_size:
            args.valid_data = None  # too few texts, or none given beside a test file: every twentieth of the others measures
        losses = [entry["eval_loss"] for entry in _tune.tuned(args, progress).log if "eval_loss" in entry]
        return f"loss {losses[-1]:.4f} on pairs held out" if losses else "no pairs were held out"

    if args.options is None:
        vars(args).pop("_given", None)  # matters beside --options alone
    return run.stage("tune", args, {*own, "track"}, [run.merged], work)  # where losses go makes no other run


def _evaluating(run: _Run) -> Stage:
    written, page = run.reports
    own = {"": [str(run.merged)], "data": run.split("test"), "report": written, "html": page}
    others = ("corpus", "catalogue", "map", "format", "currency", "shoppers", "record", "pack", "adapter", "show", "worst")
    args = run.options("evaluate", evaluate.add_arguments, own, others)
    evaluate.check(args)
    if args.against is not None and not _subjects.is_checkpoint(args.against):
        _shared.open_pack(args.against)

    def work(progress: Progress) -> str:
        written.parent.mkdir(exist_ok=True)
        evaluate.scored(args, progress)
        return f"see {page}"

    return run.stage("evaluate", args, own, [written, page], work)


def _converting(run: _Run) -> tuple[Stage, Namespace]:
    """The stage, and its options, which those of the packs go by."""
    own = {"": [str(run.merged)], "out": run.out / "convert" / run.name, "data": run.split("train")}
    args = run.options("convert", convert.add_arguments, own, ("adapter", "as-adapter", "dry-run", "evaluation", "key"))
    made = convert.check(args)

    def work(progress: Progress) -> str:
        args.evaluation = run.reports[0]
        return ", ".join(path.name for path in convert.converted(args, progress))

    return run.stage("convert", args, own, made, work), args


def _packing(run: _Run, converting: Namespace) -> Stage:
    table = run.tables["pack"]
    name = table.get("name") or converting.name or run.name
    own: dict[str, Any] = {"": [str(converting.out)]} | ({} if "out" in table else {"out": run.out / f"{name}{SUFFIX}"})
    args = run.options("pack", pack.add_building, own)
    label = {"name": name, "pack_version": args.pack_version or converting.pack_version, "key": args.key}
    folders, made = (convert.check(Namespace(**vars(converting) | label | {"out": out})) for out in (converting.out, args.out))

    def work(progress: Progress) -> str:
        for at, (folder, out) in enumerate(zip(folders, made, strict=True), 1):
            progress(f"write {out.name}", at, len(made))
            pack.built(Namespace(**vars(args) | {"path": folder, "out": out, "add": [*run.reports, *args.add]}))
        return ", ".join(path.name for path in made)

    return run.stage("pack", args, own, made, work)
