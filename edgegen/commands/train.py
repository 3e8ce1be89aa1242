"""Corpus, pairs of your own texts, the bundled base, tuning, search, feedback, fusion, draft tables: a stage each."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edgegen.commands import _augment as augmenting
from edgegen.commands import _distill as distill
from edgegen.commands import _fuse as fuse
from edgegen.commands import _prefer as prefer
from edgegen.commands import _prepare as prepare
from edgegen.commands import _run as recipe
from edgegen.commands import _tune as tune
from edgegen.commands._shared import say
from edgegen.errors import UsageError, extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command a stage."""
    stages = parser.add_subparsers(dest="stage", required=True)
    recipe.add_arguments(stages.add_parser("run", help="do it all by a recipe: prepare, tune, evaluate, convert, pack"))
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
    base.add_argument("--valid-data", type=Path, help="JSONL of pairs that only measure; default: every twentieth of --data")
    tune.add_lora(stages.add_parser("lora", help="tune a base on pairs"))
    tune.add_search(stages.add_parser("search", help="find the options of an adapter: rank, alpha, rate, dropout"))
    tune.add_ablate(stages.add_parser("ablate", help="what each option brings: variants compared on the pairs held out"))
    prefer.add_arguments(stages.add_parser("prefer", help="learn from feedback which texts people prefer, or by a reward"))
    fuse.add_arguments(stages.add_parser("fuse", help="make one adapter of several on the same base"))
    drafts = stages.add_parser("drafts", help="make the draft table of a pack that has none, for `edgegen pack build --add`")
    drafts.add_argument("--pack", type=Path, help="whose model it is for; default: the active one, else the bundled one")
    drafts.add_argument("--corpus", type=Path, default=Path("runs/bundled/corpus"), help="folder; default: %(default)s")
    drafts.add_argument("--data", type=Path, help="JSONL of pairs in place of a corpus")
    drafts.add_argument("--out", type=Path, default=Path("runs/bundled"), help="folder; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Run the stage. Raises UsageError where `torchrun` has started several processes for one that takes one."""
    if args.stage != "lora" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(f"`edgegen train {args.stage}` runs in one process. For several take `torchrun -m edgegen train lora`.")
    known = {
        "corpus": _corpus, "prepare": prepare.run, "prefer": prefer.run, "distill": distill.run,
        "augment": augmenting.run, "base": _base, "lora": tune.run_lora, "run": recipe.run, "search": tune.run_search,
        "ablate": tune.run_ablate, "fuse": fuse.run, "drafts": _drafts,
    }  # fmt: skip
    return known[args.stage](args)


def _corpus(args: argparse.Namespace) -> int:
    with extra("Training"):
        from edgegen.train import base
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
    with extra("Training"):
        from edgegen.train import base
    if args.valid_data and not args.data:
        raise UsageError("--valid-data measures a training on --data; the corpus has pairs of its own for it. Leave it out.")
    own = tune.pairs_of(args) if args.data else None
    sys.stdout.write(f"{base.train(base.read(args.recipe), args.out, say, args.start, own)}\n")
    return 0


def _drafts(args: argparse.Namespace) -> int:
    with extra("Training"):
        from edgegen.train import base, drafts, pairs
    from edgegen.commands._shared import open_pack
    from edgegen.pack import DRAFT

    found = pairs.read(args.data) if args.data else base.load(args.corpus, "train")
    table = drafts.of_model(open_pack(args.pack).model, found)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / DRAFT).write_bytes(table.to_bytes())
    say(f"{len(table.keys)} contexts")
    sys.stdout.write(f"{args.out / DRAFT}\n")
    return 0
