"""Requests as JSON: what is written is read again, what is wrong is a DataError that names the fact."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from edgegen import wire
from edgegen.domain import Fact, Kind, Level, Request, Section
from edgegen.errors import DataError, UsageError

FACTS = (
    Fact("name", "暮山", Kind.TEXT),
    Fact("price", Decimal("1.995"), Kind.MONEY, level=Level.LOW, currency="CNY"),
    Fact("grip", Decimal("8.6"), Kind.ASPECT, label="grip", scale=Decimal(10)),
    Fact("released", date(2026, 11, 24), Kind.DATE),
    Fact("tags", ("a", "b"), Kind.LIST),
    Fact("is_x", False, Kind.FLAG, label="x"),
)


def test_there_and_back() -> None:
    """Nothing is lost."""
    asked = Request("category", "zh", (Section("item", FACTS),), ("a > b",))
    assert wire.request_from_json(wire.request_to_json(asked)) == asked


def test_null_is_as_good_as_missing() -> None:
    """Label, level and currency may be null."""
    raw = {"key": "price", "kind": "money", "value": 5, "label": None, "level": None, "currency": None}
    assert wire.fact_from_json(raw) == Fact("price", Decimal(5), Kind.MONEY)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": 5}, "Fact 'price': label is 5, not a string"),
        ({"label": ["x"]}, r"Fact 'price': label is \['x'\], not a string"),
        ({"level": 0}, "Fact 'price': level is 0, not a string"),
        ({"level": "huge"}, "Fact 'price': 'huge' is not a valid Level"),
        ({"currency": 840}, "Fact 'price': currency is 840, not a string"),
        ({"currency": False}, "Fact 'price': currency is False, not a string"),
        ({"scale": "many"}, "Fact 'price': 'many' is not a number"),
        ({"scale": "inf"}, "Fact 'price': scale is Infinity"),
        ({"scale": 0}, "Fact 'price': scale is 0"),
        ({"value": True}, "Fact 'price': True is not a number"),
        ({"value": "nan"}, "Fact 'price': 'nan' is not a usual number"),
        ({"value": "1e99"}, "Fact 'price': '1e99' is not a usual number"),
        ({"kind": "list", "value": ["a", 5]}, "Fact 'price': 5 in the list is not a string"),
        ({"kind": "date", "value": 5}, "Fact 'price'"),
        ({"key": 5}, "A fact has no key"),
    ],
)
def test_wrong_facts(changes: dict[str, Any], what: str) -> None:
    """Each is named, and none is an error of another kind."""
    with pytest.raises(DataError, match=what):
        wire.fact_from_json({"key": "price", "kind": "money", "value": "5"} | changes)


@pytest.mark.parametrize(
    ("raw", "kind", "what"),
    [
        ({"task": "reason", "lang": "fr", "sections": []}, UsageError, "Unknown language 'fr'"),
        ({"task": "reason", "lang": "en"}, DataError, "sections"),
        ({"task": "reason", "lang": "en", "sections": [{"label": 5, "facts": []}]}, DataError, "label of a section is 5"),
        ({"task": "reason", "lang": "en", "sections": [{"label": "item"}]}, DataError, "facts"),
    ],
)
def test_wrong_requests(raw: dict[str, Any], kind: type[Exception], what: str) -> None:
    """So are requests."""
    with pytest.raises(kind, match=what):
        wire.request_from_json(raw)
