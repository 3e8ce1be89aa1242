"""How a fact's value may stand in a text: inflected, formatted another way, spelled out. Pure; knows no pair.

A form is a regular expression whose group `v` is what the slot takes the place of; an ending (`usb ports`) stays where it is.
Strong forms are the value beyond doubt; weak ones (a lone letter, a number without its unit) only beside words that name the
fact, and the first of them that is found counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache

from babel.dates import format_date

from edgegen import locale, schema
from edgegen.domain import Fact, Kind, Lang
from edgegen.slots import Slot, label_of
from edgegen.train.prepare import spelled

_UNITS = (
    ("dollars?", "usd", "bucks"), ("euros?", "eur"), ("pounds?", "gbp"), ("元", "块钱?", "圆", "rmb", "人民币"),
    ("inch(?:es)?", "in", "[\"″”]", "''", "英寸", "寸"), ("watts?", "w", "瓦"), ("hours?", "hrs?", "h", "小时"),
    ("gigabytes?", "gb", "g"), ("megabytes?", "mb"), ("terabytes?", "tb"), ("grams?", "g", "克"),
    ("kilograms?", "kilos?", "kgs?", "公斤", "千克"),
    ("pounds?", "lbs?"), ("ounces?", "oz"), ("millilit(?:er|re)s?", "ml", "毫升"),
    ("lit(?:er|re)s?", "l", "升"), ("centimet(?:er|re)s?", "cm", "厘米"), ("millimet(?:er|re)s?", "mm", "毫米"),
    ("met(?:er|re)s?", "m", "米"), ("feet|foot", "ft"),
    ("months?", "个月"), ("years?", "yrs?", "年"), ("days?", "天"), ("minutes?", "mins?", "分钟"), ("percent|per cent", "%"),
)  # fmt: skip
_SYMBOLS = {"dollars?": r"(?:us)?\$", "euros?": "€", "pounds?": "£", "元": "[¥￥]"}
_CURRENCIES = {"USD": "dollars?", "EUR": "euros?", "GBP": "pounds?", "CNY": "元"}
_MEASURE = re.compile(r"(\d[\d.,]*)\s*-?\s*([^\d\s].*)?")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
_SMALL = frozenset(["a", "an", "the", "and", "with", "of", "in", "on", ",", "-"])
_BETWEEN = r"(?:[\s,-]|\b(?:a|an|the|and|with|of|in|on)\b)+"
_LINKS = r"(?:\s*(?:of|is|are|as|an?|the|at|being|:|=|level|grade|size|class|score|for|in)\b)*\s+"
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_NAME_WITH_NUMBER = re.compile(r"([^\W\d_]{4,})[ -]\d+")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a value."""

    regex: re.Pattern[str]
    weak: bool = False


def of(slot: Slot, lang: Lang) -> tuple[Form, ...]:
    """The forms of what a slot stands for, weak ones last."""
    return _forms(slot.text, slot.fact, slot.part, lang)


@lru_cache(maxsize=4096)
def _forms(text: str, fact: Fact, part: str, lang: Lang) -> tuple[Form, ...]:
    if part == "digits":
        return (_number_form(re.escape(text)),)
    if part == "label" or fact.kind in (Kind.TEXT, Kind.PHRASE, Kind.LIST, Kind.ASPECT):
        return tuple(_words(text, fact, part, lang))
    return tuple(_numeric(text, fact, lang))


def _form(source: str, weak: bool = False) -> Form:
    return Form(re.compile(source, re.IGNORECASE), weak)


def _number_form(source: str) -> Form:
    return _form(rf"(?<![^\W_㐀-鿿])(?<!\d[.,])(?P<v>{source})(?![^\W_㐀-鿿]|[.,]\d)")


def _edged(source: str, lang: Lang, ending: str = "") -> Form:
    """Between word boundaries where the language has them; an ending may follow."""
    if lang == "zh":
        return _form(rf"(?<![a-z0-9])(?P<v>{source})(?![a-z0-9])" if source[-1].isascii() else rf"(?P<v>{source})")
    return _form(rf"(?<!\w)(?P<v>{source}){ending}(?!\w)")


# --- words


