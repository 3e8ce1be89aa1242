"""Numbers as people spell them: `two thousand`, `twenty-one`, 两千, 1.2万. Pure."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from edgegen import locale
from edgegen.domain import Lang

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((1_000_000, "million"), (1000, "thousand"), (100, "hundred"))
_HAN = "零一二三四五六七八九"
_HAN_SCALES = ((10_000, "万"), (1000, "千"), (100, "百"), (10, "十"))
_MOST = 10_000_000


def english(number: int) -> str:
    """`twenty-one`, `two thousand five hundred`. `number` is from 0 to 9,999,999."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    scale, name = next(pair for pair in _SCALES if number >= pair[0])
    rest = number % scale
    return f"{english(number // scale)} {name}" + (f" {english(rest)}" if rest else "")


def chinese(number: int) -> str:
    """`二十一`, `两千五百`, `一千零五`. `number` is from 0 to 9,999,999."""
    if number < 10:
        return _HAN[number]
    scale, name = next(pair for pair in _HAN_SCALES if number >= pair[0])
    head, rest = divmod(number, scale)
    lead = "" if number < 20 else "两" if head == 2 and scale >= 1000 else chinese(head)
    gap = "零" if rest and rest * 10 < scale else ""
    return lead + name + (gap + chinese(rest) if rest else "")


@cache
def words(value: Decimal, lang: Lang) -> tuple[str, ...]:
    """Every way in which a text may spell a number out, none for what is no whole number."""
    whole = value == value.to_integral_value() and 0 <= value < _MOST
    if lang == "en":
        return _english_words(int(value)) if whole else ()
    return _chinese_words(int(value)) if whole else tuple(_digits_han(locale.plain(value)))


def _english_words(number: int) -> tuple[str, ...]:
    said = english(number)
    out = [said, said.replace("-", " ")]
    if number > 100:
        out += [text.replace(" hundred ", " hundred and ") for text in out]
    if said.startswith("one ") or number in (100, 1000):
        out += [f"a{text.removeprefix('one')}" for text in out]
    if number == 12:
        out.append("a dozen")
    return tuple(dict.fromkeys(out))


def _chinese_words(number: int) -> tuple[str, ...]:
    said = chinese(number)
    out = [said, said.replace("两", "二"), said.replace("二千", "两千").replace("二百", "两百").replace("二万", "两万")]
    if number == 2:
        out.append("两")
    for scale, name in _HAN_SCALES[:3]:
        if number >= scale and number * 10 % scale == 0:
            out.append(locale.plain(Decimal(number) / scale) + name)
    return tuple(dict.fromkeys(out))


def _digits_han(plain: str) -> list[str]:
    head, _, tail = plain.partition(".")
    if not tail or not head.isdecimal() or int(head) >= _MOST:
        return []
    return [f"{chinese(int(head))}点{''.join(_HAN[int(digit)] for digit in tail)}"]
