"""POST /v1/completions: plain generation in the shape of the OpenAI API. Nothing is checked or filled in here.

A prompt is text or token ids: what looks like a control token in text is not parsed for one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgegen.server import asking, logprobs
from edgegen.server.body import BodyError, field, number, read_body
from edgegen.server.generation import Answer, Choice, Items, finish_reason, generate, head, of_one_model
from edgegen.server.metrics import Metrics
from edgegen.server.settings import Limits
from edgegen.server.streams import DONE, Events, event, unless_left
from edgegen.serving.calls import Complete, Ended, Part, Service, State, Token

FIELDS = (*asking.SHARED, *asking.EXTENSIONS, "prompt", "max_tokens", "logprobs", "echo", "best_of", "suffix")
"""The fields of a body."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {"best_of": (None, 1), "suffix": (None, "")}
_DEFAULT_TOKENS = 16  # the API's own
_MOST_LOGPROBS = 20  # the API's own is 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for: a call for each prompt."""

    calls: tuple[Complete, ...]
    fields: asking.Fields
    n: int
    echo: bool
    ids: bool
    """Whether the tokens' ids are told."""
    stream: bool
    usage: bool


class Completions:
    """The route, on a service."""

    def __init__(self, service: Service, limits: Limits, metrics: Metrics) -> None:
        self._service, self._limits, self._metrics = service, limits, metrics

    async def create(self, request: Request) -> Response:
        """Answer with whole texts, or with their bits as they are written."""
        body = await read_body(request, FIELDS, self._limits)
        # From here to `generate` nothing may wait: the calls must go to the model that they were made for.
        wanted, echoes, answer = await of_one_model(self._service, partial(self._asked, body))
        items = await generate(request, self._service, self._metrics, wanted.calls, wanted.fields)
        if wanted.stream:
            return Events(_events(items, answer, wanted, echoes))
        return JSONResponse(await unless_left(request, _whole(items, answer, wanted, echoes)))

    async def _asked(self, body: Mapping[str, Any], state: State) -> tuple[Wanted, list[str], Answer]:
        wanted = _wanted(body, state, self._limits)
        echoes = [await self._echo(call) if wanted.echo else "" for call in wanted.calls]
        return wanted, echoes, Answer(head("text_completion", "cmpl", state))

    async def _echo(self, call: Complete) -> str:
        """The prompt as text, without the token that the model wants before it."""
        return "".join([part.text or await self._service.detokenize(part.ids) for part in call.prompt if not part.special])


async def _whole(items: Items, answer: Answer, wanted: Wanted, echoes: Sequence[str]) -> dict[str, Any]:
    choices = [Choice(i, echoes[i // wanted.n]) for i in range(len(echoes) * wanted.n)]
    async with aclosing(items):
        async for number_, item in items:
            at = number_ * wanted.n
            if isinstance(item, Ended):
                answer.ended(item)
                for i, finish in enumerate(item.finishes):
                    choices[at + i].finish = finish_reason(finish)
            else:
                choices[at + item.index].add(item)
    found = [_choice(wanted, c.index, c.text, c.tokens, len(echoes[c.index // wanted.n]), c.finish) for c in choices]
    return {**answer.head, "choices": found, **answer.usage()}


async def _events(items: Items, answer: Answer, wanted: Wanted, echoes: Sequence[str]) -> AsyncGenerator[str]:
    common = {**answer.head, **({"usage": None} if wanted.usage else {})}
    offsets = [len(echo) for echo in echoes for _ in range(wanted.n)]
    async with aclosing(items):
        for index in range(len(offsets)):
            if echo := echoes[index // wanted.n]:
                yield event({**common, "choices": [_choice(wanted, index, echo, (), 0, None)]})
        ends = ""  # go with what comes next: a text's end costs one write
        async for number_, item in items:
            at = number_ * wanted.n
            if isinstance(item, Ended):
                answer.ended(item)
                for i, finish in enumerate(item.finishes, at):
                    ends += event({**common, "choices": [_choice(wanted, i, "", (), offsets[i], finish_reason(finish))]})
            else:
                index = at + item.index
                choice = _choice(wanted, index, item.text, item.tokens, offsets[index], None)
                yield ends + event({**common, "choices": [choice]})
                ends = ""
                offsets[index] += len(item.text)
    usage = event({**answer.head, "choices": [], **answer.usage()}) if wanted.usage else ""
    yield ends + usage + DONE


def _choice(wanted: Wanted, index: int, text: str, tokens: Sequence[Token], offset: int, finish: str | None) -> dict[str, Any]:
    told = logprobs.for_completion(tokens, offset) if wanted.calls[0].logprobs is not None and tokens else None
    choice = {"index": index, "text": text, "logprobs": told, "finish_reason": finish}
    return choice | ({"token_ids": [token.id for token in tokens]} if wanted.ids else {})


def _wanted(body: Mapping[str, Any], state: State, limits: Limits) -> Wanted:
    asking.refuse(body, _NEUTRAL)
    echo, told = field(body, "echo", bool, False), number(body, "logprobs", None, 0, _MOST_LOGPROBS, whole=True)
    if echo and told is not None:
        message = "'echo' and 'logprobs' do not go together: the prompt's own are not computed."
        raise BodyError(message, "echo", "unsupported_parameter")
    new = asking.length(body, ["max_tokens"], _DEFAULT_TOKENS, limits)
    asking.need_model(state)  # what follows is right or wrong for a model
    calls = tuple(asking.complete(body, prompt, new, told, state, limits) for prompt in _prompts(body, state, limits))
    stream, usage = asking.streamed(body)
    ids = field(body, "return_token_ids", bool, False)
    return Wanted(calls, asking.by_fields(body, "prompt", new), calls[0].n, echo, ids, stream, usage)


def _prompts(body: Mapping[str, Any], state: State, limits: Limits) -> list[tuple[Part, ...]]:
    """The prompts of a body: a text, a list of texts, token ids, or a list of lists of them."""
    given = field(body, "prompt", (str, list), None)
    if given is None:
        raise BodyError("The field 'prompt' is missing. Give the text to continue.", "prompt")
    several = given if isinstance(given, list) and given and not all(map(_is_id, given)) else [given]
    if len(several) > limits.prompts:
        raise BodyError(f"The field 'prompt' holds {len(several)} prompts, at most {limits.prompts} go at once.", "prompt")
    return [_prompt(one, state, limits) for one in several]


def _prompt(one: Any, state: State, limits: Limits) -> tuple[Part, ...]:
    bos = state.specials.get("bos", "")
    if isinstance(one, str) and len(one) <= limits.prompt_chars:
        start = (Part(bos, special=True),) if bos and (state.starts_with_bos or not one) else ()
        parts = (*start, *((Part(one),) if one else ()))
    elif isinstance(one, list) and len(one) <= limits.prompt_chars and all(map(_is_id, one)):
        if outside := [id_ for id_ in one if id_ >= state.n_vocab > 0]:
            raise BodyError(f"The field 'prompt' names token {outside[0]}; the model has {state.n_vocab}.", "prompt")
        parts = (Part(ids=tuple(one)),) if one else ()
    elif isinstance(one, str | list) and len(one) > limits.prompt_chars:
        raise BodyError(f"The field 'prompt' is longer than {limits.prompt_chars}.", "prompt", "string_above_max_length")
    else:
        raise BodyError("The field 'prompt' must be a text, a list of texts, token ids, or a list of lists of them.", "prompt")
    if not parts:
        raise BodyError("The field 'prompt' is empty. Give the text to continue.", "prompt")
    return parts


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
