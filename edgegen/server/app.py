"""The Starlette application: its routes, and what they share. Starts nothing; `edgegen serve` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgegen import __version__, tasks
from edgegen.domain import Lang
from edgegen.engine.loop import Engine
from edgegen.errors import NotFoundError
from edgegen.explain import Explainer
from edgegen.server.completions import Completions
from edgegen.server.errors import HANDLERS
from edgegen.server.explanations import Explanations
from edgegen.server.shop import Shop

# A page of another site must not reach the API under a name of its own that points to this machine.
_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")


def make_app(
    explainer: Explainer,
    engine: Engine | None = None,
    pack_info: Mapping[str, Any] | None = None,
    shops: Mapping[Lang, Shop] | None = None,
) -> Starlette:
    """The application on an explainer and its engine.

    `pack_info` is what /health says of the pack. `shops` are the catalogues by language, the first one the default.
    """
    shops = shops or {}
    explanations, completions = Explanations(explainer, shops), Completions(engine, str((pack_info or {}).get("name", "edgegen")))

    async def health(request: Request) -> Response:
        del request
        return JSONResponse({"status": "ok", "version": __version__, "pack": pack_info})

    async def products(request: Request) -> Response:
        return JSONResponse(_shop(shops, request.query_params.get("lang")).to_json() | {"langs": list(shops)})

    routes = [
        Route("/health", health),
        Route("/v1/tasks", _tasks),
        Route("/v1/products", products),
        Route("/v1/explanations", explanations.create, methods=["POST"]),
        Route("/v1/completions", completions.create, methods=["POST"]),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=_NAMES, www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts], exception_handlers=HANDLERS)


async def _tasks(request: Request) -> Response:
    del request
    found = []
    for task in map(tasks.get, tasks.names()):
        needs = [{"section": need.label, "least": need.least, "most": need.most} for need in task.needs]
        found.append({"name": task.name, "about": task.about, "needs": needs})
    return JSONResponse({"tasks": found})


def _shop(shops: Mapping[Lang, Shop], lang: str | None) -> Shop:
    found = next((shop for known, shop in shops.items() if lang in (None, known)), None)
    if found is None:
        raise NotFoundError(f"No catalogue is served for language {lang!r}. Served: {', '.join(shops) or 'none'}.")
    return found
