"""/v1/completions in process: the shapes of the OpenAI API, streamed and whole, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from edgegen.engine.backend import Batch, Logits
from edgegen.engine.loop import Engine
from edgegen.explain import Explainer
from edgegen.server import Limits, Settings, asking, make_app
from edgegen.serving.calls import Complete, Ended, Part, State, Written
from edgegen.serving.local import LocalService
from edgegen.serving.templates import TemplateService
from edgegen.slots import END
from tests.fakes.backend import TEXT, FakeBackend, Gate, hashed, scripted
from tests.fakes.http import client, describe_fake, events, server

PATH, WAIT_S = "/v1/completions", 10
TEA = scripted("a fine cup of tea")


async def complete(body: dict[str, Any], script: Any = TEA, status: int = 200, **state: Any) -> Any:
    """The answer of one call."""
    async with server(script, **state) as http:
        answer = await http.post(PATH, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


async def streamed(body: dict[str, Any], script: Any = TEA) -> list[Any]:
    """The events of one call, without the last, which is [DONE]."""
    async with server(script) as http:
        *found, last = events(await http.post(PATH, json={**body, "stream": True}))
        assert last == "[DONE]"
        return found


async def test_whole_texts() -> None:
    """With their finish reasons and the tokens counted. The prompt is not parsed for control tokens."""
    answer = await complete({"prompt": "<|end|>", "max_tokens": 40, "n": 2, "temperature": 0})
    assert answer["object"] == "text_completion" and answer["model"] == "tiny" and answer["id"].startswith("cmpl-")
    assert answer["system_fingerprint"] and answer["usage"]["prompt_tokens"] == len("<|end|>")
    # The fake reads the prompt's bytes as written already.
    rest = "a fine cup of tea"[len("<|end|>") :]
    assert [(c["index"], c["text"], c["finish_reason"]) for c in answer["choices"]] == [(i, rest, "stop") for i in range(2)]
    assert answer["usage"]["total_tokens"] == len("<|end|>") + 2 * len(rest)


@pytest.mark.parametrize(
    ("stop", "text", "finish"), [(" of", "fine cup", "stop"), (["tea", "cup o"], "fine ", "stop"), ([], "fine cup", "length")]
)
async def test_stops_at_a_stop_string_streamed_or_not(stop: Any, text: str, finish: str) -> None:
    """The stop string is never sent, not even its beginning; streamed joined is the whole."""
    body = {"prompt": "a ", "max_tokens": 8 if finish == "length" else 40, "temperature": 0, "stop": stop}
    choice = (await complete(body))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text, finish)
    bits = await streamed(body)
    assert "".join(bit["choices"][0]["text"] for bit in bits) == text
    assert bits[-1]["choices"][0]["finish_reason"] == finish and "usage" not in bits[0]


async def test_usage_ends_a_stream_where_asked() -> None:
    """All other events have none."""
    *bits, last = await streamed({"prompt": "a ", "max_tokens": 3, "stream_options": {"include_usage": True}})
    assert {bit["usage"] for bit in bits} == {None} and {bit["id"] for bit in bits} == {last["id"]}
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_several_prompts_in_every_form() -> None:
    """Texts, ids, lists of ids: `n` choices for each, in order."""
    for prompt in (["a ", "a fine"], [list(b"a "), list(b"a fine")]):
        found = (await complete({"prompt": prompt, "n": 2, "max_tokens": 40, "temperature": 0}))["choices"]
        texts = ["fine cup of tea"] * 2 + [" cup of tea"] * 2
        assert [(c["index"], c["text"]) for c in found] == list(enumerate(texts))
    assert (await complete({"prompt": list(b"a "), "temperature": 0}))["choices"][0]["text"] == "fine cup of tea"
    bits = await streamed({"prompt": ["a ", "a fine"], "max_tokens": 40, "temperature": 0})
    for index, text in ((0, "fine cup of tea"), (1, " cup of tea")):
        assert "".join(b["choices"][0]["text"] for b in bits if b["choices"][0]["index"] == index) == text


async def test_echo_begins_with_the_prompt() -> None:
    """Also where it was given as ids, and in a stream."""
    for prompt in ("a ", list(b"a ")):
        body = {"prompt": prompt, "echo": True, "temperature": 0}
        assert (await complete(body))["choices"][0]["text"] == "a fine cup of tea"
        assert "".join(bit["choices"][0]["text"] for bit in await streamed(body)) == "a fine cup of tea"


async def test_logprobs_in_the_shape_of_completions() -> None:
    """Each token with its likeliest rivals and its place; half a character is told by its bytes."""
    tea = scripted("茶x")
    body = {"prompt": END, "logprobs": 2, "max_tokens": 4, "temperature": 0}
    found = (await complete({**body, "prompt": [TEXT]}, tea))["choices"][0]["logprobs"]
    assert found["tokens"] == ["bytes:\\xe8", "bytes:\\x8c", "bytes:\\xb6", "x"]
    assert all(logprob > -0.1 for logprob in found["token_logprobs"]) and [len(top) for top in found["top_logprobs"]] == [2] * 4
    assert found["text_offset"][0] == 0
    bits = [bit["choices"][0]["logprobs"] for bit in await streamed({**body, "prompt": [TEXT]}, tea)]
    assert [token for bit in bits if bit for token in bit["tokens"]] == found["tokens"]
    assert (await complete({"prompt": "a", "max_tokens": 1}))["choices"][0]["logprobs"] is None


async def test_characters_are_never_cut() -> None:
    """Whatever tokens they are made of: each event has whole ones."""
    words = "好茶🫖 té"
    bits = await streamed({"prompt": [TEXT], "max_tokens": 40, "temperature": 0}, scripted(words))
    texts = [bit["choices"][0]["text"] for bit in bits]
    assert "".join(texts) == words and not any("\ufffd" in text for text in texts) and "🫖" in texts


async def test_a_seed_asks_for_the_very_same_text() -> None:
    """Where it says anything: at temperature 0 it does not."""
    for body, fresh in (({"seed": 0}, True), ({}, False), ({"seed": 7, "temperature": 0}, False), ({"seed": None}, False)):
        call = asking.complete(body, (Part("x"),), asking.Length(4, "max_tokens", given=True), None, State(True), Limits())
        assert call.fresh == fresh


async def test_seeds_and_biases() -> None:
    """The same seed gives the same text, none another one; a bias forbids or forces a token."""
    body = {"prompt": "a", "max_tokens": 20}
    texts = [(await complete({**body, **seed}, hashed))["choices"][0]["text"] for seed in ({"seed": 7}, {"seed": 7}, {}, {})]
    assert texts[0] == texts[1] and len(set(texts)) == 3
    biased = await complete({**body, "logit_bias": {"122": 100}}, hashed)
    assert set(biased["choices"][0]["text"]) == {"z"}
    assert (await complete({**body, "max_tokens": 3, "return_token_ids": True, "logit_bias": {"122": 100}}))["choices"][0][
        "token_ids"
    ] == [122] * 3


async def test_writes_control_tokens_only_where_asked() -> None:
    """The model's favourite is a control token."""
    body, slots = {"prompt": [TEXT], "max_tokens": 9, "temperature": 0}, scripted("a<|v1|>b")
    plain, all_of_it = [await complete({**body, "write_controls": wanted}, slots) for wanted in (False, True)]
    assert "<|v1|>" not in plain["choices"][0]["text"] and all_of_it["choices"][0]["text"] == "a<|v1|>b"


