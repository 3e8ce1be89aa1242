"""What a server with --feedback has kept: count it, write it out as JSONL, let go of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from edgegen.commands import _shared
from edgegen.errors import UsageError
from edgegen.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="count | export | clear")
    for name, about in (("count", "how much there is"), ("export", "texts and events as JSONL"), ("clear", "delete for good")):
        action = actions.add_parser(name, help=about)
        action.add_argument("--store", type=Path, metavar="FILE", help="default: feedback.db in $EDGEGEN_HOME")
        if name == "clear":
            which = action.add_mutually_exclusive_group(required=True)
            which.add_argument("--older-than", type=float, metavar="DAYS", help="texts shown before, and the events on them")
            which.add_argument("--all", action="store_true", help="everything")


def run(args: argparse.Namespace) -> int:
    """Count, export or clear; a running server may go on."""
    with Store(args.store, create=False) as store:
        if args.action == "count":
            sys.stdout.write("".join(f"{name}: {count}\n" for name, count in store.counts().items()))
        elif args.action == "export":
            for entry in store.entries():
                sys.stdout.write(json.dumps(entry.to_json(), ensure_ascii=False) + "\n")
        else:
            _shared.say(f"deleted {store.clear(None if args.all else _before(args.older_than))} texts and the events on them")
    return 0


def _before(days: float) -> float:
    if not days >= 0:
        raise UsageError(f"--older-than must be at least 0 days, got {days:g}")
    return time.time() - days * 86400
