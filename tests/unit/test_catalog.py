"""The catalogue: any file a shop may have gives products, or an error that says what to do; nothing doubtful is a fact."""

from __future__ import annotations

import contextlib
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen import catalog, schema, slots
from edgegen.catalog import Product, Row
from edgegen.catalog_read import clean
from edgegen.domain import LANGS, Fact, Kind, Lang, Level, Request, Section
from edgegen.errors import DataError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.decimals()
COLUMNS = st.sampled_from([*schema.alias_table(), "waterproof", "usb port", "minOrder", "重量(克)"])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3))


def made(lang: Lang = "en", most: int = 40, **fields: Any) -> Product:
    """The product of one row with a name and these fields."""
    row = Row(1, {"name": "Tarn", **fields})
    return catalog.product(row, catalog.guess(list(row.fields)), lang, most=most)


def fact(column: str, value: Any, lang: Lang = "en") -> Fact:
    """The one fact that a cell becomes."""
    found = made(lang, **{column: value})
    assert len(found.section.facts) == 2, found
    return found.section.facts[1]


def why(column: str, value: Any, lang: Lang = "en") -> str:
    """Why a cell becomes no fact."""
    found = made(lang, **{column: value})
    assert len(found.section.facts) == 1, found
    return dict(found.withheld)[column]


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


# --- facts


@pytest.mark.parametrize(
    ("column", "value", "lang", "key", "label", "yes"),
    [
        ("waterproof", True, "en", "is_waterproof", "waterproof", True),
        ("usb port", False, "en", "has_usb_port", "USB port", False),
        ("usbPort", "no", "en", "has_usb_port", "USB port", False),
        ("isFoldable", "yes", "en", "is_foldable", "foldable", True),
        ("has lid", True, "en", "has_lid", "lid", True),
        ("gluten-free", True, "en", "is_gluten_free", "gluten-free", True),
        ("side table", True, "en", "has_side_table", "side table", True),
        ("BPA-free", True, "en", "is_bpa_free", "BPA-free", True),
        ("island", True, "en", "has_island", "island", True),
        ("防水", "是", "zh", "is_防水", "防水", True),
        ("waterproof", True, "zh", "is_防水", "防水", True),
        ("防水", True, "en", "is_waterproof", "waterproof", True),
        ("是否带盖", "否", "zh", "has_盖", "盖", False),
        ("杯盖", "有", "zh", "has_杯盖", "杯盖", True),
        ("可拆洗", True, "zh", "is_可拆洗", "可拆洗", True),
    ],
)
def test_flags(column: str, value: object, lang: Lang, key: str, label: str, yes: bool) -> None:
    """A yes-or-no column says what the product is or has, in the language of the text."""
    assert fact(column, value, lang) == Fact(key, yes, Kind.FLAG, label=label)


def test_attributes_keep_their_column_as_label() -> None:
    """An unknown column is an attribute under its own name, and never under a key that the schema knows."""
    assert fact("minimumOrderQuantity", 48) == Fact("minimum_order_quantity", "48", Kind.PHRASE, label="minimum order quantity")
    assert fact("availabilityStatus", "In Stock").label == "availability"
    assert fact("power (W)", 150) == Fact("power", "150 W", Kind.PHRASE, label="power")
    assert fact("source", "farm").key == "source_attribute"
    assert [fact(c, "x").label for c in ("RAM", "COLOR TONE", "BPA level", "USBType", "WIDTH")] == [
        "RAM", "color tone", "BPA level", "USB type", "width",
    ]  # fmt: skip
    assert fact("口径", "5厘米", "zh").label == "口径"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("barcode", "4006381333931", "not something a shopper asks about"),
        ("vendorId", 7, "not something a shopper asks about"),
        ("meta title", "x", "not something a shopper asks about"),
        ("货品编码", "A1", "not something a shopper asks about"),
        ("cost", 3, "not something a shopper asks about"),
        ("Cost per item", 3, "not something a shopper asks about"),
        ("unitCost", 3, "not something a shopper asks about"),
        ("wholesale price", 3, "not something a shopper asks about"),
        ("margin (%)", 40, "not something a shopper asks about"),
        ("成本价", 3, "not something a shopper asks about"),
        ("毛利率", "40%", "not something a shopper asks about"),
        ("manual", "https://example.org/m", "a web address"),
        ("care", "<b>cold</b>", "HTML"),
        ("contact", "a@b.example", "e-mail"),
        ("story", "word " * 10, "too long"),
        ("description", "A soft shirt", "free text"),
        ("odd", "", "is empty"),
        ("odd", "N/A", "is empty"),
        ("odd", [], "is empty"),
        ("price", "abc", "not an amount of money"),
        ("rating", 8.6, "write 8.6/10"),
        ("rating", "97", "write 8.6/10"),
        ("weight", 4, "no unit"),
        ("stock", "many", "not a number"),
        ("material", True, "yes or no"),
        ("trending", False, "no reason"),
        ("sales", 0, "no reason"),
        ("discount", "$5", "not a number"),
    ],
)
def test_what_cannot_be_a_fact_is_withheld(column: str, value: object, reason: str) -> None:
    """The fact is left out with its reason; the product stays."""
    assert reason in why(column, value)


