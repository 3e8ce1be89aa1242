"""What stands in a retailer's file: its rows, and what a cell means as a number, an amount, a date.

Reads JSON, JSONL and CSV. Knows of fact keys only that a product has a name: which column is which fact is
`edgegen.catalog`'s business. The parsers of cells raise ValueError with the reason a person reads ("is not a number").
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from babel.numbers import get_currency_precision, is_currency

from edgegen import schema
from edgegen.errors import DataError, NotFoundError, UsageError

FORMATS = ("json", "jsonl", "csv")
_SUFFIXES = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
_CONTAINERS = frozenset(
    {"attributes", "specs", "specifications", "properties", "features", "evidence", "属性", "参数", "推荐依据"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """One product as the file has it: `number` is its line (its place from 1 in a JSON array)."""

    number: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    number: int
    message: str


def read(path: str | Path, format: str | None = None) -> Iterator[Row | BadRow]:  # noqa: A002 - the option's name
    """The rows of a catalogue; `-` reads standard input. `format` is guessed from the file where it is None.

    A broken row comes as a BadRow and does not stop the others. Raises NotFoundError for a missing file, DataError for
    an empty or unreadable one.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"Unknown catalogue format {format!r}. Known: {', '.join(FORMATS)}.")
    name, text = _text(path)
    if not text.strip():
        raise DataError(f"{name} is empty. Give a JSON array, JSONL or CSV with one product a row.")
    rows = {"json": _json, "jsonl": _jsonl, "csv": _csv}[format or _guess(name, text)](name, text)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} holds no products. Give at least one row.")
    return chain([first], rows)


def _text(path: str | Path) -> tuple[str, str]:
    name = "standard input" if str(path) == "-" else str(path)
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        return name, raw.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"There is no file {name}. Check the path.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{name}:{line} is not UTF-8. Save the file as UTF-8 (in Excel: CSV UTF-8).") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read: {error}. Give a readable file.") from None


def _guess(name: str, text: str) -> str:
    """The format, by the file's name; what is called .json but has an object a line is JSONL."""
    by_name = _SUFFIXES.get(Path(name).suffix.lower())
    start = text.lstrip()
    if by_name in ("jsonl", "csv"):
        return by_name
    if start.startswith("{") and _is_object(start.split("\n", 1)[0]) and start.strip().count("\n"):
        return "jsonl"
    return by_name or ("json" if start[0] in "[{" else "csv")


def _is_object(line: str) -> bool:
    try:
        return isinstance(_loads(line), dict)
    except ValueError:
        return False


