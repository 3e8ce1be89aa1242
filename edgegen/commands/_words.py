"""Errors in the words of the command line: what a call lacks and by which option it is given, and the options' own names."""

from __future__ import annotations

from collections.abc import Mapping

from edgegen.errors import EdgegenError, OptionError

_HOW: Mapping[str | None, str] = {
    "shopper": "Name one with --shopper.",
    "query": "Give it with --query.",
    "category": "Map it with --map category=COLUMN.",
    "name": "Say which one is: --map name=COLUMN.",
}
_OPTIONS: Mapping[str | None, str] = {"n_ctx": "--context", "n_cells": "--cells", "threads": "--threads"}


def told(error: EdgegenError) -> str:
    """The message, and how to give what is lacking. An option that is out of its range is called as it is given."""
    text, option = str(error), _OPTIONS.get(error.field)
    if isinstance(error, OptionError) and option:
        return f"{option}: {text}"
    return f"{text} {_HOW[error.lacks]}" if error.lacks in _HOW else text
