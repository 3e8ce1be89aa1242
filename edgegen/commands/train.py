"""Corpus, pairs of your own texts, the bundled base, tuning, search, feedback, fusion, draft tables: a stage each."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from edgegen.commands import _augment as augmenting
from edgegen.commands import _distill as distill
from edgegen.commands import _fuse as fuse
from edgegen.commands import _prefer as prefer
from edgegen.commands import _prepare as prepare
from edgegen.errors import DataError, MissingExtraError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command a stage."""
    stages = parser.add_subparsers(dest="stage", required=True)
    corpus = stages.add_parser("corpus", help="write pairs (facts -> text) and say how varied they are")
    corpus.add_argument("--recipe", type=Path, default=Path("models/recipes/bundled.toml"), help="default: %(default)s")
    corpus.add_argument("--out", type=Path, default=Path("runs/bundled"), help="folder; default: %(default)s")
    corpus.add_argument("--split", choices=("train", "valid", "test"), help="only this one; default: all three")
    prepare.add_arguments(stages.add_parser("prepare", help="make pairs of your own texts, clean them, and report"))
    distill.add_arguments(stages.add_parser("distill", help="let a larger model write texts for a catalogue, keep the true ones"))
    augmenting.add_arguments(stages.add_parser("augment", help="let a model translate pairs there and back, keep the true ones"))
    base = stages.add_parser("base", help="train a base model by a recipe")
    base.add_argument("--recipe", type=Path, default=Path("models/recipes/bundled.toml"), help="default: %(default)s")
    base.add_argument("--out", type=Path, default=Path("runs/bundled"), help="folder; a run goes on where it ended")
    base.add_argument("--start", help="go on from these weights (bundled, a folder, a hub name) and not from scratch")
    base.add_argument("--data", type=Path, help="JSONL of pairs in place of the corpus: a model of your own texts alone")
    lora = stages.add_parser("lora", help="tune a base on pairs")
    _add_tuning(lora, Path("runs/lora"))
    lora.add_argument("--options", type=Path, help="best.json of a search, in place of the options from --kind to --mixing")
    search = stages.add_parser("search", help="find the options of an adapter: rank, alpha, rate, dropout")
    _add_tuning(search, Path("runs/search"))
    search.add_argument("--trials", type=int, default=20, help="those of an earlier call count; default: %(default)s")
    search.add_argument("--kinds", default="lora", help="of adapters to try; default: %(default)s")
    search.add_argument("--losses", default="none", help="to try, of none, fgm, rdrop; default: %(default)s")
    search.add_argument("--augments", help="to try, those joined by + together: none,order,order+dropout; default: --augment's")
    ablate = stages.add_parser("ablate", help="what each option brings: variants compared on the pairs held out")
    _add_tuning(ablate, Path("runs/ablation"))
    ablate.add_argument("--vary", action="append", required=True, metavar="NAME=VALUE,VALUE", help="an option and what to try")
    ablate.add_argument("--valid", type=Path, help="JSONL of pairs that measure; default: every twentieth of --data")
    prefer.add_arguments(stages.add_parser("prefer", help="learn from feedback which texts people prefer, or by a reward"))
    fuse.add_arguments(stages.add_parser("fuse", help="make one adapter of several on the same base"))
    drafts = stages.add_parser("drafts", help="make the draft table of a pack that has none, for `edgegen pack build --add`")
    drafts.add_argument("--pack", type=Path, help="whose model it is for; default: the active one, else the bundled one")
    drafts.add_argument("--corpus", type=Path, default=Path("runs/bundled/corpus"), help="folder; default: %(default)s")
    drafts.add_argument("--data", type=Path, help="JSONL of pairs in place of a corpus")
    drafts.add_argument("--out", type=Path, default=Path("runs/bundled"), help="folder; default: %(default)s")


