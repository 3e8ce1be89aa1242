"""Catalogue files, columns and cells: what is read from any of them, or the error that says what to do."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pytest

from edgegen import catalog
from edgegen.catalog import BadRow, Row
from edgegen.catalog_read import day, discount, money, number, percent, rating
from edgegen.errors import DataError, MappingError, NotFoundError, UsageError


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


# --- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '[{"name": "Tarn", "price": 5}, {"name": "Fen", "price": 6}]'),
        ("a.json", '{"total": 2, "products": [{"name": "Tarn", "price": 5}, {"name": "Fen", "price": 6}]}'),
        ("a.json", '{"name": "Tarn", "price": 5}\n{"name": "Fen", "price": 6}\n'),
        ("a.jsonl", '{"name": "Tarn", "price": 5}\n\n{"name": "Fen", "price": 6}'),
        ("a.csv", "\ufeffname,price\r\nTarn,5\r\nFen,6\r\n"),
        ("a.csv", "name;price\nTarn;5\n\nFen;6\n"),
        ("a.json", '{"products": [{"name": "Tarn", "price": 5}, {"name": "Fen", "price": 6}], "errors": [], "ids": [1]}'),
        ("a.json", '{"name": "My shop", "products": [{"name": "Tarn", "price": 5}, {"name": "Fen", "price": 6}]}'),
        ("a.tsv", "name\tprice\nTarn\t5\nFen\t6\n"),
        ("a", "name|price\nTarn|5\nFen|6"),
    ],
)
def test_formats_give_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    """Every format of the same catalogue gives the same products."""
    found = catalog.load(write(tmp_path, name, text), "en")
    assert [p.section.facts[0].value for p in found.products] == ["Tarn", "Fen"]
    assert [p.section.facts[1].value for p in found.products] == [Decimal(5), Decimal(6)]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Tarn", "price": 5}',
        '{"name": "Tarn", "price": 5, "tags": []}',
        '{"name": "Tarn", "price": 5, "reviews": [{"rating": 4}], "images": [{"src": "a"}]}',
    ],
)
def test_one_object_is_one_product(tmp_path: Path, text: str) -> None:
    """A file may hold a product without an array around it; the arrays of its own are not products."""
    (found,) = catalog.load(write(tmp_path, "a.json", text), "en").products
    assert [f.value for f in found.section] == ["Tarn", Decimal(5)]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads standard input and finds the format out."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'[{"name": "Tarn"}]')))
    assert list(catalog.read("-")) == [Row(1, {"name": "Tarn"})]


def test_broken_lines_keep_the_others(tmp_path: Path) -> None:
    """A broken line is named by file and line; the good ones stay."""
    path = write(tmp_path, "a.jsonl", '{"name": "Tarn"}\n{"name": \n[1]\n{"name": "Fen"}\n')
    rows = list(catalog.read(path))
    assert [type(row) for row in rows] == [Row, BadRow, BadRow, Row]
    assert isinstance(rows[1], BadRow)
    assert rows[1].message.startswith(f"{path}:2 is not JSON")


def test_csv_rows_with_missing_cells(tmp_path: Path) -> None:
    """A CSV row of another width is broken; a quoted line break is not."""
    path = write(tmp_path, "a.csv", 'name,price\nTarn\n"Fen\nLong",6\nIll"y,7,8\n')
    rows = list(catalog.read(path))
    assert [row.number for row in rows] == [2, 3, 5]
    assert rows[1] == Row(3, {"name": "Fen\nLong", "price": "6"})
    assert isinstance(rows[0], BadRow)
    assert rows[0].message == f"{path}:2 has 1 cells, the header has 2."


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "", "is empty"),
        ("a.json", "[]", "holds no products"),
        ("a.csv", "name,price\n", "holds no products"),
        ("a.json", '[{"name": "Tarn"},\n {"name" 3}]', ":2 is not JSON"),
        ("a.json", '{"a": [{"name": "x"}], "b": [{"name": "y"}]}', "the arrays 'a', 'b'"),
        ("a.json", '{"total": 0, "products": []}', "holds no products"),
        ("a.json", "{}", "holds no products"),
        ("a.json", '{"error": "closed"}', "No column is the product's name"),
        ("a.json", "3", "not an array"),
        ("a.json", "[" * 100_000, "not JSON|nested"),
        ("a.csv", "name,price,price\nx,1,2", "column 'price' twice"),
        ("a.csv", b"name\n\xff\xfe", ":2 is not UTF-8"),
        ("a.json", "[1, 2]", "No row of"),
        ("a.json", '[{"name": ""}]', "name is empty"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    """A file without a usable product is a DataError that says why."""
    with pytest.raises(DataError, match=message):
        catalog.load(write(tmp_path, name, text), "en")


def test_missing_file_and_unknown_format(tmp_path: Path) -> None:
    """A missing file is a NotFoundError, an unknown format or currency a UsageError."""
    with pytest.raises(NotFoundError, match="no file"):
        catalog.read(tmp_path / "none.json")
    with pytest.raises(UsageError, match="Known: json, jsonl, csv"):
        catalog.read(tmp_path / "none.json", format="xml")
    with pytest.raises(UsageError, match="Unknown currency 'QQQ'"):
        catalog.product(Row(1, {"name": "x"}), catalog.guess(["name"]), "en", "QQQ")


def test_the_same_id_twice(tmp_path: Path) -> None:
    """The second product with an id is a bad row."""
    found = catalog.load(write(tmp_path, "a.csv", "id,name\n1,Tarn\n1,Fen\n"), "en")
    assert [p.id for p in found.products] == ["1"]
    assert "'1' is taken" in found.bad[0].message


# --- columns


def test_guess_by_alias() -> None:
    """Columns are recognised by alias, in camelCase and Chinese; the key's own name wins; features may be many."""
    columns = ["title", "名称", "discountPercentage", "Feature 1", "feature 2", "售价", "材质", "odd"]
    assert catalog.guess(columns).keys == {
        "title": "name", "discountPercentage": "discount", "Feature 1": "feature", "feature 2": "feature",
        "售价": "price", "材质": "material",
    }  # fmt: skip
    assert catalog.guess(["title", "name"]).keys == {"name": "name"}


