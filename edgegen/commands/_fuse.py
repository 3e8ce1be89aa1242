"""`edgegen train fuse`: one adapter of several on the same base."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgegen.commands._shared import say
from edgegen.errors import OptionError, extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    parser.add_argument("adapters", nargs="+", type=Path, help="folders of adapters, or of the runs that made them")
    parser.add_argument("--weights", help="one for each, with commas; default: equal ones that add up to 1")
    parser.add_argument("--how", default="cat", help="cat (exact), svd, ties_svd, dare_linear_svd, dare_ties_svd; default: cat")
    parser.add_argument("--rank", type=int, help="of the result but for cat; default: the highest of theirs")
    parser.add_argument("--density", type=float, default=0.5, help="what TIES and DARE keep of each; default: %(default)s")
    parser.add_argument("--data", type=Path, help="pairs (JSONL) to compare the losses on, and for the draft table")
    parser.add_argument("--out", type=Path, default=Path("runs/fused"), help="folder; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of DARE's choice")


def run(args: argparse.Namespace) -> int:
    """Fuse, and say what it brought."""
    with extra("Training"):
        from edgegen.train import fuse, pairs
    options = fuse.FuseOptions(_numbers(args.weights), args.how, args.rank, args.density, args.seed)
    folders = [folder / "adapter" if (folder / "adapter").is_dir() else folder for folder in args.adapters]
    fused = fuse.fuse(folders, args.out, options, list(pairs.read(args.data)) if args.data else ())
    for name, loss in fused.losses.items():
        say(f"loss {loss:.4f}  {name}")
    say(f"adapter: {fused.adapter}\nmerged, for `edgegen convert`:")
    sys.stdout.write(f"{fused.merged}\n")
    return 0


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(","))) if text else ()
    except ValueError:
        raise OptionError(f"--weights must be numbers with commas, such as 0.7,0.3, got {text}") from None
