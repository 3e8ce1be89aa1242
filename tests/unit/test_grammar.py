"""Grammars followed by llama.cpp, on a tiny random model: what is written, where it ends, and what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Engine, Job
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EngineError, OptionError
from edgegen.server import schema_grammar
from tests.fakes.tiny_gguf import write_tiny_gguf

WILD = SamplingOptions(temperature=2, top_k=0, top_p=1, max_new_tokens=60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GGUF."""
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def backend(model: Path) -> Iterator[LlamaBackend]:
    """The model in llama.cpp."""
    made = LlamaBackend(model, LlamaOptions(max_sequences=2))
    yield made
    made.close()


def texts(model: Path, grammar: str, *, n: int = 4, options: SamplingOptions = WILD, allow_end: bool = True) -> list[str]:
    """What is written by a grammar; every text has to end by itself."""
    with Engine(lambda: LlamaBackend(model, LlamaOptions(max_sequences=9))) as engine:
        words = engine.vocabulary
        assert words.eos is not None
        barred = words.controls - ({words.eos} if allow_end else set())
        allow = np.array([token not in barred for token in range(len(words.pieces))])
        job = Job([1, 2, 3], n, options, allow, frozenset({words.eos}), grammar=grammar)
        done = engine.submit(job).result()
    assert {completion.finish for completion in done} == {"stop"}
    return [words.text(completion.tokens) for completion in done]


@pytest.mark.parametrize("options", [WILD, SamplingOptions(temperature=0), SamplingOptions(temperature=1, top_k=3)])
@pytest.mark.parametrize("allow_end", [True, False])
def test_texts_follow_the_grammar_and_end_with_it(model: Path, options: SamplingOptions, allow_end: bool) -> None:
    """Each candidate on its own way; the end is forced, also where no end token may be written."""
    assert set(texts(model, 'root ::= "yes" | "no" | "ja\\n"', options=options, allow_end=allow_end)) <= {"yes", "no", "ja\n"}


def test_characters_of_several_tokens_are_followed(model: Path) -> None:
    """A byte of a character may be written where the character may."""
    assert set(texts(model, 'root ::= [桌椅] "é"?')) <= {"桌", "椅", "桌é", "椅é"}


def test_json_by_a_schema_is_json(model: Path) -> None:
    """Whatever a random model would rather write."""
    schema = {
        "type": "object", "properties": {"sure": {"type": "boolean"}, "kind": {"enum": ["a", 'b"c', 3]}},
        "required": ["sure", "kind"], "additionalProperties": False,
    }  # fmt: skip
    for text in texts(model, schema_grammar.grammar(schema), n=6, options=SamplingOptions(temperature=2, max_new_tokens=120)):
        found = json.loads(text)
        assert isinstance(found["sure"], bool) and found["kind"] in ("a", 'b"c', 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ('root = "a"', "expecting ::="),
        ('x ::= "a"', "does not contain a 'root'"),
        ("root ::= foo", "Undefined rule identifier 'foo'"),
        ('root ::= ("a"', "expecting '\\)'"),
        ('root ::= root "a"', "left recursion"),
        ('root ::= "a\0"', "zero character"),
        ('root ::= "\ud800"', "surrogates"),
        ("root ::= " + "(" * 999 + '"a"' + ")" * 999, "brackets in brackets"),
        ("root ::= " + '"a"' * 40_000, "120009 characters"),
    ],
)
def test_a_grammar_that_cannot_be_read_says_why(
    backend: LlamaBackend, capfd: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    """One clear error; llama.cpp's own lines, which repeat the grammar, are kept from stderr."""
    with pytest.raises(OptionError, match=reason):
        backend.grammar(text)
    assert capfd.readouterr().err == ""


def test_a_bad_grammar_fails_its_job_alone(model: Path) -> None:
    """The engine goes on."""
    with Engine(lambda: LlamaBackend(model, LlamaOptions(max_sequences=5))) as engine:
        with pytest.raises(OptionError, match="cannot be read"):
            engine.submit(Job([1], grammar="root ::= (")).result()
        assert engine.submit(Job([1], options=SamplingOptions(max_new_tokens=2))).result()


def test_a_token_that_is_not_allowed_is_not_accepted(backend: LlamaBackend) -> None:
    """Native code would end the process."""
    grammar = backend.grammar('root ::= "ab"')
    with pytest.raises(EngineError, match="does not allow"):
        grammar.accept(backend.tokenize("b")[0])
    assert backend.eos is not None
    with pytest.raises(EngineError, match="does not allow"):
        grammar.accept(backend.eos)
    grammar.accept(backend.tokenize("a")[0])


def test_a_copy_goes_its_own_way(backend: LlamaBackend) -> None:
    """What one accepts, the other still may."""
    a, b = (backend.tokenize(char)[0] for char in "ab")
    first = backend.grammar('root ::= "ab" | "b"')
    second = first.copy()
    first.accept(a)
    assert first.allows(np.array([a, b])).tolist() == [False, True]
    assert second.allows(np.array([a, b])).tolist() == [True, True]
    third = first.copy()
    third.accept(b)
    assert third.allows(np.array([a, b, backend.eos])).tolist() == [False, False, True]
