"""/v1/chat/completions in process: prompts by the model's template, the shapes of the OpenAI API, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgegen.server import Limits, Settings, chat_template
from edgegen.server.chat_template import ChatError
from edgegen.serving.calls import Part, State
from edgegen.slots import CONTROLS, END
from tests.fakes.backend import scripted
from tests.fakes.http import TEMPLATE, events, server

PATH = "/v1/chat/completions"
TEA = scripted("x" * len("assistant\n") + "a fine cup")  # the prompt after its last control token, then the answer
HEY = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hey"}]
STATE = State(True, chat_template=TEMPLATE, controls=frozenset(CONTROLS), specials={"eos": END})


async def chat(body: dict[str, Any], status: int = 200, **state: Any) -> Any:
    """The answer of one call."""
    async with server(TEA, **state) as http:
        answer = await http.post(PATH, json={"messages": HEY, **body})
        assert answer.status_code == status, answer.text
        return answer.json()


async def streamed(body: dict[str, Any]) -> list[Any]:
    """The events of one call, without the last, which is [DONE]."""
    async with server(TEA) as http:
        *found, last = events(await http.post(PATH, json={"messages": HEY, "stream": True, **body}))
        assert last == "[DONE]"
        return found


async def test_answers_in_the_shape_of_the_openai_api() -> None:
    """Whole messages with their finish reasons and the tokens counted."""
    answer = await chat({"temperature": 0, "n": 2, "max_completion_tokens": 40})
    assert answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-") and answer["model"] == "tiny"
    message = {"role": "assistant", "content": "a fine cup", "refusal": None}
    assert [(c["index"], c["message"], c["finish_reason"]) for c in answer["choices"]] == [(i, message, "stop") for i in (0, 1)]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


async def test_streams_the_role_the_words_and_the_end() -> None:
    """The role alone first, then words alone, then the reason, then the usage where it is asked for."""
    body = {"temperature": 0, "messages": [{"role": "assistant", "content": "a "}], "continue_final_message": True}
    first, *bits, end, usage = await streamed({**body, "stream_options": {"include_usage": True}})
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert "".join(bit["choices"][0]["delta"]["content"] for bit in bits) == " fine cup"
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    assert {bit["object"] for bit in (first, *bits, end, usage)} == {"chat.completion.chunk"}
    assert {bit["id"] for bit in (first, *bits, end)} == {usage["id"]}


async def test_logprobs_in_the_shape_of_chats() -> None:
    """Tokens with bytes and rivals; streamed joined they are the same."""
    body = {"temperature": 0, "logprobs": True, "top_logprobs": 3, "max_tokens": 4}
    choice = (await chat(body))["choices"][0]
    found = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in found) == choice["message"]["content"]
    assert all(bytes(token["bytes"]).decode() == token["token"] and len(token["top_logprobs"]) == 3 for token in found)
    parts = [bit["choices"][0]["logprobs"] for bit in await streamed(body)]
    assert [token for part in parts if part for token in part["content"]] == found
    alone = (await chat({"logprobs": True, "max_tokens": 1}))["choices"][0]["logprobs"]["content"]
    assert alone[0]["top_logprobs"] == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hey"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"add_generation_prompt": True, "continue_final_message": True}, "add_generation_prompt"),
        ({"echo": True}, "echo"),
    ],
)
async def test_refuses_what_it_cannot_do(more: dict[str, Any], param: str) -> None:
    """By the field's name."""
    async with server(TEA, Settings(Limits(prompt_chars=2000))) as http:
        answer = await http.post(PATH, json={"messages": HEY, **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_a_chat_beyond_the_context_and_a_model_that_cannot_chat() -> None:
    """Each is told for what it is."""
    error = (await chat({"messages": [{"role": "user", "content": "x" * 600}]}, 400))["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "no chat template" in (await chat({}, 400, chat_template=None))["error"]["message"]
    assert (await chat({}, 503, pack=None, chat_template=TEMPLATE))["error"]["type"] == "server_error"


@pytest.mark.parametrize("n", [1, 5, 8])
async def test_a_chat_that_names_no_length_takes_its_share_of_the_cache(n: int) -> None:
    """Any n is answered, and several such chats fit beside each other: the share bounds the texts, not the context."""
    endless = scripted("x" * 600)
    async with server(endless) as http:
        answer = (await http.post(PATH, json={"messages": HEY, "n": n, "temperature": 0})).json()
        model = (await http.get("/v1/models")).json()["data"][0]
    used = answer["usage"]["total_tokens"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length"] * n
    assert model["n_cells"] // 8 < used <= model["n_cells"] // 4


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_texts_that_do_not_fit_together_are_told_by_their_fields(field: str) -> None:
    """What was asked for by number is not made less; n is what is wrong, and the message names all that helps."""
    error = (await chat({"n": 8, field: 400}, 400))["error"]
    assert error["param"] == "n" and all(word in error["message"] for word in (field, "--cells", "2048"))
    assert (await chat({"n": 1, field: 4000}))["choices"][0]["finish_reason"] == "stop"


async def test_shows_what_a_chat_becomes() -> None:
    """The template's text, for who wonders."""
    async with server(TEA) as http:
        answer = await http.post("/apply-template", json={"messages": HEY})
    x = CONTROLS[0]
    assert answer.json()["prompt"] == f"{x}system\nBe brief.{END}\n{x}user\nHey{END}\n{x}assistant\n"


async def test_neutral_fields_and_content_parts_pass() -> None:
    """What asks for nothing is no error; parts of text are one text."""
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    body = {"messages": [{"role": "user", "content": parts, "name": "u"}], "tools": [], "tool_choice": "none", "store": False}
    await chat({**body, "max_tokens": 2, "response_format": {"type": "text"}, "user": "u", "modalities": ["text"]})


@pytest.mark.parametrize("words", [f"a{CONTROLS[0]}b", f"{END}", f"{END[:1]}{END}", f" {END} \n", "|>", "x" + "<|end|>" * 3])
def test_a_users_words_are_never_control_tokens(words: str) -> None:
    """Whatever they imitate, the only control tokens are the template's, and the words are still there."""
    found = chat_template.prompt([{"role": "user", "content": words}], STATE)
    x = CONTROLS[0]
    assert [part.text for part in found if part.special] == [x, END, x]
    plain = [part.text for part in found if not part.special]
    assert plain == [f"user\n{words.strip()}", "\n", "assistant\n"]


def test_template_filters_see_the_real_ends_of_words() -> None:
    """White space is stripped where the template strips it, and kept where it does not."""
    template = "{{ messages[0]['content'] }}!{{ bos_token }}"
    kept = State(True, chat_template=template, specials={"bos": "<s>"}, controls=frozenset({"<s>"}))
    message = [{"role": "user", "content": "  hey \n"}]
    assert chat_template.prompt(message, STATE)[1] == Part("user\nhey")
    assert chat_template.prompt(message, kept) == (Part("  hey \n!"), Part("<s>", special=True))
    assert chat_template.prompt([{"role": "user", "content": ""}], kept)[0] == Part("!")


def test_the_token_before_a_text_comes_once() -> None:
    """Whether the template writes it or not."""
    for written in ("", "{{ bos_token }}"):
        state = State(
            True, chat_template=written + "{{ messages[0].content }}", specials={"bos": "<s>"}, controls=frozenset({"<s>"}),
            starts_with_bos=True,
        )  # fmt: skip
        found = chat_template.prompt([{"role": "user", "content": "hey"}], state)
        assert found == (Part("<s>", special=True), Part("hey"))


def test_the_last_message_can_be_continued() -> None:
    """The prompt ends with its words."""
    messages = [*HEY, {"role": "assistant", "content": "Well, "}]
    assert chat_template.prompt(messages, STATE, go_on=True)[-1] == Part("assistant\nWell,")
    hidden = State(True, chat_template="{{ messages[-1].content | upper }}")
    with pytest.raises(ChatError, match="cannot be continued"):
        chat_template.prompt([{"role": "user", "content": ""}], hidden, go_on=True)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[9].content.x }}", "refuses|fails"),
        ("{% for", "refuses"),
        ("{{ ''.__class__.__mro__ }}", "refuses|fails"),
        ("{{ messages.append(1) }}", "refuses|fails"),
    ],
)
def test_a_template_that_fails_is_a_clear_error(template: str, words: str) -> None:
    """And it cannot reach beyond the messages: it is part of a model file that somebody else made."""
    with pytest.raises(ChatError, match=words):
        chat_template.prompt([{"role": "user", "content": "hey"}], State(True, chat_template=template))
