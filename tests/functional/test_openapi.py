"""The description of the API is true: every route and field is in it, and bodies made by it get the answers it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from edgegen.server import about, chat, completions, explanations, feedback, make_app
from edgegen.server.settings import Limits
from edgegen.serving.templates import TemplateService
from tests.fakes.backend import scripted
from tests.fakes.http import server

SPEC = about.openapi()
BODIES = {
    "/v1/explanations": explanations.FIELDS,
    "/v1/feedback": feedback.FIELDS,
    "/v1/completions": completions.FIELDS,
    "/v1/chat/completions": chat.FIELDS,
    "/tokenize": about.TOKENIZE,
    "/detokenize": about.DETOKENIZE,
    "/apply-template": about.TEMPLATE,
}


def resolved(part: Any) -> Any:
    """A part of the description, or what it refers to."""
    while isinstance(part, Mapping) and "$ref" in part:
        target: Any = SPEC
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part


def body(path: str) -> Any:
    """The schema of a route's body."""
    return resolved(SPEC["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


def test_every_route_and_method_is_described() -> None:
    """And no other."""
    routes = [route for route in make_app(TemplateService()).routes if isinstance(route, Route)]
    served = {(route.path.replace(":path", ""), method.lower()) for route in routes for method in route.methods or ()}
    described = {(path, method) for path, methods in SPEC["paths"].items() for method in methods}
    assert {one for one in served if one[1] != "head"} == described


@pytest.mark.parametrize("path", BODIES)
def test_every_field_of_a_body_is_described(path: str) -> None:
    """With what it is for, and nothing beyond."""
    found = body(path)
    assert set(found["properties"]) == set(BODIES[path]) and found["additionalProperties"] is False
    assert all(resolved(one).get("description") or one.get("description") for one in found["properties"].values())


def test_one_of_many_has_its_fields() -> None:
    """The requests of a call with many."""
    assert set(SPEC["components"]["schemas"]["One"]["properties"]) == set(explanations.ONE)


def test_limits_are_the_defaults() -> None:
    """Where a number of the description is a limit."""
    limits, found = Limits(), body("/v1/explanations")["properties"]["requests"]
    assert found["maxItems"] == limits.requests
    assert body("/v1/completions")["properties"]["prompt"]["anyOf"][1]["maxItems"] == limits.prompts
    assert body("/v1/completions")["properties"]["max_tokens"]["maximum"] == limits.new_tokens


def test_every_reference_leads_somewhere() -> None:
    """And every schema is used."""
    found = set(references(SPEC))
    assert all(resolved({"$ref": one}) for one in found)
    named = {f"#/components/schemas/{name}" for name in SPEC["components"]["schemas"]}
    assert named == {one for one in found if "schemas" in one}


def references(part: Any) -> Iterator[str]:
    """All `$ref`s within a part."""
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for one in part.values():
            yield from references(one)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


async def test_the_page_needs_nothing_else() -> None:
    """All routes are on it; no script, no other address; it is plain text where it quotes."""
    async with server(None) as http:
        answer = await http.get("/docs")
        assert (await http.get("/openapi.json")).json()["info"]["version"] == SPEC["info"]["version"] != "0"
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    assert all(path in answer.text for path in SPEC["paths"])
    assert "<script" not in answer.text and "http://" not in answer.text and "https://" not in answer.text


def values(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema, as far as the description uses JSON Schema."""
    schema = resolved(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values(one, depth) for one in schema["anyOf"]])
    kinds = schema.get("type", ["null", "boolean", "integer", "string"])
    return st.one_of([of_kind(kind, schema, depth) for kind in (kinds if isinstance(kinds, list) else [kinds])])


def of_kind(kind: str, schema: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """Values of one type."""
    if kind == "object":
        properties = {name: values(one, depth + 1) for name, one in schema.get("properties", {}).items()}
        required = {name: properties.pop(name) for name in schema.get("required", ())}
        more = schema.get("additionalProperties")
        if not properties and more:
            return st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=2)
        return st.fixed_dictionaries(required, optional=properties)
    if kind == "array":
        return st.lists(values(schema.get("items", {}), depth + 1), min_size=schema.get("minItems", 0), max_size=3)
    if kind == "integer":
        return st.integers(schema.get("minimum", -5), min(schema.get("maximum", 20), 20))
    if kind == "number":
        return st.floats(schema.get("minimum", -9), schema.get("maximum", 9), allow_nan=False)
    text = st.text(min_size=schema.get("minLength", 0), max_size=12)
    return {"string": text, "null": st.none(), "boolean": st.booleans()}[kind]


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Any]:
    """A route and a body by the description, at times with a field of a wrong kind."""
    path = draw(st.sampled_from(sorted(BODIES)))
    schema = body(path)
    required = {name: values(schema["properties"][name]) for name in schema.get("required", ())}
    names = draw(st.lists(st.sampled_from(BODIES[path]), max_size=4, unique=True))
    found = draw(st.fixed_dictionaries(required | {name: values(schema["properties"][name]) for name in names}))
    if draw(st.integers(0, 3)) == 0:
        found |= {draw(st.sampled_from(BODIES[path])): draw(values({}))}
    return path, found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(calls(), min_size=20, max_size=20))
async def test_answers_are_the_described_ones(made: list[tuple[str, Any]]) -> None:
    """Whatever is sent: a status that the description names, and an error is told in its shape."""
    async with server(scripted("a fine cup")) as http:
        for path, sent in made:
            answer = await http.post(path, json=sent)
            assert str(answer.status_code) in SPEC["paths"][path]["post"]["responses"], (path, sent, answer.text)
            if answer.is_error:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
