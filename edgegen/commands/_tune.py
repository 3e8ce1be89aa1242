"""`edgegen train lora`, `search` and `ablate`: the options of a tuning, its pairs, and what is told of it."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.commands._shared import say
from edgegen.errors import DataError, UsageError, extra
from edgegen.progress import Progress, plain

if TYPE_CHECKING:
    from edgegen.train.lora import LoraOptions, Tuned
    from edgegen.train.pairs import Pair

_LEAST = 2  # pairs: of a single one nothing can be both learnt and held out
_CHECKPOINTS = 10
_STEPS = 200
_TRIED = {"kind", "rank", "alpha", "rate", "dropout", "adversarial"}


class _Given(argparse.Action):
    """Stores a value, and that it was given: an option beside --options wins, one that a search tries is refused."""

    def __call__(self, *call: Any) -> None:
        """Of each option that is there: the parser, its namespace, the value, the option."""
        _, namespace, values, *_ = call
        setattr(namespace, self.dest, values)
        namespace._given = sorted({*_named(namespace), self.dest})  # in order: recipes compare it between runs


def _named(args: argparse.Namespace) -> set[str]:
    """The options that were given."""
    return set(getattr(args, "_given", ()))


def add_lora(parser: argparse.ArgumentParser) -> None:
    """The options of `lora`."""
    _add_tuning(parser, Path("runs/lora"))
    parser.add_argument("--options", type=Path, help="best.json of a search; what is given beside it wins")


def add_search(parser: argparse.ArgumentParser) -> None:
    """The options of `search`."""
    _add_tuning(parser, Path("runs/search"))
    parser.add_argument("--trials", type=int, default=20, help="those of an earlier call count; default: %(default)s")
    parser.add_argument("--kinds", default="lora", help="of adapters to try; default: %(default)s")
    parser.add_argument("--losses", default="none", help="to try, of none, fgm, rdrop; default: %(default)s")
    parser.add_argument("--augments", help="to try, those joined by + together: none,order,order+dropout; default: --augment's")


def add_ablate(parser: argparse.ArgumentParser) -> None:
    """The options of `ablate`."""
    _add_tuning(parser, Path("runs/ablation"))
    parser.add_argument("--vary", action="append", required=True, metavar="NAME=VALUE,VALUE", help="an option and what to try")


def _add_tuning(parser: argparse.ArgumentParser, out: Path) -> None:
    """What a tuning takes. The defaults are those of LoraOptions, which cannot be imported before training is asked for."""
    parser.register("action", None, _Given)
    parser.add_argument("--data", type=Path, required=True, help="JSONL of pairs: task, lang, sections, text")
    parser.add_argument("--valid-data", type=Path, help="JSONL of pairs that only measure; default: every twentieth of --data")
    parser.add_argument("--base", default="bundled", help="bundled, a folder, or a hub name; default: %(default)s")
    parser.add_argument("--out", type=Path, default=out, help="folder; default: %(default)s")
    parser.add_argument("--kind", default="lora", help="lora, rslora, dora, adalora, or prefix (for comparison); default: lora")
    parser.add_argument("--rank", type=int, default=8, help="of the adapter, or length of the prefix; default: %(default)s")
    parser.add_argument("--alpha", type=float, help="default: twice the rank")
    parser.add_argument("--dropout", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--targets", default="c_attn,c_proj,c_fc", help="matrices with an adapter; default: %(default)s")
    parser.add_argument("--steps", type=int, help=f"default: {_STEPS}, or those of --options")
    parser.add_argument("--batch", type=int, default=16, help="pairs in a pass of all processes; default: %(default)s")
    parser.add_argument("--accumulate", type=int, default=1, help="passes in a step; default: %(default)s")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate; default: %(default)s")
    parser.add_argument("--schedule", default="stable", help="of the rate: stable or cosine; default: %(default)s")
    parser.add_argument("--adversarial", default="none", help="none, fgm or rdrop; default: %(default)s")
    parser.add_argument("--strength", type=float, default=1.0, help="of fgm or rdrop; default: %(default)s")
    parser.add_argument("--mixing", type=float, default=1.0, help="temperature of the mix of tasks; default: %(default)s")
    parser.add_argument("--augment", default="none", help="changed copies: some of plans,dropout,order,synonyms,facts")
    parser.add_argument("--copies", type=int, default=1, help="of a pair, with --augment, at most; default: %(default)s")
    parser.add_argument("--patience", type=int, default=0, help="evaluations without gain after which it ends; default: none")
    parser.add_argument("--evaluate-every", type=int, help="steps between evaluations and checkpoints; default: a tenth of all")
    parser.add_argument("--track", default="tensorboard", help="where losses go: tensorboard, wandb, none; default: %(default)s")
    parser.add_argument("--checkpointing", action="store_true", help="less memory, a third slower")
    parser.add_argument("--seed", type=int, default=0)


def tuned(args: argparse.Namespace, progress: Progress = plain) -> Tuned:
    """Tune as the options of `lora` say. Raises MissingExtraError, and what `lora.tune` raises."""
    lora = _lora()
    train, held = pairs_of(args)
    found: Tuned = lora.tune(args.base, train, held, args.out, options(args), progress)
    return found


def check(args: argparse.Namespace) -> None:
    """Raise what the options of `lora` and the base are refused for before any work."""
    _lora().check(args.base, options(args))


def run_lora(args: argparse.Namespace) -> int:
    """Tune, and say where the adapter and the merged checkpoint are."""
    if options(args).kind == "prefix":
        say("A prefix stands beside the weights: it cannot be merged, converted or served. Its loss is for comparison.")
    found = tuned(args)
    if os.environ.get("RANK", "0") != "0":
        return 0  # the first process of `torchrun` speaks for all
    if found.merged is None:
        losses = [entry["eval_loss"] for entry in found.log if "eval_loss" in entry]
        say(f"loss on the pairs held out: {losses[-1]:.4f}" if losses else "no pairs were held out")
        sys.stdout.write(f"{found.adapter}\n")
        return 0
    say(f"adapter: {found.adapter}\nmerged, for `edgegen convert`:")
    sys.stdout.write(f"{found.merged}\n")
    return 0


def run_search(args: argparse.Namespace) -> int:
    """Search, and say where the best options are."""
    _lora()
    from edgegen.train import search

    train, held = pairs_of(args)
    if tried := sorted(_TRIED & _named(args)):
        raise UsageError(f"--{tried[0]} is what a search tries. Leave it out; which kinds and losses, say --kinds and --losses.")
    augments = (args.augments or args.augment.replace(",", "+")).split(",")
    space = search.Space(kinds=args.kinds.split(","), adversarial=args.losses.split(","), augments=augments)
    found = search.search(args.base, train, held, args.out, _given(args), trials=args.trials, space=space, say=say)
    say(f"{found.finished} trials finished, {found.pruned} pruned; the best has loss {found.loss:.4f} on the pairs held out")
    say("tune with it: edgegen train lora --options FILE")
    sys.stdout.write(f"{args.out / search.BEST}\n")
    return 0


def run_ablate(args: argparse.Namespace) -> int:
    """Compare, and print the table."""
    _lora()
    from edgegen.train import ablate

    if bad := [given for given in args.vary if "=" not in given]:
        raise UsageError(f"--vary {bad[0]}: write NAME=VALUE,VALUE, for example --vary augment=order,dropout.")
    vary = dict[str, list[str]]()
    for name, values in (given.split("=", 1) for given in args.vary):
        vary.setdefault(name, []).extend(values.split(","))
    train, held = pairs_of(args)
    sys.stdout.write(ablate.table(ablate.ablate(args.base, train, held, args.out, _given(args), vary, say)))
    say(f"as data: {args.out / ablate.REPORT}")
    return 0


def _lora() -> Any:
    with extra("Training"):
        from edgegen.train import lora
    return lora


def pairs_of(args: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """The pairs to learn from, and those that only measure. Raises NotFoundError, DataError."""
    from edgegen.train import pairs

    found = list(pairs.read(args.data))
    if not found:
        raise DataError(f"{args.data} holds no pairs. Each line needs task, lang, sections and text.")
    if args.valid_data is not None:
        return found, list(pairs.read(args.valid_data))
    if len(found) < _LEAST:
        raise DataError(f"{args.data} holds one pair, so none can be held out. Give at least {_LEAST}, better some hundreds.")
    return pairs.split(found)


def options(args: argparse.Namespace) -> LoraOptions:
    """The options of an adapter: those given, on top of a search's. Raises OptionError, NotFoundError, DataError."""
    mine = _given(args)
    if args.options is None:
        return mine
    found: LoraOptions = _lora().from_json(args.options)
    given = _named(args) | ({"checkpointing"} if args.checkpointing else set())
    paced = _paced(args, args.steps or found.fit.steps) if given & {"steps", "evaluate_every"} else {}
    fit = replace(found.fit, **{f.name: getattr(mine.fit, f.name) for f in fields(mine.fit) if f.name in given} | paced)
    return replace(found, fit=fit, **{f.name: getattr(mine, f.name) for f in fields(mine) if f.name in given})


def _paced(args: argparse.Namespace, steps: int) -> dict[str, Any]:
    """What goes with the number of steps."""
    every = args.evaluate_every or max(1, steps // _CHECKPOINTS)
    return {"steps": steps, "warmup": max(1, steps // 20), "save_every": every}


def _given(args: argparse.Namespace) -> LoraOptions:
    lora = _lora()
    from edgegen.train import augment
    from edgegen.train.fit import FitOptions

    fit = FitOptions(
        batch=args.batch, accumulate=args.accumulate, rate=args.rate, schedule=args.schedule, seed=args.seed,
        adversarial=args.adversarial, strength=args.strength, mixing=args.mixing, patience=args.patience,
        checkpointing=args.checkpointing, track=args.track, **_paced(args, _STEPS if args.steps is None else args.steps),
    )  # fmt: skip
    alpha = 2.0 * args.rank if args.alpha is None else args.alpha
    found: LoraOptions = lora.LoraOptions(
        args.kind, args.rank, alpha, args.dropout, tuple(args.targets.split(",")), augment.parse(args.augment), args.copies, fit
    )
    return found
