"""List the tasks: what each writes and what it needs."""

from __future__ import annotations

import argparse
import sys

from edgegen import tasks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Print one line a task."""
    del args
    for name in tasks.names():
        task = tasks.get(name)
        needs = ", ".join(f"{n.least}-{n.most} {n.label}" if n.least != n.most else f"{n.least} {n.label}" for n in task.needs)
        sys.stdout.write(f"{name:10} {task.about} (from {needs})\n")
    return 0
