"""The terminal for shop staff: pick a product, read why it is recommended. Needs a running `edgegen serve`."""

from __future__ import annotations

import argparse
import os

from edgegen.errors import MissingExtraError

KEY = "EDGEGEN_KEY"
"""Where the key of a server that wants one is: a command line is for everybody on the machine to see."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.epilog = f"The key of a server that wants one is taken from the environment: {KEY}."
    parser.add_argument("--url", default="http://127.0.0.1:8765", help="where the server is; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Show the terminal until it is left. Raises MissingExtraError."""
    try:
        from tui.app import make_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The terminal needs {error.name}. Install it with: pip install 'edgegen[tui]'") from error
    make_app(args.url, key=os.environ.get(KEY)).run()
    return 0
