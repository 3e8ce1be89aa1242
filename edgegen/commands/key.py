"""Keys of who may call a server: add one, list them, remove one. The file holds hashes; a secret is shown once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgegen.commands import _shared
from edgegen.server import keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add | list | remove")
    for name, about in (("add", "make a key and print its secret"), ("list", "the names"), ("remove", "take a key away")):
        action = actions.add_parser(name, help=about)
        if name != "list":
            action.add_argument("name", help="whose key it is: letters, digits, '.', '_' and '-'")
        action.add_argument("--keys", type=Path, required=True, metavar="FILE", help="the file that `edgegen serve --keys` reads")


def run(args: argparse.Namespace) -> int:
    """Add, list or remove; a running server notices by itself."""
    if args.action == "add":
        sys.stdout.write(keys.add(args.keys, args.name) + "\n")
        _shared.say(f"the secret of {args.name!r}, shown this once; callers send it as `Authorization: Bearer SECRET`")
    elif args.action == "remove":
        keys.remove(args.keys, args.name)
    else:
        sys.stdout.write("".join(f"{name}\n" for name in keys.read(args.keys)))
    return 0
