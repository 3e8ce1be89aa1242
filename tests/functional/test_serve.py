"""`edgegen serve` as a process: OpenAI's own client on it, how it starts and stops, what it tells the service manager."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from edgegen.cli import main
from edgegen.pack import installed
from edgegen.server import keys
from tests.fakes import packs
from tests.fakes.http import TEMPLATE
from tests.fakes.tiny_gguf import write_tiny_gguf

WAIT_S = 60
SERVE = [sys.executable, "-m", "edgegen", "serve", "--port", "0"]


@dataclass
class Running:
    """A server, where it is, and the key that it wants."""

    process: subprocess.Popen[str]
    url: str
    key: str = "none"


@contextmanager
def running(*options: str, key: str = "none", wait: bool = True, **environment: str) -> Iterator[Running]:
    """A server with these options, once it is ready; without `wait` once it listens."""
    with subprocess.Popen([*SERVE, *options], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stderr is not None
        try:
            found = next((m for line in process.stderr if (m := re.search(r"http://\S+", line))), None)
            assert found, "the server did not say where it is"
            while wait and httpx.get(f"{found.group()}/ready", timeout=WAIT_S).status_code != 200:
                time.sleep(0.05)
            yield Running(process, found.group(), key)
        finally:
            process.terminate()
            process.stderr.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The bundled pack, with a key."""
    path: Path = tmp_path_factory.mktemp("keys") / "keys.json"
    secret = keys.add(path, "tests")
    with running("--keys", str(path), "--threads", "1", key=secret) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as found:
        yield found