def test_measures_and_sizes() -> None:
    """A measure needs a unit: its own, or the column's; dimensions become one size."""
    assert fact("dimensions", {"width": 15.14, "height": 13.08, "depth": Decimal("22.99")}).value == "15.14 x 13.08 x 22.99"
    assert fact("weight_kg", 1.5) == Fact("weight", "1.5 kg", Kind.MEASURE)
    assert fact("重量（克）", 300, "zh").value == "300克"
    assert fact("size", "XL").value == "XL"


def test_lists() -> None:
    """Features become several facts, other lists one; at most four of each."""
    found = made(features=["mirror", "clip", "strap", "lid", "belt"], tags="soft, warm", colours=["red", "blue"])
    assert [f.value for f in found.section if f.key == "feature"] == ["mirror", "clip", "strap", "lid"]
    assert found.section.get("tags") == Fact("tags", ("soft", "warm"), Kind.LIST)
    assert found.section.get("colours") == Fact("colours", ("red", "blue"), Kind.LIST, label="colours")
    assert ("features", "more than 4 features") in found.withheld


def test_levels_of_numbers() -> None:
    """Keys with bounds get their hint, a rating by its share of the scale."""
    assert fact("rating", 4.6).level is Level.HIGH
    assert fact("rating", "6/10").level is Level.LOW
    assert fact("reviews", "1.2k").level is Level.HIGH
    assert fact("stock", 0).level is Level.LOW
    assert fact("similar shoppers (%)", 87) == Fact("similar_shoppers", Decimal(87), Kind.PERCENT, level=Level.HIGH)


def test_prices_that_disagree() -> None:
    """An original price must be above the price, and a discount must be what the two prices say."""
    assert ("was_price", "is not above the price") in made(price=5, was_price=5).withheld
    assert ("discount", "the two prices make it 50%") in made(price=5, was_price=10, discount=20).withheld
    assert made(price=5, was_price=10, discount=50).withheld == ()


@pytest.mark.parametrize(
    ("fields", "price", "was"),
    [
        ({"price": 20, "sale_price": 15}, "15", "20"),
        ({"sale price": "$15", "regular price": "$20"}, "15", "20"),
        ({"price": 20, "list_price": 25, "sale_price_usd": 15}, "15", "20"),
        ({"sale_price": 15}, "15", None),
        ({"sale_price": 15, "list_price": 25}, "15", "25"),
        ({"price": 20, "sale_price": ""}, "20", None),
        ({"price": 20, "sale_price": 20}, "20", None),
        ({"price": 20, "sale_price": "15 EUR"}, "20", None),
        ({"售价": 20, "促销价": 15}, "15", "20"),
    ],
)
def test_a_sale_price_is_the_price(fields: dict[str, Any], price: str, was: str | None) -> None:
    """What is paid now is the price; what it is without the sale is the original price; a sale dearer than that is none."""
    section = made(**fields).section
    found = [section.get(key) for key in ("price", "was_price", "sale_price")]
    assert [f and str(f.value) for f in found] == [price, was, None]


def test_a_cost_is_never_a_price() -> None:
    """What the shop pays is withheld; a month's sales are not all sales; what a delivery costs is told."""
    assert [f.key for f in made(price=20, cost_usd=12).section] == ["name", "price"]
    assert fact("monthly sales", 300) == Fact("monthly_sales", "300", Kind.PHRASE, label="monthly sales")
    assert fact("月销量", 300, "zh").label == "月销量"
    assert fact("shipping cost", "free").label == "shipping cost"
    assert fact("low-cost", True).label == "low-cost"


