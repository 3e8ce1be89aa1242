"""Requests from products: what each task gets, and that nothing is claimed which the catalogue does not hold."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from edgegen import catalog, requests, tasks
from edgegen.catalog import Product, Row
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.errors import UsageError

ROWS: list[dict[str, Any]] = [
    {"name": f"Tray {letter}", "category": "tray", "price": price, "features": ["handles", "felt base"], "material": "oak"}
    for letter, price in zip("abcd", (10, 20, 30, 40), strict=True)
]


def products(*rows: dict[str, Any]) -> tuple[Product, ...]:
    """Products of plain rows."""
    columns = catalog.guess(catalog.columns_of([Row(1, row) for row in rows]))
    return tuple(catalog.levels([catalog.product(Row(i, row), columns, "en") for i, row in enumerate(rows, 1)]))


def built(task: str, found: tuple[Product, ...], **context: Any) -> list[Request]:
    """The requests of one task."""
    return [request for _, request in requests.build(task, found, requests.Context("en", **context))]


def test_features_are_not_praise() -> None:
    """A summary says what shoppers praise, so that it needs points that shoppers praised."""
    assert built("summary", products(*ROWS)) == []
    praised = products(ROWS[0] | {"praised": ["easy to clean", "light to carry", "neat handles"]})
    (request,) = built("summary", praised)
    assert [str(s.facts[0].value) for s in request.labelled("reason")] == ["easy to clean", "light to carry", "neat handles"]


def test_review_needs_the_shoppers_own_stars() -> None:
    """The product's average rating is nobody's opinion of an aspect."""
    assert built("review", products(ROWS[0] | {"rating": 4.5})) == []
    (request,) = built("review", products(ROWS[0] | {"own_ratings": {"grip": 5, "weight": 2}}))
    assert [f.label for f in request.labelled("ratings")[0]] == ["grip", "weight"]


def test_guide_figures_cover_the_whole_category() -> None:
    """Three products are shown; number and prices are those of all four, and none are given where these are not known."""
    found = products(*ROWS)
    guide = built("guide", found[:3], catalogue=found)[0].labelled("guide")[0]
    assert [str(guide.get(k).value) for k in ("products", "lowest", "highest")] == ["4", "10", "40"]  # type: ignore[union-attr]
    alone = built("guide", found[:3])[0].labelled("guide")[0]
    assert alone.get("products") is None and alone.get("lowest") is None


def test_every_request_of_the_sample_fits_its_task() -> None:
    """Each task makes requests of the sample, and each binds."""
    found = catalog.load(catalog.sample("en"), "en").products
    shopper = next(iter(catalog.shoppers(None, "en").values()))
    context = requests.Context("en", shopper, None, None, catalog.paths(found), found)
    for name in tasks.names():
        made = [request for _, request in requests.build(name, found, context)]
        assert made, name
        for request in made:
            tasks.get(name).prompt(request)


def test_another_shoppers_history_is_not_told() -> None:
    """A row's history is kept only where the shopper's own bears it out; what goes with a past purchase says so."""
    row = ROWS[0] | {"bought": "Desk Fan", "match": "quiet nights", "also_bought": "Oak Spoon"}
    shopper = Section("shopper", (Fact("likes", "Quiet nights", Kind.PHRASE), Fact("bought", "Oak Spoon", Kind.TEXT)))
    (request,) = built("personal", products(row), shopper=shopper)
    item = request.labelled("item")[0]
    assert [(f.key, f.value) for f in item if f.key in ("bought", "match", "also_bought")] == [
        ("match", "quiet nights"), ("bought", "Oak Spoon"),
    ]  # fmt: skip
    assert [f.key for f in request.labelled("shopper")[0]] == ["likes"]


def test_a_search_is_answered_with_what_matches() -> None:
    """Of many products those that share most words with the query, in one answer; none where nothing matches."""
    found = catalog.load(catalog.sample("en"), "en").products
    (request,) = built("search", found, query="coffee grinder for travel")
    assert [str(s.get("category").value) for s in request.labelled("item")] == ["coffee grinder"] * 4  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="No product has a word of the search 'zzz'"):
        built("search", found, query="zzz")
    chinese = catalog.load(catalog.sample("zh"), "zh").products
    ((_, request),) = requests.build("search", chinese, requests.Context("zh", query="磨豆机"))
    assert len(request.labelled("item")) == 4


def test_a_wish_is_told_of_what_it_goes_with() -> None:
    """A liking that shares no word with the product is no reason for it, nor is a budget that it is beyond."""
    likes = Fact("likes", "oak furniture", Kind.PHRASE)
    shopper = Section("shopper", (likes, Fact("need", "quiet mornings", Kind.PHRASE), money("budget", 25)))
    first, second, third, fourth = built("personal", products(*ROWS), shopper=shopper)
    assert [f.key for f in first.sections[1]] == [f.key for f in second.sections[1]] == ["likes", "budget"]
    assert [f.key for f in third.sections[1]] == [f.key for f in fourth.sections[1]] == ["likes"]
    only = Section("shopper", (money("budget", 25),))
    assert len(built("personal", products(*ROWS), shopper=only)) == 2
    general = Section("shopper", (Fact("need", "brewing coffee at home", Kind.PHRASE),))
    assert built("personal", products(ROWS[0] | {"tags": ["home decor"]}), shopper=general) == []
    assert built("personal", products(ROWS[0] | {"material": "pine", "price": "99"}), shopper=shopper) == []


def test_a_list_names_a_budget_that_holds_for_all_of_it() -> None:
    """One item beyond it, or without a price, and the budget is not told."""
    shopper = Section("shopper", (money("budget", 25),))
    (small,) = built("list", products(*ROWS[:2]), shopper=shopper)
    assert [s.label for s in small.sections] == ["list", "item", "item"]
    (large,) = built("list", products(*ROWS), shopper=shopper)
    assert not large.labelled("list")


def money(key: str, amount: int) -> Fact:
    """An amount of dollars."""
    return Fact(key, Decimal(amount), Kind.MONEY, currency="USD")


def test_personal_needs_a_shopper() -> None:
    """The error says what is lacking; how to give it is the front end's to say."""
    with pytest.raises(UsageError, match="needs a shopper") as caught:
        built("personal", products(*ROWS))
    assert caught.value.lacks == "shopper" and "--" not in str(caught.value)
