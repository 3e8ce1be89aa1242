"""POST /v1/chat/completions in the shape of the OpenAI API, for models that bring a chat template."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgegen.server import asking, chat_template, logprobs
from edgegen.server.body import BodyError, field, number, only, read_body
from edgegen.server.generation import Answer, Choice, Items, finish_reason, generate, head
from edgegen.server.metrics import Metrics
from edgegen.server.settings import Limits
from edgegen.server.streams import DONE, Events, event, unless_left
from edgegen.serving.calls import Complete, Ended, Service, State, Token

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (None,), "function_call": (None, "none"), "functions": (None, []), "metadata": (None, {}),
    "modalities": (None, ["text"]), "parallel_tool_calls": (None, True, False), "prediction": (None,),
    "reasoning_effort": (None,), "service_tier": (None, "auto", "default"), "store": (None, False),
    "tool_choice": (None, "none"), "tools": (None, []), "verbosity": (None,), "web_search_options": (None,),
}  # fmt: skip
_HINTS = ("prompt_cache_key", "safety_identifier")  # they name the caller for OpenAI's own books
FIELDS = (
    *asking.SHARED, *asking.EXTENSIONS, "messages", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs",
    "add_generation_prompt", "continue_final_message", *_HINTS, *_NEUTRAL,
)  # fmt: skip
"""The fields of a body."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MOST_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for."""

    call: Complete
    fields: asking.Fields
    ids: bool
    stream: bool
    usage: bool


class Chat:
    """The route, on a service."""

    def __init__(self, service: Service, limits: Limits, metrics: Metrics) -> None:
        self._service, self._limits, self._metrics = service, limits, metrics

    async def create(self, request: Request) -> Response:
        """Answer with whole messages, or with their bits as they are written."""
        body, state = await read_body(request, FIELDS, self._limits), self._service.state
        wanted = _wanted(body, state, self._limits)
        answer = Answer(head("chat.completion.chunk" if wanted.stream else "chat.completion", "chatcmpl", state))
        items = await generate(request, self._service, self._metrics, [wanted.call], wanted.fields)
        if wanted.stream:
            return Events(_events(items, answer, wanted))
        return JSONResponse(await unless_left(request, _whole(items, answer, wanted)))


async def _whole(items: Items, answer: Answer, wanted: Wanted) -> dict[str, Any]:
    choices = [Choice(i) for i in range(wanted.call.n)]
    async with aclosing(items):
        async for _, item in items:
            if isinstance(item, Ended):
                answer.ended(item)
                for choice, finish in zip(choices, item.finishes, strict=True):
                    choice.finish = finish_reason(finish)
            else:
                choices[item.index].add(item)
    found = [
        {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": logprobs.for_chat(choice.tokens) if wanted.call.logprobs is not None else None,
            "finish_reason": choice.finish,
            **({"token_ids": [token.id for token in choice.tokens]} if wanted.ids else {}),
        }
        for choice in choices
    ]
    return {**answer.head, "choices": found, **answer.usage()}


async def _events(items: Items, answer: Answer, wanted: Wanted) -> AsyncGenerator[str]:
    common = {**answer.head, **({"usage": None} if wanted.usage else {})}

    def told(index: int, delta: dict[str, Any], finish: str | None = None, tokens: Sequence[Token] = ()) -> str:
        probs = logprobs.for_chat(tokens) if wanted.call.logprobs is not None and tokens else None
        ids = {"token_ids": [token.id for token in tokens]} if wanted.ids and tokens else {}
        return event({**common, "choices": [{"index": index, "delta": delta, "logprobs": probs, "finish_reason": finish, **ids}]})

    async with aclosing(items):
        for i in range(wanted.call.n):
            yield told(i, {"role": "assistant", "content": None})
        ends = ""  # one write with the rest
        async for _, item in items:
            if isinstance(item, Ended):
                answer.ended(item)
                ends += "".join(told(i, {}, finish_reason(finish)) for i, finish in enumerate(item.finishes))
            else:
                yield told(item.index, {"content": item.text}, None, item.tokens)
    usage = event({**answer.head, "choices": [], **answer.usage()}) if wanted.usage else ""
    yield ends + usage + DONE


def _wanted(body: Mapping[str, Any], state: State, limits: Limits) -> Wanted:
    asking.refuse(body, _NEUTRAL)
    told = number(body, "top_logprobs", None, 0, _MOST_LOGPROBS, whole=True)
    if field(body, "logprobs", bool, False):
        told = told or 0
    elif told is not None:
        raise BodyError("The field 'top_logprobs' goes with 'logprobs': true only.", "top_logprobs")
    go_on = goes_on(body)
    stream, usage = asking.streamed(body)
    new = asking.length(body, ["max_completion_tokens", "max_tokens"], state.n_ctx, limits)
    found = messages(body, limits)
    asking.need_model(state)
    call = asking.complete(body, chat_template.prompt(found, state, go_on=go_on), new, told, state, limits)
    return Wanted(call, asking.by_fields(body, "messages", new), field(body, "return_token_ids", bool, False), stream, usage)


def goes_on(body: Mapping[str, Any]) -> bool:
    """Whether the last message is continued instead of answered. Raises BodyError."""
    go_on: bool = field(body, "continue_final_message", bool, False)
    if field(body, "add_generation_prompt", bool, not go_on) == go_on:
        raise BodyError("A message is either continued or a new one begun: give one of the two fields.", "add_generation_prompt")
    return go_on


def messages(body: Mapping[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """The messages of a body, each with role and content. Raises BodyError."""
    given = field(body, "messages", list, None)
    if not given:
        raise BodyError("The field 'messages' is missing or empty. Give at least one message.", "messages")
    found = [_message(one, f"messages[{i}]") for i, one in enumerate(given)]
    if sum(len(message["content"]) for message in found) > limits.prompt_chars:
        raise BodyError(f"The messages are longer than {limits.prompt_chars} characters.", "messages", "string_above_max_length")
    return found


def _message(one: Any, at: str) -> dict[str, Any]:
    if not isinstance(one, dict):
        raise BodyError(f"{at} must be an object with role and content.", at)
    role = one.get("role")
    if role in ("tool", "function") or one.get("tool_calls") or one.get("function_call"):
        raise BodyError(f"{at}: tools are not supported.", at, "unsupported_parameter")
    if not isinstance(role, str) or role not in _ROLES:
        raise BodyError(f"{at}.role must be one of {', '.join(_ROLES)}.", f"{at}.role")
    only(one, ("role", "content", "name", "refusal", "tool_calls", "function_call", "audio", "annotations"))
    name = field(one, "name", str, None)
    content = _content(one.get("content"), role, f"{at}.content")
    return {"role": _ROLES[role], "content": content, **({"name": name} if name else {})}


def _content(content: Any, role: str, at: str) -> str:
    if content is None and role == "assistant":
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise BodyError(f"{at} must be a string, or a list of text parts.", at)
    texts = []
    for i, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BodyError(f"{at}[{i}] must have type 'text' and a text; nothing else is supported.", f"{at}[{i}]")
        texts.append(part["text"])
    return "\n".join(texts)
