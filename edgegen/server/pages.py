"""The description of the API as a page: plain HTML without scripts, so that it needs no network. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
code { font: 14px ui-monospace, monospace; background: #f2f2f2; padding: 0 .25em; border-radius: 3px }
section { border-top: 1px solid #ccc; margin-top: 1.5rem } h2 { font-size: 1.15rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee }
"""


def page(spec: Mapping[str, Any]) -> str:
    """The whole page."""
    info = spec["info"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>", f"<p>{_text(info['description'])}</p>"]
    for path, methods in spec["paths"].items():
        for method, route in methods.items():
            parts += _route(spec, path, method, route)
    title = f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{title}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _route(spec: Mapping[str, Any], path: str, method: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{_text(route['summary'])}</p>"
    if about := route.get("description"):
        yield f"<p>{_text(about)}</p>"
    fields = {one["name"]: one["schema"] | {"description": one["description"]} for one in route.get("parameters", ())}
    body = route.get("requestBody")
    if body is not None:
        fields |= _properties(spec, body["content"]["application/json"]["schema"])
    if fields:
        yield "<table><tr><th>field<th>type<th>"
        for name, one in fields.items():
            yield f"<tr><td><code>{escape(name)}</code><td>{escape(_kind(spec, one))}<td>{_text(_about(spec, one))}"
        yield "</table>"
    answers = [f"{status}: {escape(_found(spec, one)['description'])}" for status, one in route["responses"].items()]
    yield f"<p>Answers: {'; '.join(answers)}</p></section>"


def _properties(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    schema = _found(spec, schema)
    found = dict(schema.get("properties", {}))
    for one in schema.get("allOf", ()):
        found |= _properties(spec, one)
    return found


def _found(spec: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a part refers to."""
    while "$ref" in part:
        target: Any = spec
        for step in part["$ref"][2:].split("/"):
            target = target[step]
        part = target
    return part


def _about(spec: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    return str(part.get("description") or _found(spec, part).get("description", ""))


def _kind(spec: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """What a field may be, in words. Null is left out: it stands for a field that is not there."""
    schema = _found(spec, part)
    if "enum" in schema:
        words = " or ".join(json.dumps(one) for one in schema["enum"] if one is not None) or "null"
    elif options := schema.get("anyOf"):
        words = " or ".join(dict.fromkeys(_kind(spec, one) for one in options if one.get("type") != "null"))
    else:
        kinds = schema.get("type", "any value")
        words = " or ".join(one for one in ([kinds] if isinstance(kinds, str) else kinds) if one != "null")
        words += f" of {_kind(spec, schema['items'])}" if "items" in schema else ""
    low, high = schema.get("minimum"), schema.get("maximum")
    words += f" in [{low}, {high}]" if low is not None and high is not None else ""
    return words + (f", default {json.dumps(schema['default'])}" if schema.get("default") is not None else "")


def _text(text: str) -> str:
    """Words with `code` in them."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