def test_categories_and_paths() -> None:
    """A path gives the category, a slug becomes words, and the tree is what the products have."""
    assert made(category_path=["Home", "Lamps"]).section.get("category") == Fact("category", "Lamps", Kind.PHRASE)
    assert made(category="Home > Lamps").path == "Home > Lamps"
    assert fact("category", "mens-shirts").value == "men's shirts"
    assert fact("category", "t-shirts").value == "t-shirts"
    products = [made(category="lamps"), made(category_path="Home / Rugs"), made(), made(category="lamps")]
    assert catalog.paths(products) == ("Home > Rugs", "lamps")


def test_order_and_number_of_facts() -> None:
    """Name, category and evidence come first, flags near the end, and the rest is withheld with the reason."""
    found = made(
        most=6, stock=5, waterproof=True, power="9 W", price=5, rating=4, similar_shoppers=70, category="lamp", feature="dimmer"
    )
    assert [f.key for f in found.section] == ["name", "category", "similar_shoppers", "rating", "price", "feature"]
    assert found.withheld == (("power", "more than 6 facts"), ("waterproof", "more than 6 facts"), ("stock", "more than 6 facts"))


def test_nested_rating_and_attributes(tmp_path: Path) -> None:
    """A rating with its count gives two facts; attributes inside an object count as columns."""
    path = write(
        tmp_path, "a.json", json.dumps([{"title": "x", "rating": {"rate": 4.1, "count": 120}, "specs": {"power": "9 W"}}])
    )
    section = catalog.load(path, "en").products[0].section
    assert [(f.key, str(f.value)) for f in section] == [("name", "x"), ("rating", "4.1"), ("reviews", "120"), ("power", "9 W")]


def test_currency_column() -> None:
    """A row may say its currency."""
    price = made(price=5, currency="eur").section.get("price")
    assert price is not None
    assert price.currency == "EUR"


def test_ids_of_other_products_become_names(tmp_path: Path) -> None:
    """Evidence that gives another product's id names it; an id that nobody has is withheld."""
    path = write(tmp_path, "a.csv", "id,name,also_bought,liked\n1,Tarn,2,\n2,Fen,9,Ash 4\n")
    first, second = catalog.load(path, "en").products
    assert first.section.get("also_bought") == Fact("also_bought", "Fen", Kind.TEXT)
    assert second.section.get("liked") == Fact("liked", "Ash 4", Kind.TEXT)
    assert ("also_bought", "is the id of no product") in second.withheld


def test_price_levels_need_four_of_a_category() -> None:
    """Prices get levels by thirds among at least four of their category and currency."""
    four = [made(category="lamp", price=p) for p in (10, 20, 30, 90)]
    assert [_price_level(p) for p in catalog.levels(four)] == [Level.LOW, Level.LOW, Level.HIGH, Level.HIGH]
    assert [_price_level(p) for p in catalog.levels([*four[:3], made(price=5)])] == [None] * 4
    assert {_price_level(p) for p in catalog.levels([four[0]] * 5)} == {Level.MID}


def _price_level(found: Product) -> Level | None:
    price = found.section.get("price")
    return price.level if price else None


@pytest.mark.parametrize("name", [None, "", True, {"a": 1}, "x" * 300, "\ud800"])
def test_a_row_without_a_name(name: object) -> None:
    """Without a usable name there is no product."""
    with pytest.raises(DataError, match="Row 7: the name"):
        catalog.product(Row(7, {"name": name}), catalog.guess(["name"]), "en")


@settings(deadline=None)  # the first example reads the lexicon
@given(st.dictionaries(COLUMNS | st.text(max_size=12), JSON, max_size=6), st.sampled_from(LANGS))
def test_any_cell_gives_a_product_or_a_data_error(fields: dict[str, Any], lang: Lang) -> None:
    """Whatever stands in a row, it never crashes, and what it gives can be bound to a prompt."""
    row = Row(1, fields | {"name": fields.get("name", "Tarn")})
    try:
        found = catalog.product(row, catalog.guess(list(row.fields)), lang)
    except DataError:
        return
    assert len(found.section.facts) <= 12
    assert {column for column, _ in found.withheld} <= {*row.fields, ""}
    assert slots.bind(Request("reason", lang, (found.section,))).slots
    assert all(clean(f.value) == f.value for f in found.section if isinstance(f.value, str))


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No file content crashes the reader in any format."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("json", "jsonl", "csv", None):
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "replace"))))
            with contextlib.suppress(DataError):
                assert list(catalog.read("-", kind))


# --- sample and shoppers


