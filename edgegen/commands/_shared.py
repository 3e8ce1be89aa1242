"""What several commands need: the pack's engine, the catalogue options, talk on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen import catalog
from edgegen.domain import LANGS, Lang
from edgegen.errors import UsageError
from edgegen.explain import Explainer

if TYPE_CHECKING:
    from edgegen.pack import Pack


def say(text: str) -> None:
    """Talk goes to stderr."""
    sys.stderr.write(text + "\n")


def language(text: str) -> Lang:
    """A language option's value. Raises UsageError for one that edgegen does not write."""
    for lang in LANGS:
        if text == lang:
            return lang
    raise UsageError(f"Unknown language {text!r}. Known: {', '.join(LANGS)}.")


def add_pack(parser: argparse.ArgumentParser) -> None:
    """The option that names the pack."""
    parser.add_argument(
        "--pack", type=Path,
        help="a pack's folder or file, the name of an installed one, or `bundled`; default: the active one, else the bundled one",
    )  # fmt: skip


def open_pack(wanted: Path | None) -> Pack:
    """The verified pack that the option names. Raises NotFoundError, PackError, StorageError, UsageError."""
    from edgegen.pack.installed import chosen

    return chosen(wanted, say)


def add_catalogue(parser: argparse.ArgumentParser) -> None:
    """The options that say where products come from."""
    parser.add_argument(
        "--map", action="append", default=[], metavar="KEY=COLUMN", help="take a column for a fact: --map name=title"
    )
    parser.add_argument("--format", choices=("json", "jsonl", "csv"), help="of the catalogue; default: by its name and content")
    parser.add_argument("--currency", help="ISO code of bare prices; default: USD for en, CNY for zh")
    parser.add_argument("--shoppers", help="JSON file of shopper profiles; default: the sample's")


def overrides(pairs: list[str]) -> dict[str, str]:
    """`KEY=COLUMN` options as a dictionary. Raises UsageError for one without `=`."""
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise UsageError(f"--map {bad[0]}: write KEY=COLUMN, for example --map name=title.")
    return dict(pair.split("=", 1) for pair in pairs)


def read_catalogue(args: argparse.Namespace, source: str | None, lang: Lang) -> catalog.Catalogue:
    """The catalogue that the options name, the sample where there is none; says which rows cannot be used."""
    path = source or str(catalog.sample(lang))
    found = catalog.load(path, lang, overrides(args.map), args.currency, args.format)
    for bad in found.bad:
        say(f"row {bad.number} is left out: {bad.message}")
    return found


@contextmanager
def explainer(pack_path: Path | None, threads: int | None = None) -> Iterator[Explainer]:
    """An explainer on a pack, closed at the end. Raises PackError, NotFoundError, EngineError."""
    from dataclasses import replace

    from edgegen import hardware
    from edgegen.engine import open_engine

    found = open_pack(pack_path)
    setting = hardware.known(found.model).setting
    with open_engine(found.model, setting=replace(setting, threads=threads) if threads else setting) as engine:
        yield Explainer(engine, found.licensing)
