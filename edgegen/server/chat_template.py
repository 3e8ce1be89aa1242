"""A chat as a prompt, by the Jinja template that a model brings. Pure; what a user writes is never parsed for control tokens.

The template's own control tokens and a user's imitation of them look alike in the text that comes out. So marks are put into
the user's words before: at both ends, and within everything that reads like a control token. What still reads like one
afterwards was written by the template; then the marks are taken away. The words stay in one run with the template's text
around them, so that the tokens are the ones the model was trained on.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgegen.errors import DataError
from edgegen.serving.calls import Part, State

Messages = Sequence[Mapping[str, Any]]


class ChatError(DataError):
    """A chat that the model's template does not take, or a model without one."""

    http_status = 400


def prompt(messages: Messages, state: State, *, go_on: bool = False) -> tuple[Part, ...]:
    """The parts of a chat's prompt: control tokens as such, all else as plain text. `go_on` continues the last message.

    Raises ChatError.
    """
    if not state.chat_template:
        raise ChatError("The model brings no chat template, so it cannot chat. Use /v1/completions.")
    marks = _Marks(state.controls)
    told = [{**message, "content": marks.put(message["content"])} for message in messages]
    text = _rendered(state, told, generation=not go_on)
    if go_on:
        last = told[-1]["content"].strip()
        if not last or last not in text:
            raise ChatError("The model's template does not show the last message as it is, so it cannot be continued.")
        text = text[: text.rindex(last) + len(last)]
    bos = state.specials.get("bos", "")
    if state.starts_with_bos and bos and not text.startswith(bos):
        text = bos + text
    return marks.parts(text)


class _Marks:
    """Tells the control tokens of the template from those that a user wrote."""

    def __init__(self, controls: frozenset[str]) -> None:
        found = sorted((re.escape(one) for one in controls if len(one) > 1), key=len, reverse=True)
        self._any = "|".join(found) or r"(?!)"
        self._mark = f"\ue000{secrets.token_hex(8)}\ue001"

    def put(self, words: str) -> str:
        """The words with marks. White space at the ends stays there, for templates that strip it."""
        inner = words.strip()
        if not inner:
            return words
        begin = words.index(inner)
        broken = re.sub(f"(?=(?:{self._any}))(.)", lambda found: found[1] + self._mark, inner, flags=re.DOTALL)
        return words[:begin] + self._mark + broken + self._mark + words[begin + len(inner) :]

    def parts(self, text: str) -> tuple[Part, ...]:
        """The text in parts, without marks."""
        found = []
        for i, piece in enumerate(re.split(f"({self._any})", text)):
            if plain := piece.replace(self._mark, ""):
                found.append(Part(plain, special=bool(i % 2)))
        return tuple(found)


def _rendered(state: State, messages: Messages, *, generation: bool) -> str:
    words = {"bos_token": state.specials.get("bos", ""), "eos_token": state.specials.get("eos", "")}
    try:
        template = _template(str(state.chat_template))
        return template.render(messages=messages, add_generation_prompt=generation, tools=None, **words)
    except TemplateError as error:
        raise ChatError(f"The model's chat template refuses these messages: {error.message}") from None
    except Exception as error:  # noqa: BLE001 - a template is a program of its own; its message may quote the chat
        raise ChatError(f"The model's chat template fails on these messages: {type(error).__name__}.") from None


@lru_cache(maxsize=4)
def _template(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return environment.from_string(source)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
