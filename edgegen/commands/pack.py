"""Look at a pack and check it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgegen import pack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`verify` and `inspect`."""
    parser.add_argument("action", choices=("verify", "inspect"), help="verify every file, or print the manifest")
    parser.add_argument("path", nargs="?", type=Path, help="folder of a pack; default: the bundled one")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 for a whole pack."""
    found = pack.load(args.path or pack.bundled())
    if args.action == "inspect":
        sys.stdout.write((found.folder / "manifest.json").read_text("utf-8"))
    else:
        sys.stdout.write(f"{found.folder}: {found.manifest.name} {found.manifest.version} is whole\n")
    return 0