def _words(text: str, fact: Fact, part: str, lang: Lang) -> Iterator[Form]:
    if lang == "zh" and len(text) == 1 and _HAN.match(text):
        yield _form(rf"(?P<v>{text})(?=子)")  # 裤 in 裤子, not in 裤腿
        return
    tokens = _TOKEN.findall(text)
    if lang == "en" and len(text) == 1:
        yield from _beside(text, fact, lang)
        return
    ending = "(?:s|es|ly)?" if text[-1:].isalpha() and not (part == "value" and fact.kind is Kind.TEXT) else ""
    end = "" if text[-1:].isalnum() else r"(?![+\w])"
    yield _edged(r"[\s-]*".join(map(re.escape, tokens)) + end, lang, ending)
    if fact.kind is Kind.FLAG:
        yield from _flag(tokens, lang)
    if lang == "en":
        yield from _bent(text, tokens, fact, part)
    if len(text) <= 2:
        yield from _beside(re.escape(text), fact, lang)


def _flag(tokens: list[str], lang: Lang) -> Iterator[Form]:
    """A column's name in place of words (`has_usb_port`); in English the first word alone, where no other goes with it."""
    yield _form(rf"(?<!\w)(?P<v>(?:(?:has|is)_+)?{'_+'.join(map(re.escape, tokens))})(?!\w)")
    if lang == "en" and len(tokens) > 1 and len(tokens[0]) > 2:
        yield _form(rf"(?<![\w-])(?P<v>{re.escape(tokens[0])})(?=\s*(?:[.,;?!]|and\b|or\b|but\b|if\b|$))", weak=True)


def _bent(text: str, tokens: list[str], fact: Fact, part: str) -> Iterator[Form]:
    """English: with other small words between, a name without its number."""
    large = [token for token in tokens if token.casefold() not in _SMALL]
    if len(large) > 1 and len(tokens) > 2:
        yield _edged(_BETWEEN.join(map(re.escape, large)), "en", "(?:s|es)?")
    if part == "value" and fact.kind is Kind.TEXT and (match := _NAME_WITH_NUMBER.fullmatch(text)):
        yield _edged(re.escape(match[1]), "en")


# --- numbers


def _numeric(text: str, fact: Fact, lang: Lang) -> Iterator[Form]:
    if isinstance(fact.value, date):
        yield from map(_number_form, _dates(fact.value, lang))
        return
    if isinstance(fact.value, Decimal):
        yield from _amounts(fact, fact.value, lang)
        return
    yield _edged(r"[\s-]*".join(map(re.escape, _TOKEN.findall(text))), lang)
    match = _MEASURE.fullmatch(text)
    value = match and _decimal(match[1])
    if not match or value is None or any(c.isdecimal() for c in match[2] or ""):
        return
    unit = _unit(match[2] or "", lang)
    yield from _with_unit(_number(value, lang), unit)
    yield from _beside(_number(value, lang), fact, lang)


def _amounts(fact: Fact, value: Decimal, lang: Lang) -> Iterator[Form]:
    said = _number(value, lang)
    match fact.kind:
        case Kind.MONEY:
            unit = _CURRENCIES.get(fact.currency or "")
            if unit:
                yield from _with_unit(said, next(group for group in _UNITS if group[0] == unit))
        case Kind.PERCENT:
            yield from _with_unit(said, _UNITS[-1])
            yield _form(rf"(?P<v>百分之{said})")
        case Kind.DISCOUNT:
            tenths = (100 - value) / 10
            yield from _with_unit(said, _UNITS[-1])
            yield _number_form(
                rf"(?:{_number(tenths, lang)}|{_han_digits(locale.plain(100 - value))}|{locale.plain(100 - value)})\s?折"
            )
        case Kind.RATING | Kind.ASPECT:
            scale = _number(fact.scale, lang)
            yield _number_form(rf"{said}\s*(?:out\s+of|of|/)\s*{scale}(?:\s*(?:stars?|points?))?")
            yield _number_form(rf"{said}\s*(?:分|星)(?:\s*[（(]满分\s*{scale}\s*分?[)）])?")
            yield _form(rf"(?<![\w.])(?P<v>{said}[\s-]stars?)(?!\w)")
        case _:
            yield _number_form(said)
            return
    yield from _beside(said, fact, lang)


