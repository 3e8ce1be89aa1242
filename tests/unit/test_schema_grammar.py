"""JSON Schema as GBNF: llama.cpp's own grammar sampler says what it allows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from edgegen.engine.backend import Grammar
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.errors import EngineError
from edgegen.pack import loading
from edgegen.server.body import BodyError
from edgegen.server.schema_grammar import grammar

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["age"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"v": {"type": "integer"}, "l": {"$ref": "#/$defs/node"}}, "required": ["v"]}
    },
    "$ref": "#/$defs/node",
}


@pytest.fixture(scope="module")
def backend() -> Iterator[LlamaBackend]:
    """The bundled model, whose vocabulary has every byte."""
    found = LlamaBackend(loading.load(loading.bundled()).model, LlamaOptions(max_sequences=1))
    yield found
    found.close()


def follows(backend: LlamaBackend, schema: Any, text: str) -> bool:
    """Whether a text is all that a schema wants, and may end."""
    eos = backend.eos
    assert eos is not None
    state: Grammar = backend.grammar(grammar(schema))
    try:
        for token in [*backend.tokenize(text), eos]:
            state.accept(token)
    except EngineError:
        return False
    return True


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object"}, ["{}", '{"a": [1, null, {"b": "c"}]}'], ["[]", '{"a"}', "{} {}"]),
        ({"const": 'a "quoted\\ word'}, [json.dumps('a "quoted\\ word')], ['"a"']),
        ({"enum": ["a", 2, None]}, ['"a"', "2", "null"], ["3", "a"]),
        ({"type": "integer"}, ["0", "-12"], ["01", "1.5", '"1"']),
        ({"type": "number"}, ["0", "-1.5e+3"], [".5", "x"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"茶茶茶"'], ['"a"', '"abcd"']),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
            ["[true]", "[true, false]"],
            ["[]", "[1]"],
        ),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, ["[]"], ["[null]"]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, ["[1, 2]", "[1, 2, 3]"], ["[1]"]),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}]}, ['[1, "a"]'], ["[1]", '["a", 1]']),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, ["null", "3"], ['"x"']),
        (
            PERSON,
            ['{"age": 3}', '{"name": "A", "age": null}', '{"age": 3, "tags": ["a"]}'],
            ["{}", '{"name": "A"}', '{"age": 3, "x": 1}'],
        ),
        (
            {**PERSON, "required": []},
            ["{}", '{"tags": []}', '{"name": "A", "tags": []}'],
            ['{"tags": [], "name": "A"}', '{,"tags": []}'],
        ),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", '{"a": 1, "b": 2}'], ['{"a": "1"}']),
        ({"type": "object", "additionalProperties": False}, ["{}"], ['{"a": 1}']),
        (
            {"type": ["object", "string", "null"], "properties": {"a": {"type": "null"}}, "required": ["a"], "maxLength": 1},
            ['{"a": null}', '"b"', "null"],
            ["{}", '"bc"', "3"],
        ),
        ({"description": "anything"}, ["3", '{"a": []}'], ["x"]),
        ({"properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}}}, ['{"a": 1, "b": 2}'], ['{"b": "x"}']),
        (TREE, ['{"v": 1}', '{"v": 1, "l": {"v": 2}}'], ['{"l": {"v": 2}}']),
    ],
)
def test_allows_what_follows_the_schema_and_nothing_else(
    backend: LlamaBackend, schema: Any, good: list[str], bad: list[str]
) -> None:
    """Token by token, to the end."""
    assert [text for text in good if not follows(backend, schema, text)] == []
    assert [text for text in bad if follows(backend, schema, text)] == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (7, "is not an object"),
        (False, "is not an object"),
        ({"type": "hiccup"}, "'hiccup' of the schema is unknown"),
        ({"type": 123}, "unknown"),
        ({"type": "string", "pattern": "a+"}, "'pattern' of the schema is not supported"),
        ({"type": "integer", "minimum": 1}, "'minimum'"),
        ({"type": "object", "properties": {"a": {"allOf": []}}}, "'allOf' of the schema.a"),
        ({"type": "object", "required": ["x"]}, "requires 'x'"),
        ({"type": "object", "properties": []}, "must be an object and a list"),
        ({"$ref": "https://example.com/x"}, "leads out of"),
        ({"$ref": "#/$defs/x"}, "leads nowhere"),
        ({"enum": []}, "must be a list of 1"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "below minItems"),
        ({"type": "string", "maxLength": 10**9}, "must be in"),
        ({"enum": ["x" * 60_000]}, "too large"),
        ({"type": ["null", "integer", "null"]}, "names 'null' twice"),
        ({"type": ["null", "value"]}, "'value' of the schema is unknown"),
        ({"type": "object", "required": [[]]}, "requires '\\[\\]'"),
        ({"type": "null", "maxLength": 3}, "'maxLength' of the schema is not supported"),
        ({"properties": {str(i): True for i in range(1001)}}, "more than 1000 properties"),
        ({"prefixItems": [True], "minItems": 1}, "'minItems' of the schema is not supported"),
        ({"$ref": "#x/$defs/a", "$defs": {"a": True}}, "leads out of"),
    ],
)
def test_refuses_the_rest_by_its_name(schema: Any, words: str) -> None:
    """So that nobody relies on what would not hold."""
    with pytest.raises(BodyError, match=words.replace("$", r"\$")) as caught:
        grammar(schema)
    assert caught.value.field == "response_format"


def nested(depth: int, inner: Any, wrap: Any) -> Any:
    """A schema around a schema around a schema."""
    for _ in range(depth):
        inner = wrap(inner)
    return inner


COSTLY = {
    "types": nested(6, {"type": "string"}, lambda s: {"type": ["object"] * 10, "properties": {"a": s}, "required": ["a"]}),
    "optional": nested(28, {"type": "string"}, lambda s: {"properties": {"a": True, "b": s}}),
    "alternatives": nested(14, {"type": "string"}, lambda s: {"anyOf": [s, s, s]}),
    "references": {
        "properties": {
            "z": {"anyOf": [{"$ref": "#" + "/properties/a" * i} for i in range(1, 30)]},
            "a": nested(30, {"anyOf": [{"type": "null"}] * 900}, lambda s: {"properties": {"a": s}}),
        }
    },
    "chain": {"$ref": "#/$defs/0", "$defs": {str(i): {"items": {"$ref": f"#/$defs/{i + 1}"}} for i in range(3000)}},
    "names": nested(28, {"anyOf": [{}] * 900}, lambda s: {"properties": {"n" * 30_000: s}, "required": []}),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_a_schema_costs_no_more_than_its_limits(name: str) -> None:
    """Each part is translated once; what is too much ends soon, and what is not has a grammar of the schema's size."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        size = len(grammar(COSTLY[name]))
    except BodyError:
        size = 0
    finally:
        sys.setprofile(None)
    assert size <= 50_000 and calls < 60_000


def test_optional_properties_within_each_other_are_written_once(backend: LlamaBackend) -> None:
    """A grammar as long as the schema is deep."""
    assert len(grammar(COSTLY["optional"])) < 10_000
    schema = nested(3, {"type": "integer"}, lambda s: {"properties": {"a": {"type": "null"}, "b": s}})
    assert follows(backend, schema, '{"b": {"a": null, "b": {"b": 3}}}') and not follows(backend, schema, '{"b": {"b": 3}}')
