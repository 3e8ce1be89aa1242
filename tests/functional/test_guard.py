"""Who may call, in process: names, origins, keys, and what the log tells."""

from __future__ import annotations

import asyncio
import json
import re
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgegen.commands import serve
from edgegen.errors import OptionError, UsageError
from edgegen.server import Access, Keys, Limits, Settings, keys, listening, make_app
from edgegen.serving.calls import Explain, Explained
from edgegen.serving.templates import TemplateService
from tests.fakes.http import SHOPS, client

BODY = {"product": "p001"}


async def call(access: Access, headers: dict[str, str], method: str = "POST", path: str = "/v1/explanations") -> httpx.Response:
    """One call of a server with this access."""
    async with client(make_app(TemplateService(), SHOPS, Settings(access=access))) as http:
        return await http.request(method, path, json=BODY if method == "POST" else None, headers=headers)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost:8765", 200), ("[::1]:8765", 200), ("LOCALHOST.", 200), ("shop.example", 400),
        ("127.0.0.1.shop.example", 400), ("10.0.0.7", 400), ("", 400), ("localhost@shop.example", 400), ("kiosk.local", 200),
    ],
)  # fmt: skip
async def test_is_called_by_its_names_only(host: str, status: int) -> None:
    """A name of another site that points to this machine is none of them; --allow-host adds one."""
    access = listening.access("127.0.0.1", ["kiosk.local"], [], None, insecure=False)
    assert (await call(access, {"Host": host})).status_code == status


async def test_a_server_of_all_addresses_is_called_by_any_of_them() -> None:
    """But by no name beyond its own."""
    access = listening.access("0.0.0.0", [], [], None, insecure=True)  # noqa: S104 - meant
    found = [(await call(access, {"Host": host})).status_code for host in ("10.0.0.7:80", "[fe80::1]", "shop.example")]
    assert found == [200, 200, 400]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8765", 200), ("https://shop.example", 200), ("http://shop.example", 403), ("null", 403),
        ("http://localhost:3000", 403), ("http://evil.example", 403),
    ],
)  # fmt: skip
async def test_pages_of_other_sites_are_refused(origin: str, status: int) -> None:
    """Unless they are listed; the page of the server itself is none of them."""
    answer = await call(Access(origins=frozenset({"https://shop.example"})), {"Origin": origin})
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == ("https://shop.example" if origin == "https://shop.example" else None)


@pytest.mark.parametrize(
    ("origin", "lets"),
    [
        ("http://localhost", True), ("http://127.0.0.1:3000", True), ("https://[::1]:3000", True), ("http://notlocalhost", False),
        ("http://localhost.evil.example", False), ("http://localhost:3000.evil.example", False),
    ],
)  # fmt: skip
async def test_pages_of_this_machine_may_be_listed_together(origin: str, lets: bool) -> None:
    """At any port of any name of loopback."""
    answer = await call(Access(origins=frozenset({"localhost"})), {"Origin": origin})
    assert (answer.status_code == 200) == lets == (answer.headers.get("access-control-allow-origin") == origin)


async def test_browsers_may_ask_first_where_a_site_is_listed() -> None:
    """The preflight of a listed site is answered without a key; without a list there is no CORS at all."""
    ask = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os,x-stainless-retry-count",
    }
    listed = await call(Access(origins=frozenset({"https://shop.example"})), ask, "OPTIONS")
    assert listed.status_code == 200 and listed.headers["access-control-allow-origin"] == "https://shop.example"
    assert "x-stainless-os" in listed.headers["access-control-allow-headers"]
    other = await call(Access(), ask, "OPTIONS")
    assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


async def test_keys_are_asked_for_but_where_nothing_is_told(tmp_path: Path) -> None:
    """On loopback too. The error has OpenAI's shape, so that its client raises what it should."""
    secret = keys.add(tmp_path / "keys.json", "kiosk")
    access = Access(keys=Keys(tmp_path / "keys.json"))
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {secret}"}, {"Authorization": secret}):
        answer = await call(access, header)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await call(access, {"Authorization": f"Bearer {secret}"})).status_code == 200
    for path, status in (
        ("/health", 200),
        ("/ready", 200),
        ("/docs", 200),
        ("/metrics", 401),
        ("/v1/models", 401),
        ("/nope", 401),
    ):
        assert (await call(access, {}, "GET", path)).status_code == status, path


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])  # noqa: S104 - it must be refused
def test_other_machines_need_keys(host: str, tmp_path: Path) -> None:
    """Or the word that none are wanted."""
    with pytest.raises(UsageError, match="edgegen key add"):
        listening.access(host, [], [], None, insecure=False)
    assert listening.access(host, [], [], None, insecure=True).keys is None
    keys.add(tmp_path / "keys.json", "a")
    assert listening.access(host, [], [], Keys(tmp_path / "keys.json"), insecure=False).keys is not None


def test_options_that_cannot_be_meant() -> None:
    """A host name, all origins, an unknown limit or one of nothing."""
    with pytest.raises(UsageError, match="give an IP address"):
        listening.bound("shop.example", 0)
    for pair, words in (
        ("nope=1", "--limit nope=1.*Known: body_bytes"),
        ("prompts", "--limit prompts: prompts must be a whole number"),
        ("idle_s=0", "--limit idle_s.*above 0"),
        ("idle_s=nan", "--limit idle_s.*above 0"),
        ("prompts=1.5", "--limit prompts=1.5: prompts must be a whole number"),
        ("idle_s=x", "idle_s must be a number"),
    ):
        with pytest.raises(OptionError, match=words):
            Limits.parsed([pair])
    assert Limits.parsed(["receive_s=2.5", "prompts=3"]) == Limits(receive_s=2.5, prompts=3)


