"""The one screen: products on the left, the selected one's facts and its explanation on the right.

Workers call the server and post messages; only the handlers of messages touch widgets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Footer, Input, OptionList, Select, Static
from textual.widgets.option_list import Option

from tui.client import ApiError, Client, Product, Shop, Task

_SEVERAL = 3  # products in one list, search answer or guide
_READY = "Enter explains the selected product."
_SOURCES = {"model": "written by the model, checked", "template": "written from the template"}


def make_app(base_url: str, client: httpx.AsyncClient | None = None) -> ShopApp:
    """The terminal for a server. `client` is used instead of one of its own, as in tests."""
    return ShopApp(Client(base_url, client))


class Loaded(Message):
    """The catalogue has come, and the tasks."""

    def __init__(self, shop: Shop, tasks: tuple[Task, ...]) -> None:
        """What was loaded."""
        super().__init__()
        self.shop, self.tasks = shop, tasks


class Written(Message):
    """A bit of an explanation has come."""

    def __init__(self, product: str, bit: str) -> None:
        """The product it is about, and the bit."""
        super().__init__()
        self.product, self.bit = product, bit


class Explained(Message):
    """An explanation is whole."""

    def __init__(self, record: dict[str, Any]) -> None:
        """Its record."""
        super().__init__()
        self.record = record


class Failed(Message):
    """A call failed."""

    def __init__(self, why: str) -> None:
        """In one line."""
        super().__init__()
        self.why = why


@dataclass
class Chosen:
    """What the terminal shows: the text so far, and what was loaded."""

    shop: Shop = Shop("", (), (), ())
    tasks: tuple[Task, ...] = ()
    product: Product | None = None
    text: str = ""

    def task(self, name: object) -> Task | None:
        """The task with a name."""
        return next((task for task in self.tasks if task.name == name), None)


class ShopApp(App[None]):
    """Picks a product and shows why it is recommended."""

    TITLE = "edgegen"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = None
    CSS = """
    #left { width: 36%; min-width: 24; }
    #products { height: 1fr; border: round $surface-lighten-2; }
    #products:focus { border: round $accent; }
    #filter { height: 3; }
    #choices { height: 3; }
    #choices Select { width: 1fr; }
    #facts { height: 40%; border: round $surface-lighten-2; }
    #answer { height: 1fr; border: round $surface-lighten-2; padding: 0 1; }
    #claims { color: $text-muted; margin-top: 1; }
    #status { height: auto; max-height: 3; padding: 0 1; background: $panel; }
    #status.error { background: $error; color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("t", "task", "Task"),
        Binding("l", "lang", "Language"),
        Binding("s", "shopper", "Shopper"),
        Binding("r", "retry", "Retry"),
        Binding("q", "quit", "Quit"),
        Binding("escape", "back", "Back", show=False),
    ]

    def __init__(self, client: Client) -> None:
        """A terminal on a client."""
        super().__init__()
        self._client, self._now = client, Chosen()

    def compose(self) -> ComposeResult:
        """The widgets."""
        with Horizontal():
            with Vertical(id="left"):
                yield Input(placeholder="/ filters the products", id="filter")
                yield OptionList(id="products", markup=False)
            with Vertical():
                with Horizontal(id="choices"):
                    yield Select[str]([], prompt="task", id="task")
                    yield Select[str]([], prompt="language", id="lang")
                    yield Select[str]([], prompt="shopper", id="shopper")
                yield DataTable[str](id="facts", show_cursor=False, show_header=False)
                with VerticalScroll(id="answer"):
                    yield Static(id="text", markup=False)
                    yield Static(id="claims", markup=False)
        yield Static(id="status", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Load the catalogue."""
        table = self.query_one("#facts", DataTable)
        table.add_columns("fact", "value")
        table.can_focus = False
        for name in ("task", "lang", "shopper"):
            self.query_one(f"#{name}", Select).can_focus = True
        self.query_one("#products", OptionList).focus()
        self.load()

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self._client.close()

    # --- calls

    @work(exclusive=True, group="load")
    async def load(self, lang: str | None = None) -> None:
        """Get the catalogue in a language, and the tasks."""
        self._say("Loading ...")
        try:
            self.post_message(Loaded(await self._client.shop(lang), await self._client.tasks()))
        except ApiError as error:
            self.post_message(Failed(str(error)))

    @work(exclusive=True, group="explain")
    async def explain(self, product: Product, body: dict[str, Any]) -> None:
        """Get an explanation bit by bit."""
        try:
            async for event in self._client.explain(body):
                if "delta" in event:
                    self.post_message(Written(product.id, event["delta"]))
                else:
                    self.post_message(Explained(event["done"]))
        except ApiError as error:
            self.post_message(Failed(str(error)))