def _loads(text: str) -> Any:
    """JSON with exact decimals; NaN and infinities, which are no JSON, count as empty."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _json(name: str, text: str) -> Iterator[Row | BadRow]:
    try:
        data = _loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}:{error.lineno} is not JSON: {error.msg}. Correct it, or give JSONL or CSV.") from None
    except ValueError as error:
        raise DataError(f"{name} cannot be read as JSON: {error}.") from None
    if isinstance(data, dict):
        data = _products(name, data)
    if not isinstance(data, list):
        raise DataError(f"{name} holds {type(data).__name__}, not an array of products.")
    for number, item in enumerate(data, 1):
        yield _row(number, item, f"{name}, product {number}")


def _products(name: str, data: dict[str, Any]) -> list[Any]:
    """The array of products inside an object; an object that has a name, unlike what its arrays hold, is one product."""
    arrays = {k: v for k, v in data.items() if isinstance(v, list) and any(isinstance(x, dict) for x in v)}
    if _named(data) and not any(isinstance(x, dict) and _named(x) for v in arrays.values() for x in v):
        return [data]
    if len(arrays) > 1:
        found = f"{name} holds the arrays {', '.join(map(repr, arrays))}"
        raise DataError(f'{found}. Give an array of products, or one inside an object: {{"products": [...]}}.')
    if arrays:
        return next(iter(arrays.values()))
    return [data] if data and [] not in data.values() else []


def _named(item: Mapping[str, Any]) -> bool:
    return any(schema.alias_table().get(schema.fold(key)) == "name" and isinstance(value, str) for key, value in item.items())


def _jsonl(name: str, text: str) -> Iterator[Row | BadRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                item = _loads(line)
            except ValueError as error:
                yield BadRow(number, f"{name}:{number} is not JSON: {getattr(error, 'msg', error)}.")
            else:
                yield _row(number, item, f"{name}:{number}")


def _row(number: int, item: Any, where: str) -> Row | BadRow:
    if not isinstance(item, dict) or not item:
        return BadRow(number, f"{where} is not an object with fields.")
    fields: dict[str, Any] = {k: v for k, v in item.items() if not _nested(k, v)}
    for key, value in item.items():
        if _nested(key, value):
            fields = {**value, **fields}
    return Row(number, fields)


def _nested(key: str, value: Any) -> bool:
    return key.casefold() in _CONTAINERS and isinstance(value, dict)


def _csv(name: str, text: str) -> Iterator[Row | BadRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(number, f"{name}:{number} is not CSV: {error}.")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(name, cells)
        elif len(cells) != len(header):
            yield BadRow(number, f"{name}:{number} has {len(cells)} cells, the header has {len(header)}.")
        else:
            yield Row(number, {column: cell for column, cell in zip(header, cells, strict=True) if column})


def _header(name: str, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = sorted({c for c in header if c and header.count(c) > 1})
    if twice:
        raise DataError(f"{name} has the column {', '.join(map(repr, twice))} twice. Rename one of them.")
    return header


def _delimiter(text: str) -> str:
    """The sniffed delimiter; a comma where the sniffer finds none or one that the header line lacks."""
    sample = text[:4096]
    try:
        found = csv.Sniffer().sniff(sample, delimiters=",;\t|").delimiter
    except csv.Error:
        found = ","
    header = sample.lstrip().split("\n", 1)[0]
    return found if found in header else max(",;\t|", key=header.count)


# --- cells

_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_SPACED = re.compile(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+(?:[.,][0-9]+)?")  # NFKC makes thin and no-break spaces plain ones
_EUROPEAN = re.compile(r"[-+]?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),[0-9]{1,2}")
_PLAIN = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
_MONEY = re.compile(r"([^\d\s.,+-]{0,4})\s*([0-9](?:[0-9., ]*[0-9])?)\s*([^\d\s.,+-]{0,4})")
_RATING = re.compile(r"([0-9.]+)\s*(?:(?:/|out of|of)\s*([0-9]+)|分|stars?|★)?", re.IGNORECASE)
_SYMBOLS = {
    "$": "USD", "US$": "USD", "¥": "CNY", "元": "CNY", "RMB": "CNY", "人民币": "CNY", "€": "EUR", "£": "GBP", "HK$": "HKD",
    "C$": "CAD", "A$": "AUD", "₹": "INR", "₩": "KRW", "美元": "USD", "欧元": "EUR", "日元": "JPY", "港元": "HKD",
}  # fmt: skip
_SHARED = {"$": ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN"), "¥": ("CNY", "JPY")}
_TRUE = frozenset({"true", "yes", "是", "有", "支持", "✓", "✔", "√"})
_FALSE = frozenset({"false", "no", "否", "无", "没有", "不支持", "✗", "✘"})
_DATE = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})(?:日|[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?")
_DAY_FIRST = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED_DATE = re.compile(r"(?:(\d{1,2})\.? )?([A-Za-z]{3,9})\.?(?: (\d{1,2}))?,? (\d{4})")
_DROPPED = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff]")


class WrongTypeError(ValueError):
    """A cell of a type that cannot hold what its column is of: a list as a price, an object as a date."""


def clean(text: str) -> str:
    """A text on one line without control characters, lone surrogates and direction marks."""
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))
    return " ".join(_DROPPED.sub("", unicodedata.normalize("NFC", text)).split())


def number(value: object) -> Decimal:
    """`12.99`, `1,299.00`, `1.299,00`, `1 299,00` with any space, `1.2万` as a decimal."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        found = Decimal(value)
    elif isinstance(value, float):
        found = Decimal(repr(value))
    elif isinstance(value, str):
        found = _number_text(unicodedata.normalize("NFKC", value).strip())
    else:
        raise WrongTypeError("is not a number")
    if not found.is_finite() or (found and not -7 < found.adjusted() < 13):
        raise ValueError("is not a usual number")
    return round(found, 6) if int(found.as_tuple().exponent) < -6 else found


def _number_text(text: str) -> Decimal:
    factor = {"万": 10_000, "k": 1000, "K": 1000}.get(text[-1:], 1)
    text = text[:-1].strip() if factor > 1 else text
    if len(text) > 30:
        raise ValueError("is not a usual number")
    if _GROUPED.fullmatch(text):
        return Decimal(text.replace(",", "")) * factor
    if _SPACED.fullmatch(text):
        return Decimal(text.replace(" ", "").replace(",", ".")) * factor
    if _EUROPEAN.fullmatch(text):
        return Decimal(text.replace(".", "").replace(",", ".")) * factor
    if _PLAIN.fullmatch(text):
        return Decimal(text) * factor
    raise ValueError("is not a number")


def count(value: object) -> Decimal:
    """A whole number from 0."""
    if isinstance(value, list):
        raise ValueError("is a list and not a count")
    found = number(value)
    if found < 0 or found != found.to_integral_value():
        raise ValueError("is not a count")
    return found.quantize(Decimal(1))