def _number(value: Decimal, lang: Lang) -> str:
    """Every way of writing a number, as one group."""
    plain = locale.plain(value)
    zeros = r"0*" if "." in plain else r"(?:\.0+)?"
    said = [re.escape(locale.number(value, "en")) + zeros, re.escape(plain) + zeros, *map(_spelled, spelled.words(value, lang))]
    if lang == "zh":
        said.append(re.escape(locale.number(value, "zh")))
    elif value >= 1000 and value % 100 == 0:
        said.append(re.escape(locale.plain(value / 1000)) + "k")
    return f"(?:{'|'.join(dict.fromkeys(said))})"


def _spelled(words: str) -> str:
    return re.escape(words).replace(r"\ ", r"[\s-]+")


def _with_unit(number: str, unit: tuple[str, ...]) -> Iterator[Form]:
    if not unit:
        return
    yield _number_form(rf"{number}\s*-?\s*(?:{'|'.join(unit)})")
    if symbol := _SYMBOLS.get(unit[0]):
        yield _form(rf"(?<![a-z0-9])(?P<v>{symbol}\s?{number}(?:\s*(?:{'|'.join(unit)}))?)(?![\w]|[.,]\d)")


def _unit(text: str, lang: Lang) -> tuple[str, ...]:
    """The ways of writing a unit; one that the table lacks may have a plural's s."""
    known = next((group for group in _UNITS if any(re.fullmatch(form, text, re.IGNORECASE) for form in group)), None)
    if known or not text:
        return known or ()
    return (r"[\s-]*".join(map(re.escape, _TOKEN.findall(text))) + ("s?" if lang == "en" and text[-1].isalpha() else ""),)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "").rstrip("."))
    except ArithmeticError:
        return None


def _han_digits(plain: str) -> str:
    return "".join("零一二三四五六七八九"[int(c)] for c in plain if c.isdecimal())


def _dates(value: date, lang: Lang) -> Iterator[str]:
    for place in ("en_US", "en_GB"):
        for style in ("long", "medium"):
            yield re.escape(format_date(value, style, locale=place)).replace(",", ",?").replace(r"\ 0", r"\ ?0?")
    yield rf"{value.year}[-/.]0?{value.month}[-/.]0?{value.day}"
    yield rf"{value.year}\s?年\s?0?{value.month}\s?月\s?0?{value.day}\s?[日号]"
    if lang == "en":
        yield re.escape(format_date(value, "MMMM d", locale="en_US")) + r"(?:st|nd|rd|th)?,?\s+" + str(value.year)


# --- weak forms


def _beside(source: str, fact: Fact, lang: Lang) -> Iterator[Form]:
    """The value beside words that name the fact."""
    label = _label(fact, lang)
    if not label:
        return
    if lang == "zh":
        yield _form(rf"(?:{label})[为是：:约仅只要有\s]{{0,3}}(?P<v>{source})(?![\d.])", weak=True)
        yield _form(rf"(?<![\d.])(?P<v>{source})[的个款\s]{{0,2}}(?:{label})", weak=True)
        return
    yield _form(rf"\ban?\s+['\"]*(?P<v>{source})['\"]*[\s-]+(?:{label})", weak=True)
    yield _form(rf"(?<!\w)(?:{label}){_LINKS}['\"]*(?P<v>{source})(?![\w+]|[.,]\d)", weak=True)
    yield _form(rf"(?<![\w.,])(?P<v>{source})[\s-]+(?:{label})", weak=True)


@lru_cache(maxsize=1024)
def _label(fact: Fact, lang: Lang) -> str:
    """The words that name a fact, as alternatives, with and without an s; joined ones too."""
    known = schema.known().get(fact.key)
    text = (label_of(fact) or "") if known is None else known.label(lang)
    if lang == "zh":
        return "|".join(re.escape(word) for word in (text, *(known.aliases if known else ())) if _HAN.search(word))
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if len(word) > 2]
    joined = ["".join(words)] if len(words) > 1 else []
    return "|".join(re.escape(word) + "(?:s|es)?(?![a-z])" for word in dict.fromkeys([*joined, *words]))