async def test_puts_the_token_before_a_prompt_that_the_model_wants() -> None:
    """Before texts, not before ids; the echo does not show it."""
    wants: dict[str, Any] = {"starts_with_bos": True, "specials": {"bos": END}}
    answer = await complete({"prompt": "ab", "max_tokens": 1, "echo": True}, **wants)
    assert answer["usage"]["prompt_tokens"] == 3 and answer["choices"][0]["text"].startswith("ab")
    assert (await complete({"prompt": [97], "max_tokens": 1}, **wants))["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": ["a"] * 3}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": "a" * 3000}, "prompt"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"tools": []}, "tools"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"top_p": 2}, "top_p"),
        ({"temperature": 2.5}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
        ({"response_format": {"type": "sound"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"grammar": "root ::= (("}, "grammar"),
        ({"grammar": 'root ::= ((("a"?){200}){200}){200}'}, "grammar"),
        ({"stream": True, "prompt": ["a", "b"], "n": 2, "grammar": "x"}, "grammar"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, "response_format"),
        ({"grammar": "root ::= x", "response_format": {"type": "json_object"}}, "grammar"),
        ({"priority": 1}, "priority"),
    ],
)
async def test_refuses_what_it_cannot_do(more: dict[str, Any], param: str) -> None:
    """An OpenAI error body that names the field."""
    async with server(TEA, Settings(Limits(prompts=2, prompt_chars=2000))) as http:
        answer = await http.post(PATH, json={"prompt": "a", **more})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error"), answer.text


async def test_a_prompt_beyond_the_context_is_told_as_openai_tells_it() -> None:
    """Streamed or not: before the stream begins there is still a status."""
    for stream in (False, True):
        answer = await complete({"prompt": "a" * 600, "stream": stream}, status=400)
        assert (answer["error"]["code"], answer["error"]["param"]) == ("context_length_exceeded", "prompt")


