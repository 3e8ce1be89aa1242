"""`edgegen train distill`: texts for a catalogue from a larger model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from edgegen import catalog, requests
from edgegen.commands import _shared
from edgegen.domain import Request
from edgegen.errors import UsageError

_KEYS = ("EDGEGEN_ENDPOINT_KEY", "OPENAI_API_KEY")
_HERE = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    parser.add_argument("source", help="catalogue: JSON, JSONL or CSV")
    parser.add_argument("--endpoint", required=True, help="an OpenAI-compatible API up to /v1, such as `edgegen serve --model`")
    parser.add_argument("--model", default="", help="default: the first that the endpoint lists")
    parser.add_argument("--task", default="reason,product", help="names, with commas; default: %(default)s")
    parser.add_argument("--lang", default="en", help="en or zh; default: %(default)s")
    parser.add_argument("--limit", type=int, help="only so many requests of each task")
    parser.add_argument("--n", type=int, default=4, help="answers a request; default: %(default)s")
    parser.add_argument("--temperature", type=float, default=0.9, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=4, help="questions that are open together; default: %(default)s")
    parser.add_argument("--per-minute", type=float, default=0, help="questions a minute at most; default: as fast as it answers")
    parser.add_argument("--price-in", type=float, default=0, help="of a million tokens read, for the estimate")
    parser.add_argument("--price-out", type=float, default=0, help="of a million tokens written, for the estimate")
    parser.add_argument("--dry-run", action="store_true", help="print the estimate and ask nothing")
    parser.add_argument("--yes", action="store_true", help="ask an endpoint of another machine without being asked back")
    parser.add_argument("--out", type=Path, default=Path("runs/distilled"), help="folder; default: %(default)s")
    parser.add_argument("--shopper", help="id of a shopper profile, for the task `personal`")
    _shared.add_catalogue(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate, ask, prepare; prints the folder of pairs."""
    from edgegen.train import distill
    from edgegen.train.endpoint import EndpointOptions

    options = distill.DistillOptions(args.n, args.temperature, args.seed)
    key = next((value for name in _KEYS if (value := os.environ.get(name))), "")
    endpoint = EndpointOptions(args.endpoint, args.model, key, args.at_once, args.per_minute)
    work = _work(args)
    guess = distill.estimate(work, args.out, options)
    priced = args.price_in or args.price_out
    price = f", about {guess.cost(args.price_in, args.price_out):.2f} by the prices given" if priced else ""
    _shared.say(
        f"{guess.questions} questions of {args.n} answers: about {guess.prompt_tokens} tokens read, at most "
        f"{guess.completion_tokens} written{price}"
    )
    if args.dry_run:
        return 0
    if guess.questions and not args.yes and urlsplit(args.endpoint).hostname not in _HERE:
        raise UsageError(f"The catalogue's facts would go to {args.endpoint}. Say --yes if they may.")
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
