"""Turn a GPT-2 checkpoint into a pack: GGUF, quantized, compared with the original."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edgegen import tasks
from edgegen.commands._shared import language, say
from edgegen.domain import LANGS
from edgegen.errors import DataError, MissingExtraError, NotFoundError, UsageError

_OF_PACKS = ("quant", "name", "pack_version", "langs", "tasks", "licence", "provenance", "evaluation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("checkpoint", nargs="?", help="folder with config, weights and tokenizer.json, or a hub name")
    parser.add_argument("--adapter", type=Path, help="folder of a PEFT adapter to merge; default base: the one it names")
    parser.add_argument("--as-adapter", action="store_true", help="write the adapter itself as GGUF, not merged")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pack; with --as-adapter the .gguf file")
    parser.add_argument("--quant", default="q8_0", help="f32, f16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0, ...; default: %(default)s")
    parser.add_argument("--name", help="of the pack; default: the folder's name")
    parser.add_argument("--pack-version", default="1", help="default: %(default)s")
    parser.add_argument("--langs", default=",".join(LANGS), help="default: %(default)s")
    parser.add_argument("--tasks", default="", help="names, with commas; default: all")
    parser.add_argument("--licence", default="Apache-2.0", help="default: %(default)s")
    parser.add_argument("--provenance", type=Path, help="JSON file: what the model was trained on")
    parser.add_argument("--evaluation", type=Path, help="JSON file of `edgegen evaluate --report`")


def run(args: argparse.Namespace) -> int:
    """Convert; prints the pack's folder, or the adapter's file."""
    if args.as_adapter:
        return _adapter_alone(args)
    try:
        from convert.build import build_pack
    except ImportError as error:
        raise MissingExtraError(
            f"Converting needs the package {error.name}. Install it: pip install 'edgegen[train]'."
        ) from error
    made = build_pack(
        args.checkpoint,
        args.out,
        adapter=args.adapter,
        quant=args.quant,
        name=args.name or args.out.name,
        version=args.pack_version,
        languages=[language(lang) for lang in args.langs.split(",")],
        tasks=[name for name in args.tasks.split(",") if name] or list(tasks.names()),
        provenance=_json(args.provenance) or _sources(args),
        evaluation={"rows": _json(args.evaluation)} if args.evaluation else {},
        licence=args.licence,
    )
    manifest = json.loads((made / "manifest.json").read_text("utf-8"))
    for kind, figures in manifest["equality"].items():
        say(f"{kind}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, (int, float))))
    sys.stdout.write(f"{made}\n")
    return 0


def _adapter_alone(args: argparse.Namespace) -> int:
    usual = argparse.ArgumentParser()
    add_arguments(usual)
    if args.adapter is None:
        raise UsageError("--as-adapter writes an adapter as GGUF. Name its folder with --adapter.")
    if given := [name for name in _OF_PACKS if getattr(args, name) != usual.get_default(name)]:
        raise UsageError(f"--{given[0].replace('_', '-')} is said of packs, and --as-adapter writes none. Leave it out.")
    try:
        from convert import adapter
    except ImportError as error:
        raise MissingExtraError(
            f"Converting needs the package {error.name}. Install it: pip install 'edgegen[train]'."
        ) from error
    sys.stdout.write(f"{adapter.write(args.adapter, args.out, args.checkpoint)}\n")
    return 0


def _sources(args: argparse.Namespace) -> dict[str, str]:
    named = {"checkpoint": args.checkpoint, "adapter": args.adapter}
    return {key: Path(value).name for key, value in named.items() if value is not None}


def _json(path: Path | None) -> Any:
    if path is None:
        return None
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}. Check the path.")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
