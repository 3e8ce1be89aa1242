"""`edgegen train prefer`: from feedback, or from the reward alone, to a better adapter."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edgegen.commands._shared import say
from edgegen.errors import UsageError, extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    parser.add_argument("--store", type=Path, metavar="FILE", help="feedback; default: feedback.db in $EDGEGEN_HOME")
    parser.add_argument("--self", action="store_true", dest="own", help="let the reward choose among texts that the base writes")
    parser.add_argument("--teach", default="truth", help="with --self: truth (true over untrue) or reward; default: truth")
    parser.add_argument("--data", type=Path, help="pairs (JSONL) whose requests --self writes for; default: the store's")
    parser.add_argument("--n", type=int, default=8, help="texts of a request; default: %(default)s")
    parser.add_argument("--base", default="bundled", help="bundled, a folder, or a hub name; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/prefer"), help="folder; default: %(default)s")
    parser.add_argument("--beta", type=float, default=0.1, help="how dear it is to leave the base; default: %(default)s")
    parser.add_argument("--anchor", type=float, default=0.1, help="weight of the chosen texts' own loss; default: %(default)s")
    parser.add_argument("--rank", type=int, default=8, help="of the adapter; default: %(default)s")
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="preferences in a step; default: %(default)s")
    parser.add_argument("--rate", type=float, default=1e-4, help="highest learning rate; default: %(default)s")
    parser.add_argument("--measured", type=int, default=200, help="held-out requests to write for; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Train, and say what it brought."""
    with extra("Training"):
        from edgegen.train import prefer
    entries = _entries(args)
    requests = _requests(args, entries) if args.own else []
    found = prefer.prefer(args.base, entries, requests, args.out, _options(args), say)
    say(_table(found))
    if found.after.grounded < found.before.grounded:
        say("It writes less that is true than the base. Measure more (--measured), or train less (--steps, --beta).")
    say(f"adapter: {found.adapter}\nmerged, for `edgegen convert`:")
    sys.stdout.write(f"{found.merged}\n")
    return 0


def _entries(args: argparse.Namespace) -> list[Any]:
    from edgegen.store import Store, default_path

    if args.own and args.store is None and not default_path().is_file():
        return []
    with Store(args.store, create=False) as store:
        return list(store.entries())


def _requests(args: argparse.Namespace, entries: list[Any]) -> list[Any]:
    from edgegen import tasks, wire
    from edgegen.train import pairs

    if args.data:
        found = [pair.request for pair in pairs.read(args.data)]
    else:
        found = [wire.request_from_json(entry.shown.request) for entry in entries]
    found = [request for request in dict.fromkeys(found) if not tasks.get(request.task).choices]
    if not found:
        raise UsageError("--self has no request to write for. Give pairs with --data, or collect feedback.")
    return found


def _options(args: argparse.Namespace) -> Any:
    from edgegen.train.fit import FitOptions
    from edgegen.train.lora import LoraOptions
    from edgegen.train.prefer import PreferOptions

    fit = FitOptions(
        steps=args.steps, batch=args.batch, rate=args.rate, seed=args.seed, warmup=max(1, args.steps // 20),
        save_every=max(1, args.steps // 10), weight_decay=0.0,
    )  # fmt: skip
    adapter = LoraOptions(rank=args.rank, alpha=2.0 * args.rank, dropout=0.0, fit=fit)
    return PreferOptions(adapter, args.beta, args.anchor, args.n, args.measured, args.teach)


def _table(found: Any) -> str:
    told = found.to_json()
    lines = [f"held out: {told['before']['texts']} texts, {told['held_pairs']} preferences"]
    lines.append(f"{'':12} {'before':>8} {'after':>8}")
    both = {name: (told["before"][name], told["after"][name]) for name in told["before"] if name != "texts"}
    both |= {name: told[name] for name in ("margin", "preferred") if told[name]}
    return "\n".join([*lines, *(f"{name:12} {first:8.3f} {second:8.3f}" for name, (first, second) in both.items())])
