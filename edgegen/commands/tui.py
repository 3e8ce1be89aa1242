"""The terminal for shop staff: pick a product, read why it is recommended. Needs a running `edgegen serve`."""

from __future__ import annotations

import argparse

from edgegen.errors import MissingExtraError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--url", default="http://127.0.0.1:8765", help="where the server is; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Show the terminal until it is left. Raises MissingExtraError."""
    try:
        from tui.app import make_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The terminal needs {error.name}. Install it with: pip install 'edgegen[tui]'") from error
    make_app(args.url).run()
    return 0
