"""What several commands need: the pack's engine, the catalogue options, talk on stderr."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen import catalog
from edgegen.domain import LANGS, Lang
from edgegen.errors import DataError, OptionError, PackError, UsageError
from edgegen.explain import Explainer

if TYPE_CHECKING:
    from edgegen.engine.loop import Engine
    from edgegen.licensing import Table
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


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """The option that puts a LoRA adapter on top of the pack's model."""
    parser.add_argument(
        "--adapter", type=Path, metavar="FILE.gguf",
        help="LoRA adapter for the pack's model, which `edgegen convert --as-adapter` wrote; default: none",
    )  # fmt: skip


def open_pack(wanted: Path | None) -> Pack:
    """The verified pack that the option names. Raises NotFoundError, PackError, StorageError, UsageError."""
    from edgegen.pack.installed import chosen

    return chosen(wanted, say)


def provenance(folder: Path) -> dict[str, Any]:
    """What training wrote about itself in a checkpoint's folder or the one above, if anything. Raises DataError."""
    from edgegen.pack.manifest import PROVENANCE

    for path in (folder / PROVENANCE, folder.parent / PROVENANCE):
        if path.is_file():
            try:
                found = json.loads(path.read_text("utf-8"))
            except ValueError as error:
                raise DataError(f"{path} is not JSON: {error}. Train again, or delete it.") from None
            return found if isinstance(found, dict) else {}
    return {}


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
    """The catalogue that the options name, the sample where there is none; says which rows and cells cannot be used."""
    path = source or str(catalog.sample(lang))
    found = catalog.load(path, lang, overrides(args.map), args.currency, args.format)
    for bad in found.bad:
        say(f"left out: {bad.message}")
    for line in left_out(found.products) if source else ():
        say(line)
    return found


def left_out(products: Iterable[catalog.Product]) -> Iterator[str]:
    """A line for each column and reason that kept it out of products; reasons that differ in a number count as one."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for product in products:
        for column, reason in product.lost:
            found.setdefault((column, re.sub(r"\d[\d.]*", "0", reason)), {})[product.id] = reason
    for (column, _), reasons in found.items():
        number = f"{len(reasons)} product{'s' if len(reasons) > 1 else ''}"
        example = "for example " if len(set(reasons.values())) > 1 else ""
        yield f"column {column!r} is left out of {number}: {example}{next(iter(reasons.values()))}"


@contextmanager
def explainer(pack_path: Path | None, threads: int | None = None, adapter: Path | None = None) -> Iterator[Explainer]:
    """An explainer on a pack, closed at the end. Raises PackError, NotFoundError, EngineError."""
    found = open_pack(pack_path)
    if not found.manifest.tasks:
        raise PackError(
            f"The pack {found.manifest.label} names no tasks: its model has no slot tokens and only completes plain text. Use "
            "another with --pack, or `edgegen serve` and /v1/completions."
        )
    with pack_engine(found, threads, adapter) as engine:
        yield Explainer(engine, licensing(found, adapter))


def licensing(found: Pack, adapter: Path | None) -> Table | None:
    """The pack's licensing table, none with an adapter: no word that the pack's own training texts lack could be written."""
    table = found.licensing
    if adapter is None or table is None:
        return table
    say("the pack's licensing table is left out: it knows the words of the pack's training texts, not the adapter's")
    return None


def check_threads(threads: int | None) -> None:
    """Raise OptionError for a --threads that cannot be."""
    if threads is not None and threads < 1:
        raise OptionError(f"--threads must be at least 1, got {threads}")


def pack_engine(found: Pack, threads: int | None, adapter: Path | None) -> Engine:
    """The engine of a pack's model with an adapter on top, where no option says otherwise with the setting known to be best."""
    from dataclasses import replace

    from edgegen import hardware
    from edgegen.engine import open_engine

    setting = hardware.known(found.model).setting
    check_threads(threads)
    setting = replace(setting, threads=threads) if threads else setting
    return open_engine(found.model, setting=setting, adapter=adapter, table=found.drafts)
