"""Errors in the words of the command line: what a call lacks, and by which option it is given."""

from __future__ import annotations

from collections.abc import Mapping

from edgegen.errors import EdgegenError

_HOW: Mapping[str | None, str] = {
    "shopper": "Name one with --shopper.",
    "query": "Give it with --query.",
    "category": "Map it with --map category=COLUMN.",
    "name": "Say which one is: --map name=COLUMN.",
}


def told(error: EdgegenError) -> str:
    """The message, and how to give what is lacking."""
    return f"{error} {_HOW[error.lacks]}" if error.lacks in _HOW else str(error)
