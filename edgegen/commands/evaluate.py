"""Score packs or checkpoints: on pairs (--data), the corpus's test split (--corpus), or a catalogue, without references."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from edgegen import catalog, durable, folders, pack, requests, scores, tasks
from edgegen.commands import _shared, _subjects
from edgegen.commands._subjects import Subject
from edgegen.domain import LANGS, Lang
from edgegen.errors import DataError, NotFoundError, OptionError, UsageError, extra
from edgegen.evaluate import Case, Reference, Scored, evaluate
from edgegen.evaluation import cases as cases_of
from edgegen.evaluation import html, report, tables
from edgegen.evaluation.report import Evaluated
from edgegen.explain import ExplainOptions
from edgegen.progress import Progress, silent

_DEADLINE_S = 600.0
Cases = dict[tuple[str, Lang], list[Case]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "packs", nargs="*", type=Path, metavar="PACK",
        help="packs as in --pack, or folders of checkpoints or adapters (scored as F32); several: each, on the same texts",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="JSONL of pairs: task, lang, sections, text")
    parser.add_argument("--corpus", type=Path, help="folder that `edgegen train corpus` wrote")
    parser.add_argument("--catalogue", help="a catalogue file instead")
    parser.add_argument("--against", type=Path, metavar="PACK", help="test each difference from this one")
    parser.add_argument("--tasks", default="", help="names, with commas; default: all")
    parser.add_argument("--langs", default=",".join(LANGS), help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=200, help="texts of each task and language; default: %(default)s")
    parser.add_argument("--n", type=int, default=ExplainOptions.n)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--tokenize", choices=scores.TOKENIZERS,
        help="how BLEU splits texts; `none` for data that is tokenised already; default: 13a for en, zh for zh",
    )  # fmt: skip
    parser.add_argument("--show", type=int, default=0, help="print so many random texts of each language")
    parser.add_argument("--worst", type=int, default=0, help="print so many of the worst texts with what is against them")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--html", type=Path, help="write them as one HTML file with plots")
    parser.add_argument("--record", action="store_true", help="write figures, JSON and HTML into the pack")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--deadline", type=float, default=_DEADLINE_S, metavar="SECONDS",
        help="after which a text is the template's; default: %(default)g, so that a busy machine changes nothing",
    )  # fmt: skip
    _shared.add_pack(parser)
    _shared.add_adapter(parser)
    _shared.add_catalogue(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    done, made = scored(args)
    sys.stdout.write(tables.whole(done, made["comparison"]))
    _print_texts(args, done)
    return 0


def scored(args: argparse.Namespace, progress: Progress = silent) -> tuple[list[Evaluated], dict[str, Any]]:
    """Score as the options say, and write and record the report where they ask for it; gives what was scored and the report."""
    check(args)
    for path in (args.report, args.html):  # not after an hour of scoring
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise NotFoundError(f"{path} cannot be written: it is a folder, or its folder is not there. Give the path of a file.")
    wanted: list[Path | None] = [*args.packs] or [args.pack]
    recorded = [_recordable(path) for path in wanted] if args.record else []
    found = _cases(args)
    if not found:
        raise DataError("There is nothing to score: no task has a text or a product here. Look at --tasks, --langs and the data.")
    done = [_evaluated(args, path, found, progress) for path in wanted]
    against = None
    if args.against:
        again = dict(zip(wanted, done, strict=True)).get(args.against)
        against = again or _evaluated(args, args.against, found, progress)
    made = report.made(done, against, _settings(args))
    for path, write in ((args.report, report.to_text), (args.html, html.page)):
        if path is not None:
            with durable.storing(path):
                path.write_text(write(made), "utf-8")
    for folder, entry in zip(recorded, made["packs"], strict=False):
        _record(folder, report.kept(made, entry), report.alone(made, entry))
    return done, made


def check(args: argparse.Namespace) -> None:
    """Raise UsageError, OptionError for options that cannot be."""
    if sum(map(bool, (args.data, args.corpus, args.catalogue))) != 1:
        raise UsageError("Give one of --data FILE, --corpus FOLDER and --catalogue FILE.")
    if args.packs and args.pack:
        raise UsageError("Name the pack either with --pack or without an option, not both ways.")
    if args.adapter and (args.record or args.against or len(args.packs) > 1):
        raise UsageError("--adapter goes with one pack alone, whose figures cannot be recorded. Leave it out, or use --report.")
    for name, least in (("limit", 1), ("show", 0), ("worst", 0)):
        if getattr(args, name) < least:
            raise OptionError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    _options(args)
    for lang in args.langs.split(","):
        _shared.language(lang)
    for name in _names(args):
        tasks.get(name)


def _names(args: argparse.Namespace) -> list[str]:
    return [name for name in args.tasks.split(",") if name] or list(tasks.names())


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    source = args.data or args.corpus or args.catalogue
    return {
        "data": Path(source).name, "limit": args.limit, "n": args.n, "seed": args.seed, "tokenize": args.tokenize,
        "deadline": args.deadline,
    }  # fmt: skip


def _evaluated(args: argparse.Namespace, path: Path | None, found: Cases, progress: Progress) -> Evaluated:
    """One pack or checkpoint on all cases."""
    rows: list[Scored] = []
    options = _options(args)
    with _subjects.opened(path, args.threads, args.adapter) as subject:
        if strange := sorted({name for name, _ in found} - set(subject.tasks)):
            _shared.say(f"{subject.label} names no task {', '.join(strange)}: its model may not have learnt such texts")
        for (name, lang), cases in found.items():
            rows.append(evaluate(
                subject.explainer, name, lang, cases, options, engine=subject.engine, tokenize=args.tokenize, progress=progress
            ))  # fmt: skip
            _shared.say(tables.line(rows[-1].row))
    return _about(subject, rows)


def _options(args: argparse.Namespace) -> ExplainOptions:
    return ExplainOptions(n=args.n, seed=args.seed, deadline_s=args.deadline)


def _about(subject: Subject, rows: Sequence[Scored]) -> Evaluated:
    return Evaluated(subject.label, subject.quantization, subject.size, subject.provenance, rows)


def _print_texts(args: argparse.Namespace, done: Sequence[Evaluated]) -> None:
    for one in done:
        for lang in dict.fromkeys(scored.row.lang for scored in one.rows):
            answers = [answer for scored in one.rows if scored.row.lang == lang for answer in scored.answers]
            sample = Random(args.seed).sample(answers, min(args.show, len(answers)))
            sys.stdout.writelines(f"[{lang}/{a.task}/{a.source}] {a.text}\n" for a in sample)
        for bad in report.worst(one)[: args.worst]:
            sys.stdout.write(f"[{bad.lang}/{bad.task}/{bad.source}] {bad.text}\n")
            sys.stdout.writelines(f"    {reason}\n" for reason in bad.reasons)


def _recordable(wanted: Path | None) -> Path:
    """The folder of a pack whose manifest may still change. Raises UsageError for others, before anything is scored."""
    from edgegen.pack.installed import Installed

    _recorder()
    if wanted is not None and _subjects.is_checkpoint(wanted):
        raise UsageError(f"{wanted} is a checkpoint, and --record writes into packs. Use --report, or convert it first.")
    found = _shared.open_pack(wanted).folder
    kept = (Installed().packs, folders.cache())
    if (found / pack.SIGNATURE).exists() or any(found.resolve().is_relative_to(folder.resolve()) for folder in kept):
        raise UsageError(
            "--record changes the manifest of a pack; this one is signed or installed. Name the folder it is built from."
        )
    return found


def _record(folder: Path, figures: dict[str, Any], whole: dict[str, Any]) -> None:
    _recorder()(folder, figures, {report.FILE: report.to_text(whole), html.FILE: html.page(whole)})


def _recorder() -> Callable[..., None]:
    with extra("Recording"):
        from convert.build import record_evaluation
    return record_evaluation


# --- what is scored


def _cases(args: argparse.Namespace) -> Cases:
    """The cases of each task and language that has any, requests that are the same put together."""
    langs, pairs = [_shared.language(lang) for lang in args.langs.split(",")], _of_data(args.data) if args.data else {}
    names = _names(args) if args.tasks or not pairs else sorted({name for name, _ in pairs})
    found: Cases = {}
    for lang in langs:
        for name in names:
            cases = pairs.get((name, lang), []) if args.data else list(_cases_of(args, name, lang))
            if cases:
                found[name, lang] = cases_of.merged(cases)[: args.limit]
            elif args.catalogue:
                _shared.say(f"{name}/{lang}: the catalogue has no facts for it")
    return found


def _cases_of(args: argparse.Namespace, name: str, lang: Lang) -> Iterator[Case]:
    if args.corpus:
        path = args.corpus / f"test.{name}.{lang}.jsonl"
        yield from _of_data(path).get((name, lang), [])
        return
    found = catalog.load(args.catalogue, lang, _shared.overrides(args.map), args.currency, args.format)
    profiles = list(catalog.shoppers(args.shoppers or catalog.sample_shoppers(lang), lang, args.currency).values())
    paths = catalog.paths(found.products) if name == "category" else ()
    for at, shopper in enumerate(profiles if name == "personal" else profiles[:1]):
        part = found.products[at :: len(profiles)] if name == "personal" else found.products
        context = requests.Context(lang, shopper, None, None, paths, found.products)
        yield from (Case(request) for _, request in requests.build(name, part, context))


def _of_data(path: Path) -> Cases:
    """The pairs of a file; those of a task that chooses may choose what any of them names. Raises NotFoundError, DataError."""
    from dataclasses import replace

    from edgegen.train import pairs

    if path.is_dir():
        raise NotFoundError(f"{path} is a folder. Give a JSONL file of pairs, or the folder of a corpus with --corpus.")
    found: Cases = {}
    for at, pair in enumerate(pairs.read(path), 1):
        try:
            cases_of.check(pair.request, pair.text)
        except (DataError, UsageError) as error:
            raise DataError(f"{path}, pair {at}: {error}") from None
        case = Case(pair.request, (Reference(pair.text, pair.original),))
        found.setdefault((pair.request.task, pair.request.lang), []).append(case)
    if not found:
        raise DataError(f"{path} holds no pairs. Each line needs task, lang, sections and text.")
    for key, cases in found.items():
        if tree := tuple(sorted({choice for case in cases for choice in case.request.choices})):
            found[key] = [Case(replace(case.request, choices=tree), case.references) for case in cases]
    return found
