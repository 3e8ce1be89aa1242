"""What stages that ask an OpenAI-compatible endpoint share: where it is, how fast, what it costs, whether data may go there."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgegen.commands._shared import say
from edgegen.errors import UsageError

if TYPE_CHECKING:
    from edgegen.train.asked import Estimate
    from edgegen.train.endpoint import EndpointOptions

_KEYS = ("EDGEGEN_ENDPOINT_KEY", "OPENAI_API_KEY")
_HERE = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the endpoint."""
    parser.add_argument("--endpoint", required=True, help="an OpenAI-compatible API up to /v1, such as `edgegen serve --model`")
    parser.add_argument("--model", default="", help="default: the first that the endpoint lists")
    parser.add_argument("--at-once", type=int, default=4, help="questions that are open together; default: %(default)s")
    parser.add_argument("--per-minute", type=float, default=0, help="questions a minute at most; default: as fast as it answers")
    parser.add_argument("--price-in", type=float, default=0, help="of a million tokens read, for the estimate")
    parser.add_argument("--price-out", type=float, default=0, help="of a million tokens written, for the estimate")
    parser.add_argument("--dry-run", action="store_true", help="print the estimate and ask nothing")
    parser.add_argument("--yes", action="store_true", help="ask an endpoint of another machine without being asked back")


def options(args: argparse.Namespace) -> EndpointOptions:
    """Where the model is; its key comes from the environment. Raises OptionError."""
    from edgegen.train.endpoint import EndpointOptions

    key = next((value for name in _KEYS if (value := os.environ.get(name))), "")
    return EndpointOptions(args.endpoint, args.model, key, args.at_once, args.per_minute)


def agreed(args: argparse.Namespace, guess: Estimate, what: str) -> bool:
    """Tell the estimate; whether to ask. Raises UsageError where `what` would go to another machine and nobody has agreed."""
    priced = args.price_in or args.price_out
    price = f", about {guess.cost(args.price_in, args.price_out):.2f} by the prices given" if priced else ""
    say(
        f"{guess.questions} questions of {args.n} answers: about {guess.prompt_tokens} tokens read, at most "
        f"{guess.completion_tokens} written{price}"
    )
    if args.dry_run:
        return False
    if guess.questions and not args.yes and urlsplit(args.endpoint).hostname not in _HERE:
        raise UsageError(f"{what} would go to {args.endpoint}. Say --yes if they may.")
    return True
