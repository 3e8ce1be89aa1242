"""A recipe's tables as options of commands. A command's own parser reads them: the same names, types, checks and defaults."""

from __future__ import annotations

import argparse
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from edgegen.errors import DataError, NotFoundError, UsageError

Table = dict[str, Any]
_NAMES = frozenset({"out", "against"})  # paths that need not be there: what is written, and what may be a pack's name
_REPEATED = frozenset({"add", "map", ""})  # given once for each value; of other options a list is one value with commas


class _Parser(argparse.ArgumentParser):
    """Raises what it would print."""

    def error(self, message: str) -> NoReturn:
        """Before anything ends the process."""
        raise UsageError(message)


def read(path: Path, stages: Iterable[str]) -> dict[str, Table]:
    """A recipe's table for each stage; empty where it has none. Raises NotFoundError, DataError, UsageError."""
    if not path.is_file():
        raise NotFoundError(f"There is no recipe {path}. Give the path of a TOML file; docs/training.md shows one.")
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not TOML: {error}. Put it right; docs/training.md shows a recipe.") from None
    known = list(stages)
    for name, value in found.items():
        if name not in known:
            raise UsageError(f"{path}: unknown table [{name}].{_near(name, known)}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {name} is a table. Write [{name}] and its options below it.")
    return {name: found.get(name, {}) for name in known}


def options(
    stage: str, table: Table, add: Callable[[argparse.ArgumentParser], None], own: Mapping[str, Any], closed: Iterable[str] = ()
) -> argparse.Namespace:
    """The options of a stage's command as the recipe sets them, and as `own` does (positional ones by the name "").

    `closed` are options that a run has no use for, or sets itself later. Raises UsageError naming what is wrong.
    """
    parser = _Parser(prog=stage, add_help=False, allow_abbrev=False)
    add(parser)
    try:
        parsed, strange = parser.parse_known_args([*_flags(own), *_flags(table)])
    except UsageError as error:
        raise UsageError(f"[{stage}]: {error}.") from None
    if taken := [name for name in table if name in {*own, *closed}]:
        raise UsageError(f"[{stage}]: {taken[0]} is for the run itself to set. Leave it out.")
    if strange:
        name = strange[0].removeprefix("--").partition("=")[0]
        known = {name.replace("_", "-") for name in vars(parsed) if name[0] != "_"} - {*own, *closed}
        raise UsageError(f"[{stage}]: unknown option {name}.{_near(name, sorted(known))}")
    return parsed


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name.replace("_", "-"), known, 2, 0.6)
    return f" Did you mean {' or '.join(near)}?" if near else f" Known: {', '.join(known)}."


def _flags(table: Mapping[str, Any]) -> Iterator[str]:
    """A table as a command line."""
    for name, value in table.items():
        flag = f"--{name.replace(' ', '_')}"  # what has a space is no option to argparse
        for one in _values(name, value):
            yield one if not name else flag if one is True else f"{flag}={one}"


def _values(name: str, value: Any) -> list[Any]:
    """The values to give an option: none where it is off, one for each pair of a table, and lists as commands take them."""
    if value is False:
        return []
    if isinstance(value, dict):
        return [f"{key}={one}" for key, one in value.items()]
    if isinstance(value, list):
        return value if name in _REPEATED else [",".join(map(str, value))]
    return [value]


def key(args: argparse.Namespace, own: Iterable[str]) -> str:
    """A key of a stage's options, those of the run itself left out, and of the content of the files they name.

    Raises NotFoundError for a file that is not there.
    """
    given = {name: value for name, value in vars(args).items() if name.replace("_", "-") not in own}
    return hashlib.sha256(json.dumps([given, dict(_files(given))], default=str, sort_keys=True).encode()).hexdigest()


def _files(given: Table) -> Iterator[tuple[str, str]]:
    for name, value in given.items():
        for path in value if isinstance(value, list) else [value]:
            if name == "base" and Path(path).is_dir():
                path = Path(path)  # noqa: PLW2901 - a base may be a folder
            if not isinstance(path, Path) or name == "out":
                continue
            if not path.exists() and name not in _NAMES:
                raise NotFoundError(f"There is no {path}, which the recipe's {name} names. Paths begin at the recipe's folder.")
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    with file.open("rb") as opened:
                        yield str(file), hashlib.file_digest(opened, "sha256").hexdigest()
