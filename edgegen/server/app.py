"""The Starlette application: its routes, and what stands before them. Starts nothing; `edgegen serve` runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgegen import tasks
from edgegen.domain import Lang
from edgegen.errors import NotFoundError
from edgegen.server.about import About
from edgegen.server.chat import Chat
from edgegen.server.completions import Completions
from edgegen.server.errors import HANDLERS
from edgegen.server.explanations import Explanations
from edgegen.server.feedback import Feedback
from edgegen.server.guard import Guard
from edgegen.server.metrics import Metrics
from edgegen.server.rows import Rows
from edgegen.server.settings import Settings
from edgegen.server.shop import Shop
from edgegen.server.watch import Watch
from edgegen.serving.calls import Service
from edgegen.store import Store


def make_app(
    service: Service, shops: Mapping[Lang, Shop] | None = None, settings: Settings | None = None, store: Store | None = None
) -> Starlette:
    """The application on a service. `shops` are the catalogues by language, the first one the default.

    Texts and feedback on them are kept in `store`; without one nothing is.
    """
    settings, metrics = settings or Settings(), Metrics()
    app = Starlette(
        routes=_routes(service, shops or {}, settings, metrics, store),
        middleware=_before(settings, metrics),
        exception_handlers=HANDLERS,
    )
    app.state.refused = metrics.refused  # for what is refused at the connection, before there is a request
    return app


def _routes(
    service: Service, shops: Mapping[Lang, Shop], settings: Settings, metrics: Metrics, store: Store | None
) -> list[Route]:
    limits = settings.limits
    feedback = Feedback(store, limits)
    explanations = Explanations(service, Rows(shops), limits, metrics, feedback)
    completions, chat = Completions(service, limits, metrics), Chat(service, limits, metrics)
    about = About(service, limits, metrics)

    return [
        Route("/v1/explanations", explanations.create, methods=["POST"]),
        Route("/v1/feedback", feedback.create, methods=["POST"]),
        Route("/v1/completions", completions.create, methods=["POST"]),
        Route("/v1/chat/completions", chat.create, methods=["POST"]),
        Route("/v1/models", about.models),
        Route("/v1/models/{id:path}", about.model),
        Route("/v1/tasks", _tasks),
        Route("/v1/products", _Products(shops).answer),
        Route("/tokenize", about.tokenize, methods=["POST"]),
        Route("/detokenize", about.detokenize, methods=["POST"]),
        Route("/apply-template", about.apply_template, methods=["POST"]),
        Route("/health", about.health),
        Route("/ready", about.ready),
        Route("/metrics", about.metrics),
        Route("/openapi.json", about.described),
        Route("/docs", about.docs),
    ]


def _before(settings: Settings, metrics: Metrics) -> list[Middleware]:
    """Outermost first: what counts and logs, what answers browsers of other sites, what refuses."""
    found = [Middleware(Watch, metrics=metrics, settings=settings)]
    if settings.access.origins:
        origins = sorted(settings.access.origins)
        found.append(
            Middleware(
                CORSMiddleware, allow_origins=origins, allow_origin_regex=settings.access.pattern, allow_methods=["GET", "POST"],
                allow_headers=["*"],  # those that are asked for: OpenAI's own client sends a dozen that say what it runs on
                expose_headers=["x-request-id", "retry-after"],
            )
        )  # fmt: skip
    found.append(Middleware(Guard, access=settings.access, limits=settings.limits))
    return found


async def _tasks(request: Request) -> Response:
    del request
    found = []
    for task in map(tasks.get, tasks.names()):
        needs = [{"section": need.label, "least": need.least, "most": need.most} for need in task.needs]
        found.append({"name": task.name, "about": task.about, "needs": needs})
    return JSONResponse({"tasks": found})


class _Products:
    """The served catalogues as JSON: made once, and not in the event loop, which thousands of products would keep busy."""

    def __init__(self, shops: Mapping[Lang, Shop]) -> None:
        self._shops, self._made = shops, dict[Lang, asyncio.Task[bytes]]()

    async def answer(self, request: Request) -> Response:
        """One of them."""
        shop = _shop(self._shops, request.query_params.get("lang"))
        if shop.lang not in self._made:
            self._made[shop.lang] = asyncio.create_task(asyncio.to_thread(self._body, shop))
        return Response(await asyncio.shield(self._made[shop.lang]), media_type="application/json")

    def _body(self, shop: Shop) -> bytes:
        return bytes(JSONResponse(shop.to_json() | {"langs": list(self._shops)}).body)


def _shop(shops: Mapping[Lang, Shop], lang: str | None) -> Shop:
    found = next((shop for known, shop in shops.items() if lang in (None, known)), None)
    if found is None:
        raise NotFoundError(f"No catalogue is served for language {str(lang)[:40]!r}. Served: {', '.join(shops) or 'none'}.")
    return found
