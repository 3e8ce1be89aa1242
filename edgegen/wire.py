"""Requests and facts as JSON and back, losslessly. Used by the corpus files and by the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from edgegen.domain import LANGS, Fact, Kind, Level, Request, Section
from edgegen.errors import DataError, UsageError

_NUMERIC = frozenset({Kind.NUMBER, Kind.COUNT, Kind.MONEY, Kind.PERCENT, Kind.DISCOUNT, Kind.RATING, Kind.ASPECT})
_MOST_DIGITS = 20  # before the point; what is longer cannot be written exactly


def fact_to_json(fact: Fact) -> dict[str, Any]:
    """A fact as a JSON object; numbers are written as strings so that no digit changes."""
    value: Any = fact.value
    if isinstance(value, Decimal):
        value = str(value)
    elif isinstance(value, date):
        value = value.isoformat()
    elif isinstance(value, tuple):
        value = list(value)
    out: dict[str, Any] = {"key": fact.key, "kind": fact.kind.value, "value": value}
    out |= {k: v for k, v in (("label", fact.label), ("level", fact.level), ("currency", fact.currency)) if v is not None}
    if fact.scale != 5:
        out["scale"] = str(fact.scale)
    return out


def fact_from_json(raw: Mapping[str, Any]) -> Fact:
    """The fact of a JSON object. Raises DataError that names the key and what is wrong."""
    key = raw.get("key")
    try:
        label, level, currency = (_text(raw, name) for name in ("label", "level", "currency"))
        kind, hint = Kind(raw["kind"]), None if level is None else Level(level)
        value, scale = _value(kind, raw["value"]), _decimal(raw.get("scale", 5))
        if not 0 < scale < Decimal("Infinity"):
            raise ValueError(f"scale is {scale}, not a number above 0")
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"Fact {key!r}: {error}. A fact has key, kind ({', '.join(Kind)}) and a value of that kind.") from None
    if not isinstance(key, str) or not key:
        raise DataError(f"A fact has no key: {dict(raw)!r}. Give it one.")
    return Fact(key, value, kind, label, hint, currency, scale)


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{name} is {value!r}, not a string")


def _value(kind: Kind, raw: Any) -> Any:
    if kind in _NUMERIC:
        return _decimal(raw)
    if kind is Kind.DATE:
        return date.fromisoformat(raw)
    if kind is Kind.LIST and isinstance(raw, list):
        return tuple(map(_item, raw))
    return raw


def _item(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} in the list is not a string")
    return raw


def _decimal(raw: Any) -> Decimal:
    try:
        found = Decimal(str(raw))
    except InvalidOperation:
        raise ValueError(f"{raw!r} is not a number") from None
    if found.is_nan() or (found.is_finite() and found.adjusted() > _MOST_DIGITS):
        raise ValueError(f"{raw!r} is not a usual number")
    return found


def request_to_json(request: Request) -> dict[str, Any]:
    """A request as a JSON object."""
    sections = [{"label": s.label, "facts": [fact_to_json(f) for f in s]} for s in request.sections]
    out: dict[str, Any] = {"task": request.task, "lang": request.lang, "sections": sections}
    return out | {"choices": list(request.choices)} if request.choices else out


def request_from_json(raw: Mapping[str, Any]) -> Request:
    """The request of a JSON object. Raises DataError or UsageError with what is wrong."""
    lang = raw.get("lang")
    if lang not in LANGS:
        raise UsageError(f"Unknown language {lang!r}. Known: {', '.join(LANGS)}.")
    try:
        sections = tuple(Section(_label(s["label"]), tuple(map(fact_from_json, s["facts"]))) for s in raw["sections"])
        return Request(str(raw["task"]), "zh" if lang == "zh" else "en", sections, tuple(raw.get("choices", ())))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"The request lacks {error}. It needs task, lang and sections with label and facts.") from None


def _label(raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise DataError(f"The label of a section is {raw!r}, not a string. Give it one, such as item.")
    return raw