def test_the_openai_client_completes(client: openai.OpenAI) -> None:
    """Whole and streamed, with counts, seeds and log-probabilities."""
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "The kettle", "max_tokens": 12, "seed": 7}
    whole = client.completions.create(**asked, n=2, logprobs=2)  # type: ignore[call-overload]
    assert whole.model == "bundled" and len(whole.choices) == 2 and whole.usage.completion_tokens <= 24
    assert len(whole.choices[0].logprobs.tokens) == len(whole.choices[0].logprobs.top_logprobs)
    bits = list(client.completions.create(**asked, n=1, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    text = "".join(bit.choices[0].text for bit in bits if bit.choices)
    assert text == client.completions.create(**asked).choices[0].text  # type: ignore[call-overload]
    assert bits[-1].usage.completion_tokens <= 12
    assert [model.id for model in client.models.list()] == ["bundled"] and client.models.retrieve("bundled").owned_by == "edgegen"


async def test_the_openai_client_completes_asynchronously(server: Running) -> None:
    """And leaves in the middle, which harms nobody."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as client:
        stream = await client.completions.create(model="any", prompt="The", max_tokens=400, stream=True)
        async with stream:
            async for _ in stream:
                break
        answer = await client.completions.create(model="any", prompt="The", max_tokens=2)
        assert answer.usage is not None and answer.usage.completion_tokens <= 2


def test_the_openai_client_raises_what_it_should(client: openai.OpenAI, server: Running) -> None:
    """By status, with the field and the code."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="any", prompt="a", suffix="b")
    assert (refused.value.param, refused.value.code) == ("suffix", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="any", prompt="a " * 3000, stream=True)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hey"}])
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.AuthenticationError), openai.OpenAI(base_url=f"{server.url}/v1", api_key="eg-wrong") as other:
        other.models.list()


def test_json_follows_a_schema(client: openai.OpenAI) -> None:
    """Whatever the model would rather write."""
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"], "additionalProperties": False}
    answer = client.completions.create(
        model="any",
        prompt="The",
        max_tokens=40,
        seed=1,
        extra_body={"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
    )
    assert set(json.loads(answer.choices[0].text)) == {"good"}
    with pytest.raises(openai.BadRequestError, match="grammar"):
        client.completions.create(model="any", prompt="The", extra_body={"grammar": "root ::= (not"})


def test_the_openai_client_chats(tmp_path: Path) -> None:
    """With a bare model that brings a template, whole and streamed. The model is random: its words are not looked at."""
    model = write_tiny_gguf(tmp_path / "chatty.gguf", chat_template=TEMPLATE)
    with ExitStack() as stack:
        found = stack.enter_context(running("--model", str(model), "--threads", "1"))
        client = stack.enter_context(openai.OpenAI(base_url=f"{found.url}/v1", api_key="-"))
        hey: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hey <|end|>"}]
        whole = client.chat.completions.create(model="any", messages=hey, max_tokens=8, seed=3, logprobs=True, top_logprobs=2)
        assert whole.model == "chatty" and whole.usage is not None and whole.usage.completion_tokens <= 8
        told = whole.choices[0].logprobs
        assert told is not None and all(len(token.top_logprobs) == 2 for token in told.content or ())
        stream = client.chat.completions.create(
            model="any", messages=hey, max_tokens=8, seed=3, stream=True, stream_options={"include_usage": True}
        )
        bits = list(stream)
        assert "".join(bit.choices[0].delta.content or "" for bit in bits if bit.choices) == whole.choices[0].message.content
        assert bits[-1].usage is not None and bits[-1].usage.completion_tokens == whole.usage.completion_tokens
        told_row = httpx.post(f"{found.url}/v1/explanations", json={"product": "p001"}, timeout=WAIT_S).json()
        assert told_row["source"] == "template" and "completes plain text only" in told_row["note"]


def test_explains_and_is_ready(server: Running) -> None:
    """With the pack's model, in both languages."""
    head = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=head, timeout=WAIT_S) as http:
        assert http.get("/ready").json()["pack"]["name"] == "bundled"
        both = {"requests": [{"product": "p001"}, {"lang": "zh", "product": "p001"}]}
        found = http.post("/v1/explanations", json=both).json()["results"]
        assert [one["source"] for one in found] == ["model", "model"]
        assert 'edgegen_texts_total{source="model",task="reason"} 2.0' in http.get("/metrics").text


def test_answers_while_its_engine_is_dead() -> None:
    """Kill -9 of the engine: explanations go on, from templates, /ready says why, and the engine comes back."""
    with running("--threads", "1") as found, httpx.Client(base_url=found.url, timeout=WAIT_S) as http:
        os.kill(engine_of(found.process.pid), signal.SIGKILL)
        while (ready := http.get("/ready")).status_code == 200:
            time.sleep(0.01)
        assert "died" in ready.json()["why"] and ready.headers["retry-after"]
        told = http.post("/v1/explanations", json={"product": "p001"})
        assert (told.status_code, bool(told.json()["text"])) == (200, True)
        while (ready := http.get("/ready")).status_code != 200:
            time.sleep(0.05)
        assert ready.json()["restarts"] == 1 and "edgegen_engine_restarts_total 1.0" in http.get("/metrics").text
        assert http.post("/v1/explanations", json={"product": "p001"}).json()["source"] == "model"


def engine_of(server: int) -> int:
    """The process below a server."""
    return int(Path(f"/proc/{server}/task/{server}/children").read_text("ascii").split()[0])


def test_follows_the_active_pack_under_load(tmp_path: Path) -> None:
    """No request fails, each answer names the pack that gave it, and from one moment on it is the new one."""
    installed.Installed().install(packs.make(tmp_path / "other", "other"), allow_unsigned=True)
    with running("--threads", "1") as found, httpx.Client(base_url=found.url, timeout=WAIT_S) as http:
        assert main(["pack", "activate", "other"]) == 0
        answers = list[httpx.Response]()
        while len(answers) < 5 or answers[-1].json()["model"] != "other":
            answers.append(http.post("/v1/completions", json={"prompt": "The", "max_tokens": 4}))
        assert {answer.status_code for answer in answers} == {200}
        names = [answer.json()["model"] for answer in answers]
        assert names == sorted(names) and http.get("/ready").json()["pack"]["label"] == "other@1"


def test_answers_while_it_starts(tmp_path: Path) -> None:
    """At once, and the service manager hears that it is ready when it is; here the engine is killed before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(WAIT_S)
        manager.bind(str(tmp_path / "notify"))
        with ExitStack() as stack:
            found = stack.enter_context(running("--threads", "1", wait=False, NOTIFY_SOCKET=str(tmp_path / "notify")))
            children = Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children")
            while not children.read_text("ascii"):
                time.sleep(0.01)
            os.kill(engine_of(found.process.pid), signal.SIGKILL)
            http = stack.enter_context(httpx.Client(base_url=found.url, timeout=WAIT_S))
            assert http.get("/health").json()["ready"] is False and http.get("/ready").json()["why"]
            told = http.post("/v1/explanations", json={"product": "p001"}).json()
            assert told["source"] == "template" and told["note"]
            refused = http.post("/v1/completions", json={"prompt": "The", "n": 2, "logit_bias": {"1": 1}})
            assert refused.status_code == 503 and refused.headers["retry-after"]
            heard = ""
            while heard != "READY=1":
                heard = manager.recv(100).decode()
                assert heard == "READY=1" or heard.startswith("EXTEND_TIMEOUT_USEC=")
            assert http.get("/ready").status_code == 200
            assert http.post("/v1/completions", json={"prompt": "The", "max_tokens": 1}).status_code == 200


def test_what_cannot_be_served_ends_it(tmp_path: Path) -> None:
    """With its one clear error and its exit code, while it listens already."""
    damaged = packs.make(tmp_path / "pack")
    (damaged / "model.gguf").write_bytes(b"GGUF")
    done = subprocess.run([*SERVE, "--pack", str(damaged)], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 5 and done.stderr.count("edgegen: error:") <= 1, done.stderr
    assert "model.gguf" in done.stderr.splitlines()[-1] and "answers" not in done.stderr


def test_serves_until_it_is_interrupted() -> None:
    """The command says where it is once it answers, and Ctrl-C ends it with success."""
    with running("--template-only") as found:
        assert found.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{found.url}/ready").json()["pack"] is None
        found.process.send_signal(signal.SIGINT)
        assert found.process.wait(WAIT_S) == 0


def test_a_second_start_on_the_same_port_says_so() -> None:
    """In one line that names it, before anything is loaded."""
    with running("--template-only") as found:
        port = found.url.rpartition(":")[2]
        again = subprocess.run([*SERVE[:-1], port], capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert again.returncode == 2 and again.stderr.count("\n") == 1
        assert f"Port {port} of 127.0.0.1 is in use already" in again.stderr


def test_check_says_what_would_be_served(tmp_path: Path) -> None:
    """And fails with the exit code of what is wrong."""
    done = subprocess.run([*SERVE, "--check", "--threads", "1"], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("pack: bundled@", "one generation worked", "explanations: from the model", "catalogue: en: 64 products"):
        assert words in done.stdout
    with running("--template-only") as found:
        port = found.url.rpartition(":")[2]
        command = [*SERVE[:-1], port, "--check", "--template-only"]
        taken = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert taken.returncode == 2 and f"address: Port {port} of 127.0.0.1 is in use already" in taken.stdout
    assert "explanations: from templates" in taken.stdout
    far = subprocess.run([*SERVE, "--check", "--context", "99999"], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert far.returncode == 2 and far.stderr.startswith("edgegen: --context: ") and far.stderr.count("\n") == 1
    damaged = packs.make(tmp_path / "pack")
    (damaged / "model.gguf").write_bytes(b"GGUF")
    wrong = [*SERVE, "--check", "--pack", str(damaged)]
    assert subprocess.run(wrong, capture_output=True, timeout=WAIT_S, check=False).returncode == 5


def test_tells_the_service_manager(tmp_path: Path) -> None:
    """That it is ready, that it lives, and that it stops."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(WAIT_S)
        manager.bind(str(tmp_path / "notify"))
        heard = list[str]()

        def listen() -> None:
            while "STOPPING=1" not in heard:
                heard.append(manager.recv(100).decode())

        thread = threading.Thread(target=listen)
        thread.start()
        with running("--template-only", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="100000") as found:
            while heard.count("WATCHDOG=1") < 3:
                thread.join(0.05)
            found.process.terminate()
            thread.join(WAIT_S)
        assert "READY=1" in heard and heard[-1] == "STOPPING=1"
