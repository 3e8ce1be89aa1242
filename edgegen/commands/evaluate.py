"""Score a pack: on the corpus's test split (--corpus), or on a catalogue (--catalogue, without references)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from edgegen import catalog, folders, pack, requests, tasks
from edgegen.commands import _shared
from edgegen.domain import LANGS, Lang
from edgegen.errors import MissingExtraError, OptionError, UsageError
from edgegen.evaluate import Case, Row, evaluate
from edgegen.explain import ExplainOptions, Explanation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--corpus", type=Path, help="folder that `edgegen train corpus` wrote")
    parser.add_argument("--catalogue", help="a catalogue file instead")
    parser.add_argument("--tasks", default="", help="names, with commas; default: all")
    parser.add_argument("--langs", default=",".join(LANGS), help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=200, help="texts of each task and language; default: %(default)s")
    parser.add_argument("--n", type=int, default=ExplainOptions.n)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", type=int, default=0, help="print so many random texts of each language")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--record", action="store_true", help="write the figures into the pack's manifest")
    parser.add_argument("--threads", type=int)
    _shared.add_pack(parser)
    _shared.add_adapter(parser)
    _shared.add_catalogue(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if bool(args.corpus) == bool(args.catalogue):
        raise UsageError("Give either --corpus FOLDER or --catalogue FILE.")
    if args.limit < 1:
        raise OptionError(f"--limit must be at least 1, got {args.limit}")
    if args.record and args.adapter:
        raise UsageError("--record keeps the figures of the pack alone. Leave out --adapter, or use --report.")
    names = [name for name in args.tasks.split(",") if name] or list(tasks.names())
    langs = [_shared.language(lang) for lang in args.langs.split(",")]
    rows: list[Row] = []
    shown: dict[Lang, list[Explanation]] = {lang: [] for lang in langs}
    recorded = _recordable(args.pack) if args.record else None
    with _shared.explainer(args.pack, args.threads, args.adapter) as explainer:
        for lang in langs:
            for name in names:
                cases = list(_cases(args, name, lang))[: args.limit]
                if not cases:
                    _shared.say(f"{name}/{lang}: the catalogue has no facts for it")
                    continue
                row, answers = evaluate(explainer, name, lang, cases, ExplainOptions(n=args.n, seed=args.seed))
                rows.append(row)
                shown[lang] += answers
                _shared.say(_line(row))
    sys.stdout.write(table(rows))
    for lang, answers in shown.items():
        sample = Random(args.seed).sample(answers, min(args.show, len(answers)))
        sys.stdout.writelines(f"[{lang}/{a.task}/{a.source}] {a.text}\n" for a in sample)
    figures = [row.to_json() for row in rows]
    if args.report:
        args.report.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if recorded:
        _record(recorded, figures)
    return 0


def _recordable(wanted: Path | None) -> Path:
    """The folder of a pack whose manifest may still change. Raises UsageError for others, before anything is scored."""
    from edgegen.pack.installed import Installed

    found = _shared.open_pack(wanted).folder
    kept = (Installed().packs, folders.cache())
    if (found / pack.SIGNATURE).exists() or any(found.resolve().is_relative_to(folder.resolve()) for folder in kept):
        raise UsageError(
            "--record changes the manifest of a pack; this one is signed or installed. Name the folder it is built from."
        )
    return found


def _record(folder: Path, figures: list[dict[str, Any]]) -> None:
    try:
        from convert.build import record_evaluation
    except ImportError as error:
        raise MissingExtraError(f"Recording needs the package {error.name}. Install it: pip install 'edgegen[train]'.") from error
    record_evaluation(folder, {"rows": figures})


def _cases(args: argparse.Namespace, name: str, lang: Lang) -> Iterator[Case]:
    if args.corpus:
        yield from _corpus_cases(args.corpus, name, lang)
        return
    found = catalog.load(args.catalogue, lang, _shared.overrides(args.map), args.currency, args.format)
    profiles = list(catalog.shoppers(args.shoppers or catalog.sample_shoppers(lang), lang, args.currency).values())
    paths = catalog.paths(found.products) if name == "category" else ()
    for at, shopper in enumerate(profiles if name == "personal" else profiles[:1]):
        part = found.products[at :: len(profiles)] if name == "personal" else found.products
        context = requests.Context(lang, shopper, None, None, paths, found.products)
        yield from (Case(request) for _, request in requests.build(name, part, context))


def _corpus_cases(folder: Path, name: str, lang: Lang) -> Iterator[Case]:
    from edgegen import slots
    from edgegen.domain import Request
    from edgegen.train import pairs

    found = list(pairs.read(folder / f"test.{name}.{lang}.jsonl"))
    tree = tuple(sorted({choice for pair in found for choice in pair.request.choices}))
    for pair in found:
        request = Request(pair.request.task, lang, pair.request.sections, tree)
        prompt = tasks.get(name).prompt(request)
        yield Case(request, pair.text if tree else slots.render(slots.parse(pair.text, prompt), lang))


def _line(row: Row) -> str:
    accuracy = "" if row.accuracy is None else f"  accuracy {row.accuracy:.3f}"
    return (
        f"{row.task:9} {row.lang} n={row.texts:4} model {row.model_share:6.1%}  wrong {row.wrong_values}  ungrounded after "
        f"{row.ungrounded_after} before {row.ungrounded_before:5.1%}  rejected {row.rejected_before:5.1%}{accuracy}"
    )


def table(rows: list[Row]) -> str:
    """The figures as a Markdown table."""
    names = "task|lang|texts|model share|wrong values|ungrounded after|before|rejected before|coverage|USR|rep-4|median s"
    columns = [*names.split("|"), "BLEU model / template / shuffled / constant", "ROUGE-L", "accuracy"]
    head = f"| {' | '.join(columns)} |\n"
    lines = [head, "|" + "---|" * len(columns) + "\n"]
    for r in rows:
        bleu, rouge = (" / ".join(f"{score:.1f}" for score in found.values()) or "-" for found in (r.bleu, r.rouge_l))
        cells: list[object] = [
            r.task, r.lang, r.texts, f"{r.model_share:.1%}", r.wrong_values, r.ungrounded_after, f"{r.ungrounded_before:.1%}",
            f"{r.rejected_before:.1%}", f"{r.coverage:.1%}", f"{r.usr:.3f}", f"{r.repeated_4grams:.1%}", f"{r.median_s:.3f}",
            bleu, rouge, "-" if r.accuracy is None else f"{r.accuracy:.1%}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |\n")
    return "".join(lines)
