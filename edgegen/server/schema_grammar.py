"""JSON Schema as a grammar in GBNF, for answers that are JSON. Pure. What cannot be written as one is refused by its name.

Covers type, properties, required, additionalProperties: false, items, prefixItems, minItems, maxItems, minLength, maxLength,
enum, const, anyOf, oneOf, $ref to $defs and definitions. Properties come in the schema's order, as in the OpenAI API.
The notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from edgegen.server.body import BodyError

_FIELD = "response_format"
_IGNORED = frozenset({
    "title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions", "$comment", "deprecated",
    "readOnly", "writeOnly", "additionalProperties",
})  # fmt: skip
_RULES = {
    "ws": r'| " " | "\n" [ \t]{0,20}',
    "string": r'"\"" char* "\""',
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})',
    "integer": r'"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": r'integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "object": r'"{" ws (pair ("," ws pair)*)? "}"',
    "pair": 'string ws ":" ws value ws',
    "array": '"[" ws (value ws ("," ws value ws)*)? "]"',
}
_NEEDS = {
    "string": ("char",), "number": ("integer",), "pair": ("string", "ws", "value"), "object": ("ws", "pair"),
    "array": ("ws", "value"),
    "value": ("object", "array", "string", "number", "boolean", "null"),
}  # fmt: skip
_KEYWORDS: Mapping[str, Set[str]] = {
    "object": {"properties", "required", "additionalProperties"}, "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"}, "integer": set(), "number": set(), "boolean": set(), "null": set(),
}  # fmt: skip
"""The types, and what may be said of each."""
_MOST = 1000  # of one thing: entries of a list, properties, repeats
_MOST_PARTS = 2000  # schemas within the schema, those behind a $ref once more
_LONGEST = 50_000  # characters: the engine reads a grammar between two steps
_NAMED = 40  # characters of a name of the schema's that are repeated in an error


def grammar(schema: Any) -> str:
    """The grammar of texts that follow a schema. Raises BodyError.

    Each part of the schema is translated once, and the work is counted while it is done, so that a short schema cannot take long.
    """
    return _Grammar(schema).text()


class _Grammar:
    """The rules found so far. What is made of several parts is a rule of its own, so that no rule repeats another one's text."""

    def __init__(self, schema: Any) -> None:
        self._whole, self._rules = schema, dict[str, str]()
        self._refs = dict[int, str]()  # the rule of each part that a $ref leads to, however it is spelled
        self._due = list[tuple[str, Any, str]]()  # of these, what is still to be translated
        self._parts = self._length = 0

    def text(self) -> str:
        """All rules."""
        self._add("root", self._of(self._whole, "the schema"))
        while self._due:
            name, found, at = self._due.pop()
            self._add(name, self._of(found, at))
        return "".join(f"{name} ::= {rule}\n" for name, rule in sorted(self._rules.items()))

    def _of(self, schema: Any, at: str) -> str:
        """What matches a schema, in a few words; `at` says where it stands, for errors."""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _refused(f"it has more than {_MOST_PARTS} parts")
        if schema is True or schema == {}:
            return self._use("value")
        if not isinstance(schema, dict):
            raise _refused(f"{at} is not an object")
        if "$ref" in schema:
            _only(schema, {"$ref"}, at)
            return self._ref(schema["$ref"], at)
        if "const" in schema:
            _only(schema, {"const", "type"}, at)
            return self._new(_literal(schema["const"]))
        if "enum" in schema:
            _only(schema, {"enum", "type"}, at)
            return self._new(_any([_literal(one) for one in _list(schema["enum"], f"enum of {at}")]))
        for name in ("anyOf", "oneOf"):
            if name in schema:
                _only(schema, {name}, at)
                return self._new(_any([self._of(one, f"{at}.{name}") for one in _list(schema[name], f"{name} of {at}")]))
        return self._typed(schema, at)

    def _typed(self, schema: Mapping[str, Any], at: str) -> str:
        kind = schema.get("type") or ("object" if "properties" in schema else "array" if _is_array(schema) else None)
        if kind is None:
            _only(schema, {"type"}, at)
            return self._use("value")
        kinds = _list(kind, f"type of {at}") if isinstance(kind, list) else [kind]
        for i, one in enumerate(kinds):
            if not isinstance(one, str) or one not in _KEYWORDS:
                raise _refused(f"the type {str(one)[:_NAMED]!r} of {at} is unknown")
            if one in kinds[:i]:
                raise _refused(f"the type of {at} names {one!r} twice")
        _only(schema, {"type"}.union(*(_KEYWORDS[one] for one in kinds)), at)
        found = [self._kind(one, schema, at) for one in kinds]
        return found[0] if len(found) == 1 else self._new(_any(found))

    def _kind(self, kind: str, schema: Mapping[str, Any], at: str) -> str:
        """A schema as far as it speaks of one type."""
        if kind == "object":
            return self._new(self._object(schema, at))
        if kind == "array":
            return self._new(self._array(schema, at))
        if kind == "string" and ("minLength" in schema or "maxLength" in schema):
            low, high = _range(schema, "minLength", "maxLength", at)
            return self._new(f'"\\"" {self._use("char")}{{{low},{high}}} "\\""')
        return self._use(kind)

    def _object(self, schema: Mapping[str, Any], at: str) -> str:
        properties, required, more = schema.get("properties", {}), schema.get("required", []), schema.get("additionalProperties")
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise _refused(f"properties and required of {at} must be an object and a list")
        if len(properties) > _MOST:
            raise _refused(f"{at} has more than {_MOST} properties")
        if strange := [name for name in required if not isinstance(name, str) or name not in properties]:
            raise _refused(f"{at} requires {str(strange[0])[:_NAMED]!r}, which it does not describe")
        self._use("ws")
        if properties:
            pairs = [self._pair(_literal(name), one, f"{at}.{name[:_NAMED]}") for name, one in properties.items()]
            needed = set(required)
            return f'"{{" ws {self._members(pairs, [name in needed for name in properties])} "}}"'
        if more is False:
            return '"{" ws "}"'
        pair = self._pair(self._use("string"), more, f"{at}.*") if isinstance(more, dict) else self._use("pair")
        return f'"{{" ws ({pair} ("," ws {pair})*)? "}}"'

    def _pair(self, name: str, schema: Any, at: str) -> str:
        return self._new(f'{name} ws ":" ws {self._of(schema, at)} ws')

    def _members(self, pairs: Sequence[str], needed: Sequence[bool]) -> str:
        """Pairs in order, commas between those that are there: a rule for each rest that follows a pair."""
        rests = [""]
        for pair, must in zip(reversed(pairs[1:]), reversed(needed[1:]), strict=True):
            rests.append(self._new(f'("," ws {pair}){"" if must else "?"} {rests[-1]}'))
        starts = []
        for pair, must, rest in zip(pairs, needed, reversed(rests), strict=True):
            starts.append(f"{pair} {rest}")
            if must:
                return _any(starts)
        return f"{_any(starts)}?"

    def _array(self, schema: Mapping[str, Any], at: str) -> str:
        items, first = schema.get("items", True), schema.get("prefixItems")
        first = items if first is None and isinstance(items, list) else first
        self._use("ws")
        if first is not None:
            _only(schema, set(schema) - {"minItems", "maxItems"}, at)
            parts = [f"{self._of(one, f'{at}[{i}]')} ws" for i, one in enumerate(_list(first, f"prefixItems of {at}"))]
            return '"[" ws ' + ' "," ws '.join(parts) + ' "]"'
        low, high = _range(schema, "minItems", "maxItems", at)
        if high == "0":
            return '"[" ws "]"'
        item = self._of(items, f"{at}[]")
        most = str(int(high) - 1) if high else ""
        return f'"[" ws ({item} ws ("," ws {item} ws){{{max(low - 1, 0)},{most}}}){"" if low else "?"} "]"'

    def _ref(self, ref: Any, at: str) -> str:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise _refused(f"the $ref of {at} leads out of the schema")
        found = self._whole
        for step in ref.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise _refused(f"the $ref of {at} leads nowhere")
            found = found[name]
        if id(found) not in self._refs:
            self._refs[id(found)] = name = f"ref-{len(self._refs)}"
            self._due.append((name, found, ref[:80]))
        return self._refs[id(found)]

    def _new(self, rule: str) -> str:
        """A rule of its own, by its name."""
        name = f"rule-{len(self._rules)}"
        self._add(name, rule)
        return name

    def _add(self, name: str, rule: str) -> None:
        self._rules[name] = rule
        self._length += len(name) + len(rule) + len(" ::= \n")
        if self._length > _LONGEST:
            raise _refused("the schema is too large")

    def _use(self, name: str) -> str:
        """The name of a basic rule, which is taken in with those it needs."""
        if name not in self._rules:
            self._add(name, _RULES[name])
            for needed in _NEEDS.get(name, ()):
                self._use(needed)
        return name


def _any(alternatives: Sequence[str]) -> str:
    return "(" + " | ".join(alternatives) + ")"


def _literal(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _range(schema: Mapping[str, Any], least: str, most: str, at: str) -> tuple[int, str]:
    low, high = schema.get(least, 0), schema.get(most)
    for value in (low, high if high is not None else 0):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
            raise _refused(f"{least} and {most} of {at} must be in [0, {_MOST}]")
    if high is not None and high < low:
        raise _refused(f"{most} of {at} is below {least}")
    return low, "" if high is None else str(high)


def _is_array(schema: Mapping[str, Any]) -> bool:
    return "items" in schema or "prefixItems" in schema


def _list(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list) or not value or len(value) > _MOST:
        raise _refused(f"{at} must be a list of 1 to {_MOST}")
    return value


def _only(schema: Mapping[str, Any], known: Set[str], at: str) -> None:
    if strange := sorted(set(schema) - known - _IGNORED):
        raise _refused(f"{strange[0][:_NAMED]!r} of {at} is not supported")


def _refused(why: str) -> BodyError:
    return BodyError(f"The field {_FIELD!r} holds a JSON schema that cannot be followed: {why}.", _FIELD, "invalid_schema")