@pytest.mark.parametrize("lang", LANGS)
def test_the_sample(lang: Lang) -> None:
    """The sample is whole: no bad row, nothing withheld but what exceeds the number of facts, a tree of twelve domains."""
    found = catalog.load(catalog.sample(lang), lang)
    assert len(found.products) >= 60
    assert sum(len(p.reasons) > 2 for p in found.products) >= 12
    assert sum(bool(p.ratings) for p in found.products) >= 12
    assert not found.bad
    assert {reason for p in found.products for _, reason in p.withheld} <= {"more than 12 facts"}
    assert len({path.split(" > ")[0] for path in catalog.paths(found.products)}) >= 12
    used = {f.key for p in found.products for f in p.section}
    assert used >= {
        "similar_shoppers",
        "also_bought",
        "liked",
        "viewed",
        "match",
        "quote",
        "trending",
        "new",
        "was_price",
        "discount",
    }
    assert any(f.kind is Kind.FLAG and not f.value for p in found.products for f in p.section)


@pytest.mark.parametrize("lang", LANGS)
def test_the_samples_shoppers(lang: Lang) -> None:
    """Each shopper has likes, a need, a budget, and bought what the sample sells."""
    names = {p.section.facts[0].value for p in catalog.load(catalog.sample(lang), lang).products}
    found = catalog.shoppers(None, lang)
    assert len(found) >= 6
    for section in found.values():
        assert {f.key for f in section} == {"likes", "need", "budget", "bought"}
        assert {f.value for f in section if f.key == "bought"} <= names


def test_shoppers_from_csv_and_broken_ones(tmp_path: Path) -> None:
    """A CSV of shoppers works; a profile with a wrong value says whose it is."""
    path = write(tmp_path, "a.csv", "id,likes,budget\nu1,tea; cats,$30\n")
    facts = (
        Fact("likes", "tea", Kind.PHRASE),
        Fact("likes", "cats", Kind.PHRASE),
        Fact("budget", Decimal(30), Kind.MONEY, currency="USD"),
    )
    assert catalog.shoppers(path, "en") == {"u1": Section("shopper", facts)}
    chinese = write(tmp_path, "d.json", '[{"编号": "a", "喜欢": ["茶"], "用途": "露营", "预算": "¥90", "买过": ["Fen"]}]')
    assert [f.key for f in catalog.shoppers(chinese, "zh")["a"]] == ["likes", "need", "budget", "bought"]
    with pytest.raises(DataError, match="Shopper u2: a value is not an amount"):
        catalog.shoppers(write(tmp_path, "b.csv", "id,budget\nu2,lots\n"), "en")
    with pytest.raises(DataError, match="'u1' occurs twice"):
        catalog.shoppers(write(tmp_path, "c.csv", "id,need\nu1,tea\nu1,tea\n"), "en")


# --- what shoppers praise and how one rated it


def one(**fields: object) -> catalog.Product:
    """A product of one row."""
    return catalog.product(Row(1, {"name": "Tarn", **fields}), catalog.guess(["name", *fields]), "en")


def test_praised_points() -> None:
    """An object of point -> shoppers, most first, or a plain list; never a fact of the product itself."""
    found = one(praised={"easy setup": 4, "smooth wheels": 210})
    assert [[str(f.value) for f in s] for s in found.reasons] == [["smooth wheels", "210"], ["easy setup", "4"]]
    assert [s.get("votes").level for s in found.reasons] == ["high", "low"]  # type: ignore[union-attr]
    assert [f.key for f in found.section] == ["name"]
    assert [[str(f.value) for f in s] for s in one(praised="easy setup; good fit").reasons] == [["easy setup"], ["good fit"]]


def test_own_ratings() -> None:
    """Aspects with stars, from an object or from text; another scale keeps its meaning."""
    found = one(own_ratings={"noise": 2, "grip": "4/5", "fit": "9/10"})
    assert [(f.label, str(f.value), f.level) for f in found.ratings][:2] == [("noise", "2", "low"), ("grip", "4", "high")]
    assert found.ratings[2].level == "high"
    assert [f.label for f in one(own_ratings="noise: 2; grip: 5").ratings] == ["noise", "grip"]


@pytest.mark.parametrize(
    ("column", "value"), [("own_ratings", "quiet"), ("own_ratings", {"noise": "loud"}), ("praised", {"x": "y"})]
)
def test_what_is_no_rating_is_withheld(column: str, value: object) -> None:
    """The product stays, the column is named."""
    found = one(**{column: value})
    assert not found.ratings and not found.reasons
    assert [name for name, _ in found.withheld] == [column]
