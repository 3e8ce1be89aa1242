"""Calls a function in a child process, so that a crash of native code is a result and not the end."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "transformers", "peft", "llama_cpp", "convert.build"])


class DiedError(Exception):
    """The child was ended by a signal; the message names it."""


def call(function: Callable[..., T], *arguments: object) -> T:
    """What a function of a module returns for arguments that can be pickled. Raises DiedError, RuntimeError."""
    here, there = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_answer, args=(there, function, arguments))
    process.start()
    there.close()
    try:
        error, value = here.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        raise DiedError(signal.Signals(-code).name if code < 0 else f"exit status {code}") from None
    process.join()
    if error:
        raise RuntimeError(error)
    found: T = value
    return found


def _answer(there: Connection, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        there.send((None, function(*arguments)))
    except Exception as error:  # noqa: BLE001 - it goes on in the parent
        there.send((f"{type(error).__name__}: {error}", None))
