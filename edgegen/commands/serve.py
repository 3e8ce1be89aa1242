"""Serve over HTTP: checked explanations, completions and chats as the OpenAI API has them, the catalogue for the terminal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from edgegen import catalog
from edgegen.commands import _shared
from edgegen.domain import Lang
from edgegen.errors import OptionError, UnavailableError, UsageError
from edgegen.server import Keys, Limits, Settings, Shop, listening, make_app, sample_shops
from edgegen.serving.calls import Service, State
from edgegen.serving.launch import Launch
from edgegen.serving.supervisor import Supervisor
from edgegen.serving.templates import TemplateService
from edgegen.serving.watch import following
from edgegen.store import Retention, Store

_DRAIN_S = 10.0
_LEAST, _LEAST_TEXT = 256, 16  # tokens: an explanation with its prompt, and plain text
_LAST_S = 0.5  # for the engine once the server has stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="an address of this machine; others than loopback need --keys")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--catalogue", metavar="FILE", help="catalogue that is served; default: the sample in every language")
    parser.add_argument("--lang", default="en", help="language of the catalogue, and the default one; default: %(default)s")
    parser.add_argument("--threads", type=int, help="default: what `edgegen doctor` shows")
    parser.add_argument("--context", type=int, metavar="N", help="tokens of a prompt and its text; default: what the model can")
    parser.add_argument("--cells", type=int, metavar="N", help="tokens that all texts together have room for")
    parser.add_argument("--model", type=Path, metavar="FILE.gguf", help="a model in place of a pack: completions and chats only")
    parser.add_argument("--template-only", action="store_true", help="load no model; every text comes from its template")
    parser.add_argument("--check", action="store_true", help="load everything, write one text, say what would be served, and end")
    _shared.add_pack(parser)
    _shared.add_adapter(parser)
    _shared.add_catalogue(parser)
    _add_access(parser)


def _add_access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--feedback", action="store_true", help="keep texts and what people make of them (POST /v1/feedback)")
    parser.add_argument("--feedback-days", type=float, default=Retention().days, metavar="N", help="default: %(default)g")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="let in only who has a key of this file (`edgegen key`)")
    parser.add_argument("--insecure", action="store_true", help="serve other machines without keys")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a further name of this server")
    parser.add_argument("--allow-origin", action="append", default=[], metavar="URL", help="a site whose pages may call")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help="a limit that docs/serve.md lists")
    parser.add_argument("--drain-s", type=float, default=_DRAIN_S, help="for open answers when stopped; default: %(default)g")
    parser.add_argument("--access-log", action="store_true", help="a line of JSON on stderr for each request")
    parser.add_argument("--log-prompts", action="store_true", help="with what was asked in it; implies --access-log")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    check_options(args)
    made, served = settings(args), shops(args, _shared.language(args.lang))
    logging.basicConfig(level=logging.WARNING, format="edgegen: %(message)s", stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a client that has left
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to open anew
    if args.check:
        return _check(args, made, served)
    with listening.bound(args.host, args.port) as listener, suppress(KeyboardInterrupt):
        asyncio.run(_serve(args, made, served, listener))
    _shared.say("edgegen has stopped.")
    return 0


def settings(args: argparse.Namespace) -> Settings:
    """What the options say of access, limits and logs. Raises UsageError, OptionError, NotFoundError, DataError."""
    keys = Keys(args.keys) if args.keys else None
    allowed = listening.access(args.host, args.allow_host, args.allow_origin, keys, insecure=args.insecure)
    return Settings(Limits.parsed(args.limit), allowed, args.access_log or args.log_prompts, args.log_prompts)


def shops(args: argparse.Namespace, lang: Lang) -> dict[Lang, Shop]:
    """The catalogues to serve, the default language first."""
    if args.catalogue is None:
        found = sample_shops()
        return {lang: found[lang], **found}
    products = _shared.read_catalogue(args, args.catalogue, lang).products
    shoppers = catalog.shoppers(args.shoppers, lang, args.currency) if args.shoppers else {}
    return {lang: Shop(lang, products, shoppers)}


async def _serve(args: argparse.Namespace, made: Settings, served: dict[Lang, Shop], listener: socket.socket) -> None:
    def started() -> None:
        _shared.say(f"edgegen serves on {listening.url(listener)} (Ctrl-C stops it)")

    with _store(args) as store:
        async with service(args, wait=False) as found:

            async def up() -> None:
                if isinstance(found, Supervisor):
                    await found.up()
                    _shared.say(f"{(found.state.pack or {}).get('label')} answers")

            await listening.serve(make_app(found, served, made, store), listener, made.limits, args.drain_s, started, up)


def _store(args: argparse.Namespace) -> AbstractContextManager[Store | None]:
    """Where feedback is kept, where that is wanted."""
    return Store(retention=Retention(args.feedback_days)) if args.feedback else nullcontext()


def _check(args: argparse.Namespace, made: Settings, served: dict[Lang, Shop]) -> int:
    """Say what would be served. Where the port is taken, the rest is checked all the same, and the exit code says so."""
    try:
        with listening.bound(args.host, args.port) as listener:
            at, code = listening.url(listener), 0
    except UsageError as error:
        at, code = str(error), error.exit_code
    asyncio.run(_tell(args, made, served, at))
    return code


async def _tell(args: argparse.Namespace, made: Settings, served: dict[Lang, Shop], at: str) -> None:
    with _store(args) as store:
        feedback = f"kept in {store.path}" if store else "not kept"
    async with service(args) as found:
        if not found.state.ready:
            raise UnavailableError(f"Nothing can be served: {found.state.why}.")
        lines = [("address", at), *_told(found.state, made, served), ("feedback", feedback)]
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in lines))


def _told(state: State, made: Settings, served: dict[Lang, Shop]) -> Iterator[tuple[str, str]]:
    """What would be served."""
    keys, origins = made.access.keys, made.access.origins
    yield "keys", ", ".join(keys.names) if keys else "none: whoever reaches the address is served"
    yield "names", ", ".join(sorted(made.access.hosts)) + (", any address" if made.access.addresses else "")
    yield "pages of other sites", ", ".join(sorted(origins)) or "none"
    pack = state.pack or {}
    yield "pack", str(pack.get("label", "none: templates alone"))
    if pack:
        yield "model", f"{state.n_ctx} positions, {state.n_vocab} tokens, {state.setting}; one generation worked"
        yield "chat", "yes" if state.chat_template else "no: the model brings no template"
    yield "explanations", "from the model" if state.explains else "from templates"
    yield "catalogue", ", ".join(f"{lang}: {len(shop.products)} products" for lang, shop in served.items())
    yield "limits", ", ".join(f"{name}={value}" for name, value in asdict(made.limits).items())


@asynccontextmanager
async def service(args: argparse.Namespace, *, wait: bool = True) -> AsyncIterator[Service]:
    """What answers: an engine in a process of its own, or templates alone where nothing else is wanted.

    Without `wait` the engine is not started yet.
    """
    if args.template_only:
        yield TemplateService()
        return
    supervisor = Supervisor(_launch(args))
    try:
        async with following(supervisor, active=args.pack is None and args.model is None):
            if wait:
                await supervisor.start()
            yield supervisor
    finally:
        await supervisor.drain(_LAST_S)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that do nothing or cannot be. Raises UsageError, OptionError."""
    if args.template_only:
        for name in ("pack", "model", "adapter", "threads", "context", "cells"):
            if getattr(args, name) is not None:
                raise UsageError(f"--template-only loads no model: leave --{name} out.")
    if args.model and (args.pack or args.adapter):
        raise UsageError("--model serves a bare model: leave --pack and --adapter out.")
    if args.catalogue is None:
        for name in ("shoppers", "map", "currency", "format"):
            if getattr(args, name):
                raise UsageError(f"--{name} goes with --catalogue only: give that too, or leave --{name} out.")
    _shared.check_threads(args.threads)
    least = {"context": _LEAST_TEXT if args.model else _LEAST, "cells": _LEAST}
    for name, low in least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise OptionError(f"--{name} must be at least {low}, room for a prompt and its text, got {value}")
    if not 0 <= args.drain_s < math.inf:
        raise OptionError(f"--drain-s must be a number of seconds, at least 0, got {args.drain_s:g}")


def _launch(args: argparse.Namespace) -> Launch:
    pack, model, adapter = (str(path) if path else None for path in (args.pack, args.model, args.adapter))
    return Launch(pack, model, adapter, args.threads, args.context, args.cells)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