def test_bare_models_stand_alone() -> None:
    """A model has no pack and no adapter beside it."""
    with pytest.raises(UsageError, match="--model serves"):
        serve.check_options(options("--model", "a.gguf", "--pack", "b"))


def options(*given: str) -> Namespace:
    """The options of `edgegen serve`."""
    parser = ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--shoppers", "missing.json"], "--shoppers goes with --catalogue"),
        (["--map", "name=title"], "--map goes with --catalogue"),
        (["--currency", "EUR"], "--currency goes with --catalogue"),
        (["--format", "csv"], "--format goes with --catalogue"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--context", "0"], "--context must be at least 256"),
        (["--cells", "1"], "--cells must be at least 256"),
        (["--cells", "1", "--model", "x.gguf"], "--cells must be at least 256"),
        (["--template-only", "--model", "x.gguf"], "--template-only loads no model: leave --model out"),
        (["--template-only", "--pack", "x"], "leave --pack out"),
        (["--template-only", "--threads", "2"], "leave --threads out"),
        (["--drain-s", "nan"], "--drain-s must be"),
        (["--drain-s", "inf"], "--drain-s must be"),
        (["--drain-s", "-1"], "--drain-s must be"),
        (["--allow-origin", "*"], "--allow-origin \\*"),
        (["--allow-origin", "shop.example"], "--allow-origin shop.example: write scheme"),
        (["--allow-origin", "https://shop.example/page"], "--allow-origin https"),
        (["--allow-origin", "https://"], "--allow-origin https"),
        (["--allow-origin", "null"], "--allow-origin null"),
        (["--allow-host", "http://x/"], "--allow-host http://x/: write the name alone"),
        (["--allow-host", "kiosk.local:8765"], "--allow-host kiosk.local:8765"),
        (["--allow-host", ""], "--allow-host"),
        (["--limit", "open_calls=1.5"], "--limit open_calls=1.5"),
    ],
)
def test_options_that_do_nothing_or_cannot_be_are_refused(given: list[str], words: str) -> None:
    """One error each, which names the option."""
    with pytest.raises(UsageError, match=words):
        serve.check_options(options(*given))
        serve.settings(options(*given))


@pytest.mark.parametrize("given", [["--context", "16", "--model", "x.gguf"], ["--cells", "256"], ["--drain-s", "0"], []])
def test_other_options_pass(given: list[str]) -> None:
    """The bounds themselves are no errors."""
    serve.check_options(options(*given))


@pytest.mark.parametrize(
    ("option", "origin"),
    [
        ("https://shop.example/", "https://shop.example"), ("HTTPS://Shop.Example", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"), ("http://10.0.0.7:3000", "http://10.0.0.7:3000"),
        ("app://kiosk", "app://kiosk"), ("http://[::1]:80/", "http://[::1]"),
    ],
)  # fmt: skip
async def test_sites_are_listed_as_browsers_name_them(option: str, origin: str) -> None:
    """However an operator writes them."""
    access = listening.access("127.0.0.1", [], [option], None, insecure=False)
    assert (await call(access, {"Origin": origin})).headers["access-control-allow-origin"] == origin


async def test_names_are_compared_as_they_are_called() -> None:
    """In any case, with the dot at the end or without, and addresses in brackets."""
    access = listening.access("127.0.0.1", ["Kiosk.Local.", "[fe80::1]"], [], None, insecure=False)
    assert [(await call(access, {"Host": host})).status_code for host in ("kiosk.local:80", "[fe80::1]:8765")] == [200, 200]


class Broken(TemplateService):
    """Fails as nothing should."""

    async def explain(self, call: Explain) -> Explained:
        """Raise with the words of the request."""
        raise KeyError(str(call.request))


async def test_no_prompt_and_no_fact_gets_into_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error is told by its kind and place; the log has a line for each request, and bodies only where asked."""
    body = {"product": {"name": "Secretive Kettle", "price": 5}}
    for asked in (False, True):
        made = Settings(access_log=True, log_prompts=asked)
        async with client(make_app(Broken(), SHOPS, made)) as http:
            answer = await http.post("/v1/explanations", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
        failed, line = capsys.readouterr().err.splitlines()
        told: dict[str, Any] = json.loads(line)
        assert failed.startswith("edgegen: POST /v1/explanations failed: KeyError at explain") and "Secretive" not in failed
        assert (told["path"], told["status"], told["id"]) == ("/v1/explanations", 500, answer.headers["x-request-id"])
        assert ("Secretive" in line) is asked


async def test_too_many_open_calls_are_refused() -> None:
    """With 429 and when to come again; what only reads is still answered."""
    entered, gate = asyncio.Event(), asyncio.Event()

    class Slow(TemplateService):
        """Waits to be let through."""

        async def explain(self, call: Explain) -> Explained:
            """Wait."""
            entered.set()
            await gate.wait()
            return await super().explain(call)

    async with client(make_app(Slow(), SHOPS, Settings(Limits(open_calls=1)))) as http:
        first = asyncio.create_task(http.post("/v1/explanations", json=BODY))
        await entered.wait()
        second = await http.post("/v1/explanations", json=BODY)
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert (await http.get("/health")).status_code == 200
        gate.set()
        assert (await first).status_code == 200
        assert (await http.post("/v1/explanations", json=BODY)).status_code == 200


def test_the_documentation_lists_every_limit() -> None:
    """With its default."""
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE))
    assert rows == {name: str(value) for name, value in asdict(Limits()).items()}
