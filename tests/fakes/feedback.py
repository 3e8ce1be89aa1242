"""Texts in a store, and a process that fills one until it is killed and says each id that it kept:
`python -m tests.fakes.feedback FILE`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from edgegen.domain import Fact, Kind, Request, Section
from edgegen.store import Event, Shown, Store
from edgegen.wire import request_to_json


def request(price: int = 120) -> Request:
    """Why an oak desk of a price."""
    facts = (Fact("name", "Oak desk", Kind.TEXT), Fact("price", Decimal(price), Kind.MONEY, currency="USD"))
    return Request("reason", "en", (Section("item", facts),))


def shown(text: str = "<|v1|> costs <|v4|>.", price: int = 120, source: str = "model", at: float | None = None) -> Shown:
    """A text on it, as the store keeps it."""
    said = text.replace("<|v1|>", "Oak desk").replace("<|v4|>", f"${price}")
    one = Shown("reason", "en", request_to_json(request(price)), said, source, text, "tiny@1", 7)
    return one if at is None else replace(one, at=at)


def main(path: Path) -> None:
    """Fill it for ever."""
    store = Store(path)
    while True:
        one = store.record(shown())
        store.add(one, Event("edited", text="Better."))
        sys.stdout.write(one + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