async def test_a_small_cache_bounds_texts_too() -> None:
    """One that is smaller than the context: a default text is shorter, and a prompt beyond it is too long, streamed or not."""
    for stream in (False, True):
        with Engine(lambda: FakeBackend(scripted("x" * 99), n_ctx=512, n_cells=24)) as engine:
            service = LocalService(Explainer(engine), engine, state=describe_fake(engine))
            async with client(make_app(service)) as http:
                found = [await http.post(PATH, json={"prompt": "a" * size, "stream": stream}) for size in (4, 30)]
                many = await http.post(PATH, json={"prompt": "a", "n": 4, "max_tokens": 16, "stream": stream})
            service.close()
        assert (found[0].status_code, found[1].json()["error"]["code"]) == (200, "context_length_exceeded")
        assert (many.json()["error"]["param"], "max_tokens" in many.json()["error"]["message"]) == ("n", True)


async def test_passes_neutral_values_and_needs_a_model() -> None:
    """What asks for nothing is no error; without a model there is nothing to complete, and the client may try again."""
    body = {"model": "any", "prompt": "a", "echo": False, "logprobs": None, "presence_penalty": 0, "best_of": 1, "user": "u"}
    await complete(body)
    async with server(None) as http:
        answer = await http.post(PATH, json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["type"] == "server_error"


class Slow(FakeBackend):
    """A fake that takes its time for a step."""

    def decode(self, batch: Batch) -> Logits:
        """Wait, then decode."""
        time.sleep(0.005)
        return super().decode(batch)


async def test_a_full_queue_says_when_to_come_again() -> None:
    """429 with Retry-After: clients of the OpenAI API wait and try again."""
    with Engine(lambda: Slow(scripted("word " * 40)), max_waiting=1) as engine:
        service = LocalService(Explainer(engine), engine, state=describe_fake(engine))
        async with client(make_app(service)) as http:
            body = {"prompt": "a", "max_tokens": 30, "n": 8}
            answers = await asyncio.gather(*(http.post(PATH, json=body) for _ in range(12)))
        service.close()
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and all(answer.status_code in (200, 429) for answer in answers)
    assert refused[0].headers["retry-after"] and refused[0].json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_drops_the_job_of_a_client_that_leaves(stream: bool) -> None:
    """The client leaves while the prompt is read; then hardly anything is decoded and every cell is free."""
    backend, left, sent = Gate(scripted("word " * 40)), asyncio.Event(), list[Any]()
    body = json.dumps({"prompt": "a", "max_tokens": 200, "temperature": 0, "stream": stream}).encode()
    inbox = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if inbox:
            return inbox.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": PATH,
        "raw_path": PATH.encode(), "query_string": b"", "headers": [(b"host", b"127.0.0.1")], "scheme": "http",
    }  # fmt: skip
    with Engine(lambda: backend) as engine:
        service = LocalService(Explainer(engine), engine, state=describe_fake(engine))
        call = asyncio.create_task(make_app(service)(scope, receive, send))
        assert await asyncio.to_thread(backend.entered.wait, WAIT_S)
        left.set()
        await asyncio.wait_for(call, WAIT_S)
        backend.open.set()
        engine.ask(lambda _: None)
        service.close()
    assert sum(backend.decoded) < 10


class Switching(TemplateService):
    """Two models, one after the other: the second takes over while the first is asked for a prompt's text."""

    def __init__(self) -> None:
        """With the first."""
        self.now, self.asked = 1, list[str]()

    @property
    def state(self) -> State:
        """Of the one that answers."""
        pack = {"name": f"model-{self.now}", "label": f"model@{self.now}"}
        return State(True, pack=pack, n_ctx=64, n_vocab=100 * self.now, most_texts=4, pid=self.now)

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Text of the model that is there."""
        said, self.now = f"text of {self.now}", 2
        await asyncio.sleep(0)
        return said

    def complete(self, call: Complete) -> AsyncGenerator[Written | Ended, None]:
        """Writes who writes."""
        return self._written(self.now)

    async def _written(self, who: int) -> AsyncGenerator[Written | Ended, None]:
        yield Written(0, f", written by {who}")
        yield Ended(("stop",), 1, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_takes_over_meanwhile_answers_for_itself(stream: bool) -> None:
    """Prompt, text and name are of one model, however late it came."""
    async with client(make_app(Switching())) as http:
        answer = await http.post(PATH, json={"prompt": [1, 2], "echo": True, "stream": stream})
    bits = events(answer)[:-1] if stream else [answer.json()]
    assert "".join(bit["choices"][0]["text"] for bit in bits) == "text of 2, written by 2"
    assert {bit["model"] for bit in bits} == {"model-2"}
