"""The command `edgegen`: finds the sub-command's module, runs it, and maps errors to exit codes.

Each sub-command is one file in `edgegen/commands/`; nothing else is imported for it. Results go to stdout, talk to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from edgegen import __version__
from edgegen.commands._words import told
from edgegen.errors import EdgegenError, StorageError

COMMANDS = {
    "explain": "explain products of a catalogue",
    "tasks": "list the tasks",
    "doctor": "say what hardware, llama.cpp and pack were found, and what was chosen",
    "serve": "serve explanations over HTTP",
    "feedback": "count, export and delete what a server has kept of feedback",
    "key": "make the keys of who may call a server",
    "tui": "the terminal for shop staff",
    "evaluate": "score a pack on a test set",
    "convert": "turn a GPT-2 checkpoint into a pack",
    "pack": "look at and check packs",
    "train": "write the corpus, train the base, tune on own texts",
}
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (see `edgegen.errors`; 130 when interrupted)."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # None where the caller closed them
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        except EdgegenError as error:
            return _failed(error)
        finally:
            sys.stdout.flush()  # here, where a full disk is still one line, and not when Python ends
    except BrokenPipeError:
        _close_stdout()
        return 0
    except OSError as error:
        if error.filename is None:
            _close_stdout()
        return _failed(StorageError(_why(error)))
    except KeyboardInterrupt:
        print("edgegen: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(args: list[str]) -> int:
    parser = _parser()
    if not args or args[0] not in COMMANDS:
        parser.parse_args(args or ["--help"])
        return 0
    module = importlib.import_module(f"edgegen.commands.{args[0]}")
    command = argparse.ArgumentParser(prog=f"edgegen {args[0]}", description=module.__doc__)
    module.add_arguments(command)
    return int(module.run(command.parse_args(args[1:])) or 0)


def _failed(error: EdgegenError) -> int:
    print(f"edgegen: {told(error)}", file=sys.stderr)
    return error.exit_code


def _why(error: OSError) -> str:
    """What the system refused: an error that names no file comes from writing to the standard output."""
    if error.filename is None:
        return f"The output cannot be written: {error.strerror or error}. Free some space, or send it elsewhere."
    return f"{error.filename}: {error.strerror}. Check the path, your rights to it and the space that is left."


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _close_stdout() -> None:
    """Send what is left of the output nowhere, so that Python does not fail on it once more when it ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:10} {about}" for name, about in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="edgegen",
        description="Short, true explanations of product recommendations where there is no network.",
        epilog=f"commands:\n{listing}\n\n`edgegen COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgegen {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser
