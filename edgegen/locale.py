"""How values are written in each language: numbers, money, percent, dates, lists. Knows no fact keys and no model."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from babel.dates import format_date
from babel.lists import format_list
from babel.numbers import format_decimal, get_currency_symbol

from edgegen.domain import Fact, Kind, Lang

_TEN_THOUSAND = Decimal(10_000)
# "an" before a vowel letter, and before the digits that are spoken with one: 8, 11, 18, 80...
_AN = re.compile(r"(?!(?:uni(?!n)|use|usb|eu|one\b|once\b))[aeiou]|hour|honest|heir|8|1[18](?!\d)", re.IGNORECASE)
_LONE_CONSONANT = re.compile(r"[FHLMNRSX](?:[A-Z\d\W]|$)")


def number(value: Decimal, lang: Lang) -> str:
    """A plain number with grouping: `1,234.5`; in Chinese exact tens of thousands become `1.2万`."""
    if lang == "zh" and abs(value) >= _TEN_THOUSAND and value % 1000 == 0:
        return f"{plain(value / _TEN_THOUSAND)}万"
    return format_decimal(value, format="#,##0.######", locale="en")


def plain(value: Decimal) -> str:
    """A number without grouping, exponent or trailing zeros."""
    return format_decimal(value, format="0.######", locale="en")


def money(value: Decimal, currency: str | None) -> str:
    """An amount: `¥239`, `$12.50`, `$1.995`, `-$3`; never rounded within six decimals. No currency gives the bare number."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole = value == value.to_integral_value()
    amount = format_decimal(value, format="#,##0" if whole else "#,##0.00####", locale="en", decimal_quantization=not whole)
    if currency is None:
        return sign + amount
    symbol = "¥" if currency == "CNY" else get_currency_symbol(currency, "en_US")
    gap = " " if symbol.isalpha() else ""
    return f"{sign}{symbol}{gap}{amount}"


def discount(value: Decimal, lang: Lang) -> str:
    """A discount: `15%` (the text adds "off"); in Chinese `8.5折`."""
    return f"{plain((100 - value) / 10)}折" if lang == "zh" else f"{plain(value)}%"


def stars(value: Decimal, scale: Decimal, lang: Lang) -> str:
    """A rating: `4.8 out of 5`, `4.8分`, and `8.6分（满分10分）` where the scale is unusual."""
    if lang == "en":
        return f"{plain(value)} out of {plain(scale)}"
    return f"{plain(value)}分" if scale == 5 else f"{plain(value)}分（满分{plain(scale)}分）"


def day(value: date, lang: Lang) -> str:
    """A date: `November 24, 2026`, `2026年11月24日`."""
    return format_date(value, "long", locale="zh_CN" if lang == "zh" else "en_US")


def series(values: tuple[str, ...], lang: Lang) -> str:
    """A list: `a, b, and c`, `a、b和c`."""
    return format_list(list(values), locale="zh_CN" if lang == "zh" else "en_US")


def value_text(fact: Fact, lang: Lang) -> str:
    """The text that stands for a fact's value in a sentence."""
    value = fact.value
    if isinstance(value, bool):
        return {("en", True): "yes", ("en", False): "no", ("zh", True): "是", ("zh", False): "否"}[lang, value]
    if isinstance(value, Decimal):
        return _decimal_text(fact, value, lang)
    if isinstance(value, date):
        return day(value, lang)
    return series(value, lang) if isinstance(value, tuple) else value


def _decimal_text(fact: Fact, value: Decimal, lang: Lang) -> str:
    match fact.kind:
        case Kind.MONEY:
            return money(value, fact.currency)
        case Kind.PERCENT:
            return f"{plain(value)}%"
        case Kind.DISCOUNT:
            return discount(value, lang)
        case Kind.RATING | Kind.ASPECT:
            return stars(value, fact.scale, lang)
        case _:
            return number(value, lang)


def article(word: str) -> str:
    """`a` or `an`, by the sound that `word` begins with."""
    return "an" if _AN.match(word) or _LONE_CONSONANT.match(word) else "a"