def money(value: object, currency: str) -> tuple[Decimal, str]:
    """An amount above 0 and its currency: `$12.99`, `239元`, `EUR 5`, `{"amount": 5, "currency": "EUR"}`."""
    if isinstance(value, Mapping):
        code = str(value.get("currency") or currency).upper()
        amount = next((value[k] for k in ("amount", "value", "price") if k in value), None)
        return money(amount, code if is_currency(code) else currency)
    if isinstance(value, str):
        match = _MONEY.fullmatch(unicodedata.normalize("NFKC", value).strip())
        if not match:
            raise ValueError("is not an amount of money")
        codes = {_currency(sign, currency) for sign in (match[1], match[3]) if sign}
        if len(codes) > 1:
            raise ValueError("names two currencies")
        value, currency = match[2], next(iter(codes), currency)
    found = number(value)
    if found <= 0:
        raise ValueError("is not above zero")
    _check_decimals(value, found, currency)
    return found, currency


def _check_decimals(value: object, amount: Decimal, currency: str) -> None:
    """Three decimals where a currency has fewer may as well be thousands, as `1.299` in half of Europe."""
    said = _number_text(value.strip()) if isinstance(value, str) and value.strip()[-1:].isdigit() else amount.normalize()
    if int(said.as_tuple().exponent) == -3 and get_currency_precision(currency) < 3:
        raise ValueError(f"can mean {amount} or {amount * 1000:,.0f} {currency}: write it with two decimals or none")


def _currency(sign: str, default: str) -> str:
    if default in _SHARED.get(sign, ()):
        return default
    code = _SYMBOLS.get(sign, sign.upper())
    if not is_currency(code):
        raise ValueError("is not an amount of money")
    return code


def percent(value: object, column: str) -> Decimal:
    """`15%`, `15`, `15% off`. A bare number below 1 is taken at its word only where the column's name says what it is."""
    if isinstance(value, str) and (match := re.fullmatch(r"([\d.,]+)\s*[%％](?:\s*off)?", value.strip(), re.IGNORECASE)):
        found = number(match[1])
    else:
        found, name = number(value), column.casefold()
        if any(word in name for word in ("share", "ratio", "fraction", "率")) and 0 < found <= 1:
            found *= 100
        elif 0 < found < 1 and "percent" not in name and "%" not in name and "百分" not in name:
            raise ValueError(f"can mean {found}% or {found * 100}%: write it with %")
    if not 0 <= found <= 100:
        raise ValueError("is not between 0 and 100 percent")
    return found.normalize() + 0 if found else found


def discount(value: object, column: str) -> Decimal:
    """Percent off: `15%`, `-15%`, `8.5折`, `85折`."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d(?:\.\d)?|\d\d)\s*折", value.strip())):
        share = Decimal(match[1])
        found = 100 - (share if share > 10 else share * 10)
    else:
        found = percent(value.strip().lstrip("-−") if isinstance(value, str) else value, column)
    if not 0 < found < 100:
        raise ValueError("is no discount")
    return found


def rating(value: object) -> tuple[Decimal, Decimal]:
    """A rating and its scale: `4.5`, `4.5/5`, `9 out of 10`, `4.8分`. The scale is 5 where none is written."""
    scale = Decimal(5)
    if isinstance(value, str) and (match := _RATING.fullmatch(unicodedata.normalize("NFKC", value).strip())):
        value, scale = match[1], number(match[2] or "5")
    found = number(value)
    if not 0 < found <= scale:
        raise ValueError(f"is not a rating from 0 to {scale}; write 8.6/10 where the scale is another")
    return found, scale


def boolean(value: object) -> bool | None:
    """Yes or no, or None where the cell is neither."""
    if isinstance(value, bool):
        return value
    word = value.strip().casefold() if isinstance(value, str) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def day(value: object) -> date:
    """`2026-11-24` (a time may follow), `2026年11月24日`, `24 Nov 2026`, `November 24, 2026`, `24.11.2026`."""
    if not isinstance(value, str):
        raise WrongTypeError("is not a date; write 2026-11-24")
    text = clean(value)
    try:
        if match := _DATE.fullmatch(text):
            return date(int(match[1]), int(match[2]), int(match[3]))
        if match := _DAY_FIRST.fullmatch(text):
            return _day_first(*map(int, match.groups()))
        match = _NAMED_DATE.fullmatch(text)
        if match and (match[1] or match[3]) and match[2].lower()[:3] in _MONTHS:
            return date(int(match[4]), _MONTHS.index(match[2].lower()[:3]) + 1, int(match[1] or match[3]))
        return datetime.fromisoformat(text).date()
    except ValueError as error:
        raise ValueError(str(error) if "can mean" in str(error) else "is not a date; write 2026-11-24") from None


def _day_first(first: int, second: int, year: int) -> date:
    if first <= 12 and second <= 12 and first != second:
        raise ValueError("can mean two dates; write 2026-11-24")
    return date(year, second, first) if second <= 12 else date(year, first, second)
