"""Checks a JSON value by `data/manifest.schema.json`: the schema is the one list of what a manifest holds.

Knows the part of JSON Schema (draft 2020-12) that the file uses, and refuses to pass over any other keyword.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

_KINDS = {"object": dict, "array": list, "string": str, "integer": int}
_SAID = frozenset({"$schema", "$defs", "title", "description"})
_LENGTHS: dict[str, type[Any]] = {"minItems": list, "maxItems": list, "maxProperties": dict}
_NUMBERS = frozenset({"minimum", "maximum"})
_SHOWN = 60


class Mismatch(ValueError):
    """What is wrong, and where."""


@cache
def manifest_schema() -> dict[str, Any]:
    """The schema of manifests."""
    schema: dict[str, Any] = json.loads(files("edgegen").joinpath("data/manifest.schema.json").read_text("utf-8"))
    return schema


def check(value: object, schema: dict[str, Any], where: str = "", root: dict[str, Any] | None = None) -> None:
    """Raise Mismatch where a value is not what the schema says."""
    root = schema if root is None else root
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    for keyword, wanted in schema.items():
        if not _holds(keyword, wanted, value):
            raise Mismatch(f"{where or 'it'} is {_shown(value)}, not {schema['description']}")
    if isinstance(value, dict):
        _check_object(value, schema, where, root)
    if isinstance(value, list):
        for at, item in enumerate(value):
            check(item, schema.get("items", {}), f"{where}[{at}]", root)


def _holds(keyword: str, wanted: Any, value: Any) -> bool:
    """Whether a value satisfies one keyword that looks at the value alone."""
    if keyword == "type":
        return isinstance(value, _KINDS[wanted]) and not isinstance(value, bool)
    if keyword == "pattern":
        return not isinstance(value, str) or re.fullmatch(wanted.removeprefix("^").removesuffix("$"), value) is not None
    if keyword in _NUMBERS:
        return not isinstance(value, int) or (value >= wanted if keyword == "minimum" else value <= wanted)
    if keyword in _LENGTHS:
        if not isinstance(value, _LENGTHS[keyword]):
            return True
        return bool(len(value) >= wanted if keyword.startswith("min") else len(value) <= wanted)
    if keyword in _SAID or keyword in ("required", "properties", "additionalProperties", "propertyNames", "items"):
        return True
    raise NotImplementedError(f"manifest.schema.json uses {keyword}; teach edgegen.pack.schema to check it.")


def _check_object(value: dict[str, Any], schema: dict[str, Any], where: str, root: dict[str, Any]) -> None:
    prefix = f"{where}." if where else ""
    for key in schema.get("required", ()):
        if key not in value:
            raise Mismatch(f"{prefix}{key} is missing")
    properties = schema.get("properties", {})
    for key, item in value.items():
        if names := schema.get("propertyNames"):
            check(key, names, f"a name in {where}", root)
        check(item, properties.get(key, schema.get("additionalProperties", {})), prefix + key, root)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