def _add_tuning(parser: argparse.ArgumentParser, out: Path) -> None:
    """What a tuning takes."""
    parser.add_argument("--data", type=Path, required=True, help="JSONL of pairs: task, lang, sections, text")
    parser.add_argument("--base", default="bundled", help="bundled, a folder, or a hub name; default: %(default)s")
    parser.add_argument("--out", type=Path, default=out, help="folder; default: %(default)s")
    parser.add_argument("--kind", default="lora", help="lora, rslora, dora, adalora, or prefix (for comparison); default: lora")
    parser.add_argument("--rank", type=int, default=8, help="of the adapter, or length of the prefix; default: %(default)s")
    parser.add_argument("--alpha", type=float, help="default: twice the rank")
    parser.add_argument("--dropout", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--targets", default="c_attn,c_proj,c_fc", help="matrices with an adapter; default: %(default)s")
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
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
    parser.add_argument("--evaluate-every", type=int, help="steps between evaluations and checkpoints; default: at the end")
    parser.add_argument("--track", default="tensorboard", help="where losses go: tensorboard, wandb, none; default: %(default)s")
    parser.add_argument("--checkpointing", action="store_true", help="less memory, a third slower")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Run the stage."""
    known = {
        "corpus": _corpus, "prepare": prepare.run, "prefer": prefer.run, "distill": distill.run,
        "augment": augmenting.run, "base": _base,
        "lora": _lora, "search": _search, "ablate": _ablate, "fuse": fuse.run, "drafts": _drafts,
    }  # fmt: skip
    return known[args.stage](args)


def say(text: str) -> None:
    """Talk goes to stderr."""
    sys.stderr.write(text + "\n")


def _missing(error: ImportError) -> MissingExtraError:
    return MissingExtraError(f"Training needs the package {error.name}. Install it: pip install 'edgegen[train]'.")


def _corpus(args: argparse.Namespace) -> int:
    try:
        from edgegen.train import base
    except ImportError as error:
        raise _missing(error) from error
    from edgegen.train.corpus.report import as_read, delexicalised, diversity

    base.corpus(base.read(args.recipe), args.out / "corpus", say, [args.split] if args.split else base.SPLITS)
    by_file: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pair in base.load(args.out / "corpus", args.split or "train"):
        texts = by_file.setdefault((pair.request.task, pair.request.lang), [])
        texts.append((delexicalised(pair), as_read(pair)))
    sys.stdout.write("task      lang   texts  distinct  4-grams  distinct  type/token  top sentence: keys for values, as read\n")
    groups = [*by_file.items(), (("all", "zh+en"), [text for texts in by_file.values() for text in texts])]
    for (task, lang), texts in groups:
        keyed, read = (diversity(column) for column in zip(*texts, strict=True))
        sys.stdout.write(
            f"{task:9} {lang:5} {keyed.texts:6} {keyed.distinct_texts:9.3f} {keyed.four_grams:8} {keyed.distinct_4grams:9.3f} "
            f"{keyed.type_token:11.4f} {keyed.top_sentence:14.3%} {read.top_sentence:.3%} {read.top_sentence_text}\n"
        )
    return 0


def _base(args: argparse.Namespace) -> int:
    try:
        from edgegen.train import base, pairs
    except ImportError as error:
        raise _missing(error) from error
    recipe = base.read(args.recipe)
    own = list(pairs.read(args.data)) if args.data else None
    sys.stdout.write(f"{base.train(recipe, args.out, say, args.start, own)}\n")
    return 0


def _lora(args: argparse.Namespace) -> int:
    try:
        from edgegen.train import lora
    except ImportError as error:
        raise _missing(error) from error
    train, held = _pairs(args)
    options = _options(args) if args.options is None else lora.from_json(args.options)
    if options.kind == "prefix":
        say("A prefix stands beside the weights: it cannot be merged, converted or served. Its loss is for comparison.")
    tuned = lora.tune(args.base, train, held, args.out, options)
    if os.environ.get("RANK", "0") != "0":
        return 0  # the first process of `torchrun` speaks for all
    if tuned.merged is None:
        losses = [entry["eval_loss"] for entry in tuned.log if "eval_loss" in entry]
        say(f"loss on the pairs held out: {losses[-1]:.4f}" if losses else "no pairs were held out")
        sys.stdout.write(f"{tuned.adapter}\n")
        return 0
    say(f"adapter: {tuned.adapter}\nmerged, for `edgegen convert`:")
    sys.stdout.write(f"{tuned.merged}\n")
    return 0


def _drafts(args: argparse.Namespace) -> int:
    try:
        from edgegen.train import base, drafts, pairs
    except ImportError as error:
        raise _missing(error) from error
    from edgegen.commands._shared import open_pack
    from edgegen.pack import DRAFT

    found = pairs.read(args.data) if args.data else base.load(args.corpus, "train")
    table = drafts.of_model(open_pack(args.pack).model, found)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / DRAFT).write_bytes(table.to_bytes())
    say(f"{len(table.keys)} contexts")
    sys.stdout.write(f"{args.out / DRAFT}\n")
    return 0


def _search(args: argparse.Namespace) -> int:
    try:
        from edgegen.train import search
    except ImportError as error:
        raise _missing(error) from error
    train, held = _pairs(args)
    augments = (args.augments or args.augment.replace(",", "+")).split(",")
    space = search.Space(kinds=args.kinds.split(","), adversarial=args.losses.split(","), augments=augments)
    found = search.search(args.base, train, held, args.out, _options(args), trials=args.trials, space=space, say=say)
    say(f"{found.finished} trials finished, {found.pruned} pruned; the best has loss {found.loss:.4f} on the pairs held out")
    say("tune with it: edgegen train lora --options FILE")
    sys.stdout.write(f"{args.out / search.BEST}\n")
    return 0


def _ablate(args: argparse.Namespace) -> int:
    try:
        from edgegen.train import ablate, pairs
    except ImportError as error:
        raise _missing(error) from error
    if bad := [given for given in args.vary if "=" not in given]:
        raise UsageError(f"--vary {bad[0]}: write NAME=VALUE,VALUE, for example --vary augment=order,dropout.")
    vary = dict[str, list[str]]()
    for name, values in (given.split("=", 1) for given in args.vary):
        vary.setdefault(name, []).extend(values.split(","))
    train, held = _pairs(args) if args.valid is None else (list(pairs.read(args.data)), list(pairs.read(args.valid)))
    sys.stdout.write(ablate.table(ablate.ablate(args.base, train, held, args.out, _options(args), vary, say)))
    say(f"as data: {args.out / ablate.REPORT}")
    return 0


def _pairs(args: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """The pairs of the file to learn from, and those that are held out."""
    from edgegen.train import pairs

    found = list(pairs.read(args.data))
    if not found:
        raise DataError(f"{args.data} holds no pairs. Each line needs task, lang, sections and text.")
    return pairs.split(found)


def _options(args: argparse.Namespace) -> Any:
    from edgegen.train import augment
    from edgegen.train.fit import FitOptions
    from edgegen.train.lora import LoraOptions

    fit = FitOptions(
        steps=args.steps, batch=args.batch, accumulate=args.accumulate, rate=args.rate, schedule=args.schedule, seed=args.seed,
        adversarial=args.adversarial, strength=args.strength, mixing=args.mixing, patience=args.patience,
        checkpointing=args.checkpointing, track=args.track, warmup=max(1, args.steps // 20),
        save_every=args.evaluate_every or args.steps,
    )  # fmt: skip
    alpha = 2.0 * args.rank if args.alpha is None else args.alpha
    ways = augment.parse(args.augment)
    return LoraOptions(args.kind, args.rank, alpha, args.dropout, tuple(args.targets.split(",")), ways, args.copies, fit)
