"""Explain one product or a whole catalogue: JSON, JSONL or CSV, a file or stdin, the sample where none is given.

Texts go to stdout; with --out they go to a JSONL or CSV file, which a second run with --resume completes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgegen import catalog, requests, tasks
from edgegen.catalog import Product
from edgegen.commands import _shared
from edgegen.commands._words import told
from edgegen.domain import Lang, Request, Section
from edgegen.errors import DataError, NotFoundError, OptionError, UsageError
from edgegen.explain import Explainer, ExplainOptions, Explanation
from edgegen.results import ResultFile

Work = Sequence[tuple[str, Request]]
Answers = Iterator[tuple[str, Explanation]]
_PAUSE_S = 0.015  # between the bits of a text on a terminal
_MOST_IDS = 5  # in a message


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
    _shared.add_adapter(parser)
    _shared.add_catalogue(parser)


def run(args: argparse.Namespace) -> int:
    """Explain; exit codes are those of `edgegen.errors`."""
    lang = _shared.language(args.lang)
    tasks.asked(args.task)
    options = ExplainOptions(n=args.n, seed=args.seed)
    if args.limit is not None and args.limit < 1:
        raise OptionError(f"--limit must be at least 1, got {args.limit}")
    found = _shared.read_catalogue(args, args.source, lang)
    paths = catalog.paths(found.products) if args.task == "category" else ()
    context = requests.Context(lang, _shopper(args, lang), args.query, args.topic, paths, found.products)
    work = _work(args.task, _chosen(found.products, args.id), context)[: args.limit]
    if not work:
        why = requests.PASSED_OVER.get(args.task)
        raise UsageError(
            f"No product has the facts that task {args.task!r} needs{f': {why}' if why else ''}. `edgegen tasks` lists them."
        )
    out = ResultFile(args.out, resume=args.resume) if args.out else None
    with _shared.explainer(args.pack, args.threads, args.adapter) as explainer:
        if out:
            return _to_file(explainer, work, options, out)
        return _to_stdout(explainer, work, options, as_json=args.json)


def _work(task: str, products: Sequence[Product], context: requests.Context) -> list[tuple[str, Request]]:
    """The requests. Where products without a category stop a task that needs one, the others are still explained."""
    try:
        return list(requests.build(task, products, context))
    except (DataError, UsageError) as error:
        rest = [product for product in products if product.section.get("category")]
        if not 0 < len(rest) < len(products):
            raise
        ids = [product.id for product in products if not product.section.get("category")]
        more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
        _shared.say(f"{', '.join(ids[:_MOST_IDS])}{more} left out: {told(error)}")
        return list(requests.build(task, rest, context))


def _shopper(args: argparse.Namespace, lang: Lang) -> Section | None:
    if args.shopper is None and args.task != "personal":
        return None
    known = catalog.shoppers(args.shoppers or catalog.sample_shoppers(lang), lang, args.currency)
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


def _explained(explainer: Explainer, work: Iterable[tuple[str, Request]], options: ExplainOptions) -> Answers:
    """The answers; a request that no text can be made of is named and does not stop the others."""
    for id_, request in work:
        try:
            answer = explainer.explain(request, options)
        except (DataError, UsageError) as error:
            _shared.say(f"{id_} is left out: {error}")
        else:
            yield id_, answer


def _to_stdout(explainer: Explainer, work: Work, options: ExplainOptions, *, as_json: bool) -> int:
    terminal, made = sys.stdout.isatty(), 0
    for id_, answer in _explained(explainer, work, options):
        made += 1
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
    return 0 if made else DataError.exit_code


def _to_file(explainer: Explainer, work: Work, options: ExplainOptions, out: ResultFile) -> int:
    with out as results:
        left = [(id_, request) for id_, request in work if (id_, request.task, request.lang) not in results.done]
        if len(left) < len(work):
            _shared.say(f"{len(work) - len(left)} of {len(work)} are in {out.path} already")
        counts = {"model": 0, "template": 0}
        for id_, answer in _explained(explainer, _with_progress(left), options):
            counts[answer.source] += 1
            results.add(_record(id_, answer))
    _shared.say(f"{out.path}: {counts['model']} texts by the model, {counts['template']} from templates")
    return DataError.exit_code if left and not sum(counts.values()) else 0


def _with_progress(work: Work) -> Iterator[tuple[str, Request]]:
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