def test_overrides_win() -> None:
    """An override takes the column, whatever its name says."""
    assert catalog.guess(["title", "label"], {"name": "label"}).keys == {"label": "name"}


@pytest.mark.parametrize(
    ("columns", "overrides", "message"),
    [
        (["a"], {}, "No column is the product's name. Columns: a"),
        (["name"], {"brand": "maker"}, "Unknown column 'maker' in brand=maker. Columns: name"),
        (["name"], {"colour of it": "name"}, "Unknown fact key 'colour of it'.*Known: name, category"),
        (["name"], {"budget": "name"}, "Unknown fact key 'budget'"),
        (["x"], {"name": "x", "brand": "x"}, "one fact only"),
    ],
)
def test_mapping_errors(columns: list[str], overrides: dict[str, str], message: str) -> None:
    """A mapping that cannot be says what is known."""
    with pytest.raises(MappingError, match=message):
        catalog.guess(columns, overrides)


# --- cells


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("1,299.00", "1299.00"), ("1.299,00", "1299.00"), ("12,5", "12.5"), ("1.2万", "12000"), ("３", "3"), (0.1 + 0.2, "0.3"),
        ("1 299", "1299"), ("12\u202f345\u202f678", "12345678"), ("1\u2009299,50", "1299.50"), ("1\u00a0299.50", "1299.50"),
    ],
)  # fmt: skip
def test_numbers(raw: object, value: str) -> None:
    """Numbers as shops write them."""
    assert number(raw) == Decimal(value)


@pytest.mark.parametrize(
    "raw",
    [
        "abc",
        "",
        "1000+",
        "10-20",
        "1,2,3",
        "12 99",
        "1 2990",
        "1299 000",
        "1  299",
        True,
        None,
        [1],
        float("nan"),
        10**20,
        "9" * 40,
        "1e5",
    ],
)
def test_not_numbers(raw: object) -> None:
    """What is no plain number is refused."""
    with pytest.raises(ValueError, match="number"):
        number(raw)


