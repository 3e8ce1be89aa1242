"""Say what hardware, llama.cpp build and pack were found, and what was chosen."""

from __future__ import annotations

import argparse
import sys

from edgegen import hardware
from edgegen.commands import _shared
from edgegen.errors import EdgegenError
from edgegen.pack import bundled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--probe", action="store_true", help="try the settings in child processes and keep the fastest that works"
    )
    _shared.add_pack(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line a finding; the exit code says whether a pack can be used."""
    code, model, found = 0, None, {}
    try:
        loaded = _shared.open_pack(args.pack)
        model = loaded.model
        manifest = loaded.manifest
        found = {
            "pack": f"{manifest.name} {manifest.version}, {manifest.quantization}, {model.stat().st_size / 1e6:.1f} MB: verified",
            "pack folder": str(loaded.folder),
            "signed by": str(loaded.signer or ("nobody: it comes with edgegen" if loaded.folder == bundled() else "nobody")),
        }
    except EdgegenError as error:
        found, code = {"pack": f"none can be used: {error}"}, error.exit_code
    if args.probe and model:
        _shared.say("trying the settings of this machine (about ten seconds)")
        if (before := hardware.kept(model)) and before.avoided:
            _shared.say(f"forgotten: engines crashed with {', '.join(map(str, before.avoided))}")
        hardware.probe(model)
    for name, text in {**hardware.describe(model), **found}.items():
        sys.stdout.write(f"{name:22} {text}\n")
    return code
