"""The options of `edgegen train prepare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgegen.errors import MissingExtraError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and what `PrepareOptions` holds; an option that is not given has its default there."""
    parser.add_argument(
        "--data", type=Path, required=True, help="texts with their facts: JSONL, JSON, CSV, TSV, Parquet, or lines (.txt)"
    )
    parser.add_argument("--valid-data", type=Path, help="a file that is kept apart to measure during training")
    parser.add_argument("--test-data", type=Path, help="a file that is kept apart to measure at the end")
    parser.add_argument("--out", type=Path, default=Path("runs/data"), help="folder; default: %(default)s")
    parser.add_argument("--kind", help="pairs, mr, attributes, columns or lines; default: by the file")
    parser.add_argument(
        "--map", action="append", default=[], metavar="KEY=COLUMN", help="the column of text, facts, id or a fact's key"
    )
    parser.add_argument("--task", help="the task that the texts are of; default: product where a name is known, else tell")
    parser.add_argument("--lang", help="en or zh; default: by each text")
    parser.add_argument("--catalogue", type=Path, help="products whose facts go with texts that name them")
    parser.add_argument("--unsupported", help="a sentence that no fact bears out: cut, aside or keep; default: cut")
    parser.add_argument("--by", help="what must not be in two splits: product, facts; default: by the kind")
    parser.add_argument("--valid", type=float, help="share that measures during training; default: 0.05")
    parser.add_argument("--test", type=float, help="share that measures at the end; default: 0.05")
    parser.add_argument("--seed", type=int, help="another number makes other splits; default: 0")
    parser.add_argument("--alike", type=float, help="share of common runs of words that makes two texts one; default: 0.9")
    parser.add_argument("--shortest", type=int, help="words that a text must have; default: 3")
    parser.add_argument("--longest", type=int, help="words that a text may have; default: 200")
    parser.add_argument("--currency", help="ISO code of bare prices; default: USD for en, CNY for zh")


def run(args: argparse.Namespace) -> int:
    """Prepare, and print the report."""
    from edgegen.commands._shared import overrides, say

    try:
        from edgegen.train.prepare import report
        from edgegen.train.prepare.options import PrepareOptions
        from edgegen.train.prepare.run import prepare
    except ImportError as error:
        raise MissingExtraError(f"Training needs the package {error.name}. Install it: pip install 'edgegen[train]'.") from error
    names = (
        "kind",
        "task",
        "lang",
        "catalogue",
        "unsupported",
        "by",
        "valid",
        "test",
        "seed",
        "alike",
        "shortest",
        "longest",
        "currency",
    )
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    options = PrepareOptions(columns=overrides(args.map), **given)
    files = {"train": args.data, "valid": args.valid_data, "test": args.test_data}
    made = prepare({split: path for split, path in files.items() if path}, args.out, options, say)
    sys.stdout.write(report.table(made.report))
    say(f"pairs and report: {args.out}")
    return 0