@pytest.mark.parametrize(
    ("raw", "amount", "currency"),
    [
        ("$12.99", "12.99", "USD"), ("¥239", "239", "CNY"), ("￥1,299", "1299", "CNY"), ("239元", "239", "CNY"),
        ("EUR 5", "5", "EUR"), ("12,50 €", "12.50", "EUR"), ("€1 299", "1299", "EUR"), ("12\u202f990,50 €", "12990.50", "EUR"),
        (12, "12", "GBP"),
        ("1.299 KWD", "1.299", "KWD"), ({"amount": "5", "currency": "JPY"}, "5", "JPY"),
    ],
)  # fmt: skip
def test_money(raw: object, amount: str, currency: str) -> None:
    """An amount carries its own currency, or gets the shop's."""
    assert money(raw, "GBP") == (Decimal(amount), currency)


def test_shared_signs_follow_the_shop() -> None:
    """`$` in a Canadian shop and `¥` in a Japanese one are their own."""
    assert money("$5", "CAD")[1] == "CAD"
    assert money("¥500", "JPY")[1] == "JPY"


@pytest.mark.parametrize("raw", ["abc", "$10 - $20", "from $5", "12 zz", 0, "-5", {}, None, "$5 €", "239起"])
def test_not_money(raw: object) -> None:
    """A range, a sum of two currencies or a text is no amount."""
    with pytest.raises(ValueError, match=r"is not|names two"):
        money(raw, "USD")


@pytest.mark.parametrize(
    ("raw", "currency"), [("1.299", "USD"), ("€ 1.299", "GBP"), (1.299, "USD"), ("1.290", "CNY"), ("9.500", "JPY")]
)
def test_three_decimals_are_no_amount(raw: object, currency: str) -> None:
    """In a currency that has fewer they may as well be thousands."""
    with pytest.raises(ValueError, match="can mean"):
        money(raw, currency)
    assert money(19.990000000000002, "USD")[0] == Decimal("19.99")


@pytest.mark.parametrize(
    ("raw", "column", "value"),
    [
        ("15%", "d", "15"),
        (15, "d", "15"),
        ("15% off", "d", "15"),
        (0.82, "discountPercentage", "0.82"),
        ("0.15", "discount ratio", "15"),
    ],
)
def test_percent(raw: object, column: str, value: str) -> None:
    """Percent as shops write it."""
    assert percent(raw, column) == Decimal(value)


def test_percent_in_doubt() -> None:
    """0.15 in a column that does not say what it is can mean two things."""
    with pytest.raises(ValueError, match="write it with %"):
        percent(0.15, "discount")


@pytest.mark.parametrize(("raw", "value"), [("-15%", "15"), ("8.5折", "15"), ("85折", "15"), ("9折", "10"), (12.5, "12.5")])
def test_discount(raw: object, value: str) -> None:
    """Discounts, the Chinese way too."""
    assert discount(raw, "discount") == Decimal(value)


@pytest.mark.parametrize(
    ("raw", "value", "scale"), [(4.5, "4.5", 5), ("4.5/5", "4.5", 5), ("9 out of 10", "9", 10), ("4.8分", "4.8", 5)]
)
def test_rating(raw: object, value: str, scale: int) -> None:
    """A rating says its scale or has five stars."""
    assert rating(raw) == (Decimal(value), Decimal(scale))


@pytest.mark.parametrize(
    "raw",
    [
        "2026-11-24",
        "2026/11/24",
        "2026-11-24T08:00:00Z",
        "24.11.2026",
        "11/24/2026",
        "24 Nov 2026",
        "November 24, 2026",
        "2026年11月24日",
    ],
)
def test_days(raw: str) -> None:
    """Dates as shops write them."""
    assert day(raw).isoformat() == "2026-11-24"


@pytest.mark.parametrize("raw", ["03/04/2026", "2026-13-01", "soon", "", 5, "32 Nov 2026"])
def test_not_days(raw: object) -> None:
    """A date that can be read in two ways is none."""
    with pytest.raises(ValueError, match="write 2026-11-24"):
        day(raw)
