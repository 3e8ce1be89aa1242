"""The terminal with Textual's pilot, against the HTTP API in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, Select, Static

from edgegen import cli
from edgegen.server import Access, Keys, Settings, keys, sample_shops
from edgegen.server import make_app as make_server
from edgegen.serving.templates import TemplateService
from tui.app import ShopApp, Written, body, make_app
from tui.client import ApiError, Client, Fact, Product, Shop, Task

BASE, WAIT_S = "http://127.0.0.1:8765", 20
SIZE = (120, 40)


class Recorder(httpx.ASGITransport):
    """The server in process; notes the bodies, and can be taken off the network."""

    def __init__(self, shops: Any = None) -> None:
        """On templates and the sample catalogue."""
        super().__init__(make_server(TemplateService(), sample_shops() if shops is None else shops))
        self.bodies: list[dict[str, Any]] = []
        self.down = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or fail as a network does."""
        if self.down:
            raise httpx.ConnectError("connection refused")
        if request.method == "POST":
            self.bodies.append(json.loads(await request.aread()))
        return await super().handle_async_request(request)


@pytest.fixture
def server() -> Recorder:
    """The server."""
    return Recorder()


def terminal(server: Recorder) -> ShopApp:
    """A terminal on the server in process."""
    return make_app(BASE, httpx.AsyncClient(transport=server, base_url=BASE))


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Let the app work until something holds."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await pilot.pause()


def shown(app: ShopApp, name: str) -> str:
    """What a Static shows."""
    return str(app.query_one(f"#{name}", Static).content)


async def loaded(pilot: Pilot[None], app: ShopApp) -> OptionList:
    """The list of products, once it is there."""
    products = app.query_one("#products", OptionList)
    await until(pilot, lambda: products.option_count > 1 and "Enter explains" in shown(app, "status"))
    return products


async def test_explains_the_selected_product(server: Recorder) -> None:
    """Down and enter: the second product's facts and text with source and claims."""
    app = terminal(server)
    async with app.run_test(size=SIZE) as pilot:
        await loaded(pilot, app)
        await pilot.press("down")
        await until(pilot, lambda: app.query_one("#facts", DataTable).row_count > 3)
        await pilot.press("enter")
        await until(pilot, lambda: shown(app, "status").startswith("Done"))
        assert "Pelloro Hand Grinder" in shown(app, "text")
        assert "from the template" in shown(app, "claims") and "[" in shown(app, "claims")
    assert server.bodies == [{"task": "reason", "lang": "en", "product": "p002", "stream": True}]


async def test_filters_products(server: Recorder) -> None:
    """The slash goes to the filter, letters there are no commands, enter goes back."""
    app = terminal(server)
    async with app.run_test(size=SIZE) as pilot:
        products = await loaded(pilot, app)
        before = products.option_count
        await pilot.press("slash", *"pello")
        await until(pilot, lambda: products.option_count < before)
        assert app.query_one("#filter", Input).value == "pello"
        await pilot.press("enter", "enter")
        await until(pilot, lambda: shown(app, "status").startswith("Done"))
        assert "Pelloro" in shown(app, "text")


async def test_nothing_is_selected_where_nothing_matches(server: Recorder) -> None:
    """Enter on an empty list asks for nothing."""
    app = terminal(server)
    async with app.run_test(size=SIZE) as pilot:
        products = await loaded(pilot, app)
        await pilot.press("slash", *"zzzz")
        await until(pilot, lambda: products.option_count == 0)
        await pilot.press("escape", "enter", "r")
        await pilot.pause()
        assert app.query_one("#facts", DataTable).row_count == 0
    assert server.bodies == []


async def test_changes_language_and_task(server: Recorder) -> None:
    """The key l goes to the next language, t opens the tasks; the next text is asked for with both."""
    app = terminal(server)
    async with app.run_test(size=SIZE) as pilot:
        products = await loaded(pilot, app)
        await pilot.press("l")
        await until(pilot, lambda: app.query_one("#lang", Select).value == "zh")
        await pilot.press("t")
        await until(pilot, lambda: app.query_one("#task", Select).expanded)
        await pilot.press("up", "enter")
        await until(pilot, lambda: products.has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: shown(app, "status").startswith("Done"))
    assert [(b["lang"], b["task"]) for b in server.bodies] == [("zh", "product")]


