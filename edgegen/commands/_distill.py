"""`edgegen train distill`: texts for a catalogue from a larger model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgegen import catalog, requests
from edgegen.commands import _endpoint, _shared
from edgegen.domain import Request
from edgegen.errors import UsageError, extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    parser.add_argument("source", help="catalogue: JSON, JSONL or CSV")
    parser.add_argument("--task", default="reason,product", help="names, with commas; default: %(default)s")
    parser.add_argument("--lang", default="en", help="en or zh; default: %(default)s")
    parser.add_argument("--limit", type=int, help="only so many requests of each task")
    parser.add_argument("--n", type=int, default=4, help="answers a request; default: %(default)s")
    parser.add_argument("--temperature", type=float, default=0.9, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/distilled"), help="folder; default: %(default)s")
    parser.add_argument("--shopper", help="id of a shopper profile, for the task `personal`")
    _shared.add_catalogue(parser)
    _endpoint.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate, ask, prepare; prints the folder of pairs."""
    with extra("Distilling"):
        from edgegen.train import distill
    options = distill.DistillOptions(args.n, args.temperature, args.seed)
    endpoint = _endpoint.options(args)
    work = _work(args)
    guess = distill.estimate(work, args.out, options)
    if not _endpoint.agreed(args, guess, "The catalogue's facts"):
        return 0
    made = distill.distill(work, args.out, endpoint, options, say=_shared.say)
    kept = sum(outcome.kept for part in made.outcomes.values() for outcome in part)
    total = sum(map(len, made.outcomes.values()))
    _shared.say(f"{kept} of {total} texts are true and new; report.html says why the others are not")
    sys.stdout.write(f"{args.out / distill.PAIRS}\n")
    return 0


def _work(args: argparse.Namespace) -> list[tuple[str, Request]]:
    lang = _shared.language(args.lang)
    found = _shared.read_catalogue(args, args.source, lang)
    known = catalog.shoppers(args.shoppers or catalog.sample_shoppers(lang), lang, args.currency) if args.shopper else {}
    if args.shopper and args.shopper not in known:
        raise UsageError(f"There is no shopper {args.shopper!r}. Known: {', '.join(known)}.")
    context = requests.Context(lang, known.get(args.shopper or ""), catalogue=found.products)
    work = []
    for task in args.task.split(","):
        work += list(requests.build(task, found.products, context))[: args.limit]
    if not work:
        raise UsageError(f"No product has the facts that {args.task} need. `edgegen tasks` lists them.")
    return work
