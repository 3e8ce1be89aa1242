"""Explain one product or a whole catalogue: JSON, JSONL or CSV, a file or stdin, the sample where none is given.

Texts go to stdout; with --out they go to a JSONL or CSV file, which a second run with --resume completes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgegen import catalog, requests, tasks
from edgegen.catalog import Product
from edgegen.commands import _shared
from edgegen.domain import Request, Section
from edgegen.errors import NotFoundError, UsageError
from edgegen.explain import Explainer, ExplainOptions, Explanation
from edgegen.results import ResultFile

_PAUSE_S = 0.015  # between the bits of a text on a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("source", nargs="?", help="catalogue file, or - for stdin; default: the sample catalogue")
    parser.add_argument("--task", default="reason", help="see `edgegen tasks`; default: %(default)s")
    parser.add_argument("--lang", default="en", help="en or zh; default: %(default)s")
    parser.add_argument("--id", action="append", default=[], help="only this product (may be given several times)")
    parser.add_argument("--limit", type=int, help="only so many texts")
    parser.add_argument("--shopper", help="id of a shopper profile, for the task `personal`")
    parser.add_argument("--query", help="what was searched for, for the task `search`")
    parser.add_argument("--topic", help="what the list is for, for the task `list`")
    parser.add_argument("--seed", type=int, default=ExplainOptions.seed)
    parser.add_argument("--n", type=int, default=ExplainOptions.n, help="candidates a text; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print whole records: text, source, claims, timings")
    parser.add_argument("--out", type=Path, help="write records to this .jsonl or .csv file, with a progress bar")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted --out file")
    parser.add_argument("--threads", type=int, help="default: what `edgegen doctor` shows")
    _shared.add_pack(parser)
    _shared.add_catalogue(parser)


def run(args: argparse.Namespace) -> int:
    """Explain; exit codes are those of `edgegen.errors`."""
    lang = _shared.language(args.lang)
    tasks.get(args.task)
    options = ExplainOptions(n=args.n, seed=args.seed)
    found = _shared.read_catalogue(args, args.source, lang)
    paths = catalog.paths(found.products) if args.task == "category" else ()
    context = requests.Context(lang, _shopper(args, lang), args.query, args.topic, paths, found.products)
    work = list(requests.build(args.task, _chosen(found.products, args.id), context))[: args.limit]
    if not work:
        raise UsageError(f"No product has the facts that task {args.task!r} needs. `edgegen tasks` lists them.")
    with _shared.explainer(args.pack, args.threads) as explainer:
        if args.out:
            return _to_file(explainer, work, options, args)
        return _to_stdout(explainer, work, options, as_json=args.json)


def _shopper(args: argparse.Namespace, lang: Any) -> Section | None:
    if args.shopper is None and args.task != "personal":
        return None
    known = catalog.shoppers(args.shoppers or catalog.sample_shoppers(lang), lang)
    wanted = args.shopper or next(iter(known), "")
    if wanted not in known:
        raise NotFoundError(f"There is no shopper {wanted!r}. Known: {', '.join(known)}.")
    if args.shopper is None:
        _shared.say(f"for the shopper {wanted!r}; name another with --shopper: {', '.join(known)}")
    return known[wanted]


def _chosen(products: Sequence[Product], ids: Sequence[str]) -> list[Product]:
    known = {product.id for product in products}
    if missing := [id_ for id_ in ids if id_ not in known]:
        raise NotFoundError(
            f"There is no product {missing[0]!r} in the catalogue. Its ids begin with: {', '.join(sorted(known)[:5])}."
        )
    return [product for product in products if not ids or product.id in ids]


def _record(id_: str, answer: Explanation) -> dict[str, Any]:
    return {"id": id_, **answer.to_json()}


def _to_stdout(explainer: Explainer, work: Sequence[tuple[str, Request]], options: ExplainOptions, *, as_json: bool) -> int:
    terminal = sys.stdout.isatty()
    for id_, request in work:
        answer = explainer.explain(request, options)
        if as_json:
            sys.stdout.write(json.dumps(_record(id_, answer), ensure_ascii=False) + "\n")
            continue
        for piece in answer.pieces():
            sys.stdout.write(piece)
            if terminal:
                sys.stdout.flush()
                time.sleep(_PAUSE_S)
        sys.stdout.write("\n")
        _shared.say(f"  [{id_}: {answer.source}, {answer.timings['total_s'] * 1000:.0f} ms]") if terminal else None
    return 0


def _to_file(explainer: Explainer, work: Sequence[tuple[str, Request]], options: ExplainOptions, args: argparse.Namespace) -> int:
    with ResultFile(args.out, resume=args.resume) as results:
        left = [(id_, request) for id_, request in work if id_ not in results.done]
        if len(left) < len(work):
            _shared.say(f"{len(work) - len(left)} of {len(work)} are in {args.out} already")
        counts = {"model": 0, "template": 0}
        for id_, request in _with_progress(left):
            answer = explainer.explain(request, options)
            counts[answer.source] += 1
            results.add(_record(id_, answer))
    _shared.say(f"{args.out}: {counts['model']} texts by the model, {counts['template']} from templates")
    return 0


def _with_progress(work: Sequence[tuple[str, Request]]) -> Iterator[tuple[str, Request]]:
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} texts/s"),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar if console.is_terminal else nullcontext():
        job = bar.add_task("explaining", total=len(work), rate="-")
        for item in work:
            yield item
            speed = bar.tasks[0].speed
            bar.update(job, advance=1, rate=f"{speed:.1f}" if speed else "-")
