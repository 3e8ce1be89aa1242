"""`edgegen train augment`: copies of pairs in other words, by translation there and back at an OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgegen.commands import _endpoint
from edgegen.commands._shared import say
from edgegen.errors import extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    parser.add_argument("data", type=Path, help="JSONL of pairs")
    parser.add_argument("--n", type=int, default=2, help="translations back of each pair; default: %(default)s")
    parser.add_argument("--temperature", type=float, default=0.7, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/augmented"), help="folder; default: %(default)s")
    _endpoint.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate, ask, check; prints the file of pairs with their copies."""
    with extra("Training"):
        from edgegen.train import backtranslation as back
        from edgegen.train import pairs
    options, endpoint = back.BackOptions(args.n, args.temperature, args.seed), _endpoint.options(args)
    found = list(pairs.read(args.data))
    if not _endpoint.agreed(args, back.estimate(found, args.out, options), "The texts, without their values,"):
        return 0
    made = back.back_translate(found, args.out, endpoint, options, say=say)
    say(f"{len(made.copies)} copies of {len(found)} pairs")
    for reason, count in sorted(made.left_out.items(), key=lambda entry: -entry[1]):
        say(f"{count:6} left out: {reason}")
    sys.stdout.write(f"{args.out / back.PAIRS}\n")
    return 0
