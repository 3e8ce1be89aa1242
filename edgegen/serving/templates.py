"""The service without a model: explanations from templates, and nothing else. Loads no numpy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from edgegen.errors import UnavailableError
from edgegen.explain import Explainer
from edgegen.serving.calls import Complete, Ended, Explain, Explained, State, Written

_NO_MODEL = "No model is loaded, so nothing can be completed. Start the server with a pack."


class TemplateService:
    """Implements `calls.Service`."""

    @property
    def state(self) -> State:
        """Ready: nothing else is wanted."""
        return State(True)

    async def explain(self, call: Explain) -> Explained:
        """The template's text."""
        return await explained(call)

    def complete(self, call: Complete) -> AsyncGenerator[Written | Ended, None]:
        """Raises UnavailableError."""
        del call
        return _nothing()

    async def tokenize(self, text: str, *, special: bool = False) -> list[tuple[int, str]]:
        """Raises UnavailableError."""
        del text, special
        raise UnavailableError(_NO_MODEL)

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Raises UnavailableError."""
        del ids
        raise UnavailableError(_NO_MODEL)

    async def figures(self) -> Mapping[str, float]:
        """None."""
        return {}


async def _nothing() -> AsyncGenerator[Written | Ended, None]:
    nothing: tuple[Written, ...] = ()
    for item in nothing:
        yield item
    raise UnavailableError(_NO_MODEL)


async def explained(call: Explain, without: str | None = None) -> Explained:
    """An explanation from its template; `without` says why, and stands in the record's note. Raises UsageError, DataError."""
    explainer = Explainer(None) if without is None else Explainer(None, without=without)
    made = await asyncio.to_thread(explainer.explain, call.request, call.options)
    return Explained(made.to_json(), list(made.pieces()), slotted=made.slotted())
