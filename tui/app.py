"""The one screen: products on the left, the selected one's facts and its explanation on the right.

Workers call the server and post messages; only the handlers of messages touch widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import DataTable, Footer, Input, OptionList, Select, Static

from tui.client import ApiError, Client, Product, Shop, Task

_SEVERAL = 3  # products in one list, search answer or guide
_READY = "{} products. Enter explains the selected one."
_SOURCES = {"model": "written by the model, checked", "template": "written from the template"}


def make_app(base_url: str, client: httpx.AsyncClient | None = None, key: str | None = None) -> ShopApp:
    """The terminal for a server, which may want a `key`. `client` is used instead of one of its own, as in tests."""
    return ShopApp(Client(base_url, client, key))


class Loaded(Message):
    """The catalogue has come, and the tasks."""

    def __init__(self, shop: Shop, tasks: tuple[Task, ...]) -> None:
        """What was loaded."""
        super().__init__()
        self.shop, self.tasks = shop, tasks


class Written(Message):
    """A bit of an explanation has come."""

    def __init__(self, call: int, bit: str) -> None:
        """The number of the call, and the bit."""
        super().__init__()
        self.call, self.bit = call, bit


class Explained(Message):
    """An explanation is whole."""

    def __init__(self, call: int, record: dict[str, Any]) -> None:
        """The number of the call, and the record."""
        super().__init__()
        self.call, self.record = call, record


class Failed(Message):
    """A call failed."""

    def __init__(self, why: str) -> None:
        """In one line."""
        super().__init__()
        self.why = why


@dataclass
class Chosen:
    """What the terminal shows: what was loaded, the products that the filter leaves, the text so far."""

    shop: Shop = field(default_factory=lambda: Shop("", (), (), ()))
    tasks: tuple[Task, ...] = ()
    shown: tuple[Product, ...] = ()
    product: Product | None = None
    text: str = ""
    call: int = 0
    """Counts what was asked or left, so that bits of an answer that nobody waits for any more are told from others."""

    def task(self, name: object) -> Task | None:
        """The task with a name."""
        return next((task for task in self.tasks if task.name == name), None)


class ShopApp(App[None]):
    """Picks a product and shows why it is recommended."""

    TITLE = "edgegen"
    ENABLE_COMMAND_PALETTE = False
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
        Binding("escape", "products", "Products", show=False),
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
        self.query_one("#products", OptionList).focus()
        self.action_retry()

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self._client.close()

    # --- calls

    @work(exclusive=True, group="load")
    async def load(self, lang: str | None = None) -> None:
        """Get the catalogue in a language, and the tasks."""
        try:
            self.post_message(Loaded(await self._client.shop(lang), await self._client.tasks()))
        except ApiError as error:
            self.post_message(Failed(str(error)))

    @work(exclusive=True, group="explain")
    async def explain(self, call: int, body: dict[str, Any]) -> None:
        """Get an explanation bit by bit."""
        try:
            async for event in self._client.explain(body):
                if "delta" in event:
                    self.post_message(Written(call, event["delta"]))
                else:
                    self.post_message(Explained(call, event["done"]))
        except ApiError as error:
            self.post_message(Failed(str(error)))

    # --- answers

    @on(Loaded)
    def _loaded(self, message: Loaded) -> None:
        self._now = Chosen(message.shop, message.tasks, call=self._now.call + 1)
        self._offer("task", [(task.name, task.name) for task in message.tasks], "reason")
        self._offer("lang", [(lang, lang) for lang in message.shop.langs], message.shop.lang)
        self._offer("shopper", [(name, name) for name in message.shop.shoppers], None)
        self._list()
        self._say(_READY.format(len(message.shop.products)))

    @on(Written)
    def _written(self, message: Written) -> None:
        if message.call == self._now.call:
            self._now.text += message.bit
            self._show(self._now.text)

    @on(Explained)
    def _explained(self, message: Explained) -> None:
        if message.call != self._now.call:
            return
        record = message.record
        claims = [f"- {claim['text']}  [{', '.join(fact['key'] for fact in claim['facts'])}]" for claim in record["claims"]]
        notes = [record["note"]] if record["note"] else []
        notes += [f"withheld: {', '.join(record['withheld'])}"] if record["withheld"] else []
        self._show(record["text"], "\n".join([_SOURCES.get(record["source"], record["source"]), *claims, *notes]))
        self._say(f"Done in {record['timings']['total_s'] * 1000:.0f} ms.")

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        self._say(f"{message.why} Press r to try again.", error=True)

    # --- what staff do

    @on(Input.Changed, "#filter")
    def _filtered(self) -> None:
        self._list()

    @on(OptionList.OptionHighlighted, "#products")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index < len(self._now.shown):
            self._select(self._now.shown[event.option_index])

    @on(OptionList.OptionSelected, "#products")
    def _picked(self, event: OptionList.OptionSelected) -> None:
        self._select(self._now.shown[event.option_index])
        self._ask()

    @on(Select.Changed)
    def _changed(self, event: Select.Changed) -> None:
        self.query_one("#products", OptionList).focus()
        if event.select.id == "lang" and isinstance(event.value, str) and event.value != self._now.shop.lang:
            self._reload(event.value)

    @on(Input.Submitted, "#filter")
    def action_products(self) -> None:
        """To the list of products."""
        self.query_one("#products", OptionList).focus()

    def action_filter(self) -> None:
        """To the filter."""
        self.query_one("#filter", Input).focus()

    def action_task(self) -> None:
        """Choose the task."""
        self._open("task")

    def action_shopper(self) -> None:
        """Choose the shopper."""
        if self._now.shop.shoppers:
            self._open("shopper")
        else:
            self._say("The served catalogue has no shoppers.")

    def action_lang(self) -> None:
        """Go to the next language that is served."""
        langs, now = self._now.shop.langs, self._now.shop.lang
        if len(langs) > 1:
            self._reload(langs[(langs.index(now) + 1) % len(langs)])
        else:
            self._say(f"The catalogue is served in one language only: {now}." if now else "Nothing is loaded yet. Press r.")

    def action_retry(self) -> None:
        """Load again where nothing is there, else explain again."""
        if not self._now.shop.products:
            self._reload(self._now.shop.lang or None)
        else:
            self._ask()

    # --- widgets

    def _reload(self, lang: str | None) -> None:
        self._say("Loading ...")
        self.load(lang)

    def _ask(self) -> None:
        product, task = self._now.product, self._now.task(self._value("task"))
        if product is None or task is None:
            return
        self._now.text, self._now.call = "", self._now.call + 1
        self._show("")
        self._say(f"Explaining {product.name} ...")
        self.explain(self._now.call, body(self._now.shop, product, task, self._value("shopper")))

    def _select(self, product: Product | None) -> None:
        if product is self._now.product:
            return
        self.workers.cancel_group(self, "explain")
        self._now.product, self._now.text, self._now.call = product, "", self._now.call + 1
        self._show("")
        table = self.query_one("#facts", DataTable)
        table.clear()
        for fact in product.facts if product else ():
            table.add_row(Text(fact.label, "bold"), Text(fact.text))

    def _list(self) -> None:
        words = self.query_one("#filter", Input).value
        self._now.shown = tuple(product for product in self._now.shop.products if product.matches(words))
        products = self.query_one("#products", OptionList)
        products.clear_options()
        products.add_options([product.name for product in self._now.shown])
        if self._now.shown:
            products.highlighted = 0
        self._select(self._now.shown[0] if self._now.shown else None)

    def _offer(self, name: str, options: Sequence[tuple[str, str]], chosen: str | None) -> None:
        select: Select[str] = self.query_one(f"#{name}", Select)
        values = [value for _, value in options]
        kept = self._value(name)
        wanted = kept if kept in values and name != "lang" else chosen if chosen in values else values[0] if values else None
        with select.prevent(Select.Changed):
            select.set_options(options)
            if wanted is not None:
                select.value = wanted

    def _value(self, name: str) -> str | None:
        value = self.query_one(f"#{name}", Select).value
        return value if isinstance(value, str) else None

    def _open(self, name: str) -> None:
        select = self.query_one(f"#{name}", Select)
        select.focus()
        select.action_show_overlay()

    def _show(self, text: str, below: str = "") -> None:
        self.query_one("#text", Static).update(text)
        self.query_one("#claims", Static).update(below)

    def _say(self, text: str, *, error: bool = False) -> None:
        status = self.query_one("#status", Static)
        status.update(text)
        status.set_class(error, "error")


def body(shop: Shop, product: Product, task: Task, shopper: str | None) -> dict[str, Any]:
    """What is asked of the server: the product, with more of its category where the task writes about several."""
    asked: dict[str, Any] = {"task": task.name, "lang": shop.lang, "product": product.id}
    category = product.fact("category")
    if task.several:
        alike = [p.id for p in shop.products if p is not product and category and p.fact("category") == category]
        del asked["product"]
        asked["products"] = [product.id, *alike][:_SEVERAL]
    if task.shopper and shopper:
        asked["shopper"] = shopper
    if task.query:
        asked["query"] = category or product.name
    return asked
