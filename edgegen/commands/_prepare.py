"""The options of `edgegen train prepare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.commands._shared import overrides, say
from edgegen.errors import extra

if TYPE_CHECKING:
    from edgegen.train.prepare.options import PrepareOptions
    from edgegen.train.prepare.run import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and what `PrepareOptions` holds; its defaults are the only ones."""
    from edgegen.train.prepare.options import BY, KINDS, UNSUPPORTED, PrepareOptions

    parser.add_argument("--data", type=Path, required=True, help="texts with facts: JSONL, JSON, CSV, TSV, Parquet, lines (.txt)")
    parser.add_argument("--valid-data", type=Path, help="a file that is kept apart to measure during training")
    parser.add_argument("--test-data", type=Path, help="a file that is kept apart to measure at the end")
    parser.add_argument("--out", type=Path, default=Path("runs/data"), help="folder; default: %(default)s")
    parser.add_argument(
        "--map", action="append", default=[], metavar="KEY=COLUMN", help="column of text, facts, id or a fact's key"
    )
    parser.add_argument("--kind", help=f"what a row holds: {', '.join(KINDS)}; default: by the file")
    parser.add_argument("--task", help="the task that the texts are of; default: product where a name is known, else tell")
    parser.add_argument("--lang", help="en or zh; default: by each text")
    parser.add_argument("--catalogue", type=Path, help="products whose facts go with texts that name them")
    parser.add_argument("--currency", help="ISO code of bare prices; default: USD for en, CNY for zh")
    told = {
        "unsupported": f"a sentence that no fact bears out: {', '.join(UNSUPPORTED)}",
        "by": f"what must not be in two splits: {', '.join(BY)}",
        "valid": "share that measures during training, without a file for it",
        "test": "share that measures at the end, without a file for it",
        "seed": "another number makes other splits",
        "alike": "share of common runs of words that makes two texts on the same facts one",
        "shortest": "words that a text must have",
        "longest": "words that a text may have",
    }
    usual = PrepareOptions()
    for name, about in told.items():
        default = getattr(usual, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{about}; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Prepare, and print the report."""
    made = prepared(args, say)
    from edgegen.train.prepare import report

    sys.stdout.write(report.table(made.report))
    say(f"pairs and report: {args.out}")
    return 0


def prepared(args: argparse.Namespace, talk: Callable[[str], None]) -> Prepared:
    """Prepare as the options say. Raises MissingExtraError, and what `prepare` raises."""
    with extra("Training"):
        from edgegen.train.prepare.run import prepare
    files = {"train": args.data, "valid": args.valid_data, "test": args.test_data}
    return prepare({split: path for split, path in files.items() if path}, args.out, options(args), talk)


def options(args: argparse.Namespace) -> PrepareOptions:
    """The options of a preparation. Raises OptionError, UsageError."""
    from edgegen.train.prepare.options import PrepareOptions

    given = {field.name: getattr(args, field.name) for field in fields(PrepareOptions) if field.name != "columns"}
    return PrepareOptions(**given, columns=overrides(args.map))