async def test_says_that_the_server_is_away_and_tries_again(server: Recorder) -> None:
    """One clear line; r loads again."""
    server.down = True
    app = terminal(server)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "cannot be reached" in shown(app, "status"))
        assert app.query_one("#status").has_class("error") and "Press r" in shown(app, "status")
        server.down = False
        await pilot.press("r")
        await loaded(pilot, app)
        server.down = True
        await pilot.press("enter")
        await until(pilot, lambda: "cannot be reached" in shown(app, "status"))
        server.down = False
        await pilot.press("r")
        await until(pilot, lambda: shown(app, "status").startswith("Done"))
        assert not app.query_one("#status").has_class("error")
        await pilot.press("q")
    assert app.return_code == 0


async def test_shows_the_servers_own_error() -> None:
    """A catalogue that is not served is the server's to explain."""
    app = terminal(Recorder(shops={}))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "No catalogue is served" in shown(app, "status"))


async def test_a_stranger_on_the_port_is_no_crash() -> None:
    """Another program's page is told from ours."""

    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>") if "products" in request.url.path else httpx.Response(500)

    app = make_app(BASE, httpx.AsyncClient(transport=httpx.MockTransport(page), base_url=BASE))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "not an edgegen server" in shown(app, "status"))


def test_asks_for_more_of_the_category_where_a_task_takes_several() -> None:
    """The selected product first, others of its category after it, and what else the task needs."""
    made = [Product(str(i), f"P{i}", (Fact("category", "category", "kettle" if i else "cup"),)) for i in range(6)]
    shop = Shop("en", ("en",), tuple(made), ("u1",))
    assert body(shop, made[2], Task("search", "", several=True, shopper=False, query=True), "u1") == {
        "task": "search", "lang": "en", "products": ["2", "1", "3"], "query": "kettle",
    }  # fmt: skip
    assert body(shop, made[0], Task("personal", "", several=False, shopper=True, query=False), "u1") == {
        "task": "personal", "lang": "en", "product": "0", "shopper": "u1",
    }  # fmt: skip


async def test_bits_of_an_answer_that_was_left_are_not_shown(server: Recorder) -> None:
    """What a call for another product still sends does not mix into the text."""
    app = terminal(server)
    async with app.run_test(size=SIZE) as pilot:
        await loaded(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: shown(app, "status").startswith("Done"))
        before, call = shown(app, "text"), app._now.call
        app.post_message(Written(call - 1, "stray"))
        app.post_message(Written(call, "!"))
        await until(pilot, lambda: shown(app, "text") != before)
        assert "stray" not in shown(app, "text")


async def test_client_makes_a_client_of_its_own() -> None:
    """Nothing listens on the port of a closed socket, and the error says how to start the server."""
    client = Client("http://127.0.0.1:1")
    with pytest.raises(Exception, match=r"cannot be reached.*edgegen serve"):
        await client.tasks()
    await client.close()


def test_missing_textual_is_one_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`edgegen tui` without its extra says how to get it."""
    import sys

    monkeypatch.delitem(sys.modules, "tui.app")
    monkeypatch.setitem(sys.modules, "textual", None)
    assert cli.main(["tui"]) == 8
    assert "edgegen[tui]" in capsys.readouterr().err


async def test_client_sends_its_key_and_tells_errors_of_a_stream(tmp_path: Path) -> None:
    """A server with keys lets it in; what fails after the stream has begun is an error too."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "tests")
    app = make_server(TemplateService(), sample_shops(), Settings(access=Access(keys=Keys(path))))
    for key, refused in ((secret, False), ("eg-wrong", True)):
        client = Client(BASE, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE), key)
        with pytest.raises(ApiError, match="No valid key") if refused else nullcontext():
            assert await client.tasks()
        await client.close()
    broken = httpx.MockTransport(lambda _: httpx.Response(200, text='data: {"error": {"message": "It died."}}\n\n'))
    client = Client(BASE, httpx.AsyncClient(transport=broken, base_url=BASE))
    with pytest.raises(ApiError, match="It died"):
        _ = [event async for event in client.explain({})]
    await client.close()
