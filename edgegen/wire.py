"""Requests and facts as JSON and back, losslessly. Used by the corpus files and by the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from edgegen.domain import LANGS, Fact, Kind, Level, Request, Section
from edgegen.errors import DataError, UsageError

_NUMERIC = frozenset({Kind.NUMBER, Kind.COUNT, Kind.MONEY, Kind.PERCENT, Kind.DISCOUNT, Kind.RATING, Kind.ASPECT})


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
        kind, level = Kind(raw["kind"]), Level(raw["level"]) if raw.get("level") else None
        value = _value(kind, raw["value"])
        scale = Decimal(str(raw.get("scale", 5)))
    except (KeyError, ValueError, TypeError, InvalidOperation) as error:
        raise DataError(f"Fact {key!r}: {error}. A fact has key, kind ({', '.join(Kind)}) and a value of that kind.") from None
    if not isinstance(key, str) or not key:
        raise DataError(f"A fact has no key: {dict(raw)!r}. Give it one.")
    return Fact(key, value, kind, raw.get("label"), level, raw.get("currency"), scale)


def _value(kind: Kind, raw: Any) -> Any:
    if kind in _NUMERIC:
        if isinstance(raw, bool):
            raise ValueError(f"{raw!r} is not a number")
        return Decimal(str(raw))
    if kind is Kind.DATE:
        return date.fromisoformat(raw)
    return tuple(raw) if kind is Kind.LIST and isinstance(raw, list) else raw


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
        sections = tuple(Section(s["label"], tuple(map(fact_from_json, s["facts"]))) for s in raw["sections"])
        return Request(str(raw["task"]), "zh" if lang == "zh" else "en", sections, tuple(raw.get("choices", ())))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"The request lacks {error}. It needs task, lang and sections with label and facts.") from None
