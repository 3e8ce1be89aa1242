"""Serve explanations over HTTP on this machine: checked texts, plain completions, the catalogue for the terminal."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from edgegen import catalog
from edgegen.commands import _shared
from edgegen.domain import Lang
from edgegen.engine.loop import Engine
from edgegen.errors import UsageError
from edgegen.explain import Explainer
from edgegen.licensing import Table
from edgegen.pack import Manifest
from edgegen.server import Shop, make_app, sample_shops

_GRACE_S = 3  # for open answers when the server is stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address; default: %(default)s")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--catalogue", metavar="FILE", help="catalogue that is served; default: the sample in every language")
    parser.add_argument("--lang", default="en", help="language of the catalogue, and the default one; default: %(default)s")
    parser.add_argument("--threads", type=int, help="default: what `edgegen doctor` shows")
    parser.add_argument("--template-only", action="store_true", help="load no model; every text comes from its template")
    _shared.add_pack(parser)
    _shared.add_adapter(parser)
    _shared.add_catalogue(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    lang = _shared.language(args.lang)
    with bound(args.host, args.port) as listener, _engine(args) as (explainer, engine, info):
        app = make_app(explainer, engine, info, shops(args, lang))
        _serve(app, listener)
    _shared.say("edgegen has stopped.")
    return 0


def shops(args: argparse.Namespace, lang: Lang) -> dict[Lang, Shop]:
    """The catalogues to serve, the default language first."""
    if args.catalogue is None:
        found = sample_shops()
        return {lang: found[lang], **found}
    products = _shared.read_catalogue(args, args.catalogue, lang).products
    shoppers = catalog.shoppers(args.shoppers, lang, args.currency) if args.shoppers else {}
    return {lang: Shop(lang, products, shoppers)}


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound but does not listen yet. Raises UsageError for a host that others can reach, or a taken port."""
    address = _loopback(host)
    if not 0 <= port <= 65535:
        raise UsageError(f"--port must be in [0, 65535], got {port}")
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        why = "is in use already" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise UsageError(f"Port {port} of {host} {why}. Choose another with --port.") from None
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    if address is None or str(address) not in ("127.0.0.1", "::1"):
        raise UsageError(f"--host {host}: edgegen serves this machine only. Use 127.0.0.1, ::1 or localhost.")
    return address


@contextmanager
def _engine(args: argparse.Namespace) -> Iterator[tuple[Explainer, Engine | None, Mapping[str, Any] | None]]:
    """What explains, the pack's engine and what /health says of it; templates alone where nothing else is wanted."""
    if args.template_only:
        yield Explainer(None), None, None
        return
    found = _shared.open_pack(args.pack)
    info = {"name": found.manifest.name, "version": found.manifest.version, "languages": list(found.manifest.languages)}
    info |= {"adapter": args.adapter.name} if args.adapter else {}
    with _shared.pack_engine(found, args.threads, args.adapter) as engine:
        yield explaining(found.manifest, engine, _shared.licensing(found, args.adapter)), engine, info


def explaining(manifest: Manifest, engine: Engine, table: Table | None) -> Explainer:
    """What explains with a pack's engine; templates alone, which say why, where the pack names no task."""
    if manifest.tasks:
        return Explainer(engine, table)
    _shared.say(f"pack {manifest.label} names no tasks: its model completes plain text, explanations come from templates")
    return Explainer(None, without=f"The model of pack {manifest.label} has no slot tokens and completes plain text only")


def _serve(app: Any, listener: socket.socket) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Says where it is once it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Begin to listen."""
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            _shared.say(f"edgegen serves on http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops it)")

    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S)
    # uvicorn raises the signal again once it has shut down; the engine is closed on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
