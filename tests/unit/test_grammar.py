"""Grammars: what is written, where it ends, what cannot be read or followed; and the same as llama.cpp's own sampler."""

from __future__ import annotations

import ctypes
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgegen.engine.backend import Ids, Mask
from edgegen.engine.grammar import MOST_KEPT, MOST_WORK, Automaton, Followed, Words, decoded
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Engine, Job
from edgegen.engine.native import bindings
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EngineError, GrammarError
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
        ('root = "a"', "line 1: expecting '::='"),
        ('x ::= "a"', "does not contain a 'root'"),
        ("root ::= foo", "the rule 'foo' is not defined"),
        ('root ::= ("a"', "it ends where '\\)'"),
        ('root ::= "a" )', "expecting the end of the line"),
        ('root ::= "a', "expecting the end of a text"),
        ('root ::= "\\q"', "the escape '.q' is unknown"),
        ("root ::= * x", "something to repeat"),
        ('root ::= "a"{3,2}', "must ascend"),
        ('root ::= "a"{2000000000000}', "must ascend"),
        ('root ::= root "a"', "left recursion"),
        ('root ::= x\nx ::= y "a"\ny ::= z? x | "b"\nz ::= ("c"*)', "left recursion"),
        ('root ::= "a\0"', "zero character"),
        ('root ::= "\ud800"', "surrogates"),
        ("root ::= <nothing-like-that>", "there is no token '<nothing-like-that>'"),
        ("root ::= " + "(" * 999 + '"a"' + ")" * 999, "brackets in brackets"),
        ("root ::= " + '"a"' * 40_000, "120009 characters"),
    ],
)
def test_a_grammar_that_cannot_be_read_says_why(backend: LlamaBackend, text: str, reason: str) -> None:
    """One clear error of its own kind, which repeats next to nothing of the grammar."""
    with pytest.raises(GrammarError, match=reason) as caught:
        backend.grammar(text)
    assert len(str(caught.value)) < 160


AMBIGUOUS = {
    "repeats": 'root ::= (("a"?){20}){20}',
    "more repeats": 'root ::= ((("a"?){200}){200}){200}',
    "in a row": "root ::= " + " ".join(["[a-z]*"] * 300),
    "stars": "root ::= (([a-z]*)*)*",
    "the same twice": "root ::= ([a-z] | [a-z])*",
    "palindromes": 'root ::= "a" root "a" | "a" root "b" | "x"',
    "optional": "root ::= " + " ".join(['("a" | "b" | [a-z ])?'] * 2000),
    "long": "root ::= " + '"a"{1000}' * 1000,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_the_work_for_a_token_is_bounded(name: str) -> None:
    """By steps that are counted: a grammar is refused, a text fails, or it goes on; nothing takes for ever."""
    pieces = [*(bytes([byte]) for byte in range(97, 123)), b"a" * 64, b"a" * 40 + b"1", b"ab" * 20 + b"!", b"<end>"]
    followed = None
    try:
        followed = Followed(Automaton(AMBIGUOUS[name], Words(pieces, [len(pieces) - 1])))
        for _ in range(30):
            allowed = followed.allows(np.arange(len(pieces)))
            assert allowed.tolist() == [followed.copy().allows(np.array([id_]))[0] for id_ in range(len(pieces))]
            assert followed._automaton._work <= MOST_WORK and followed._automaton._kept <= MOST_KEPT
            followed.accept(0)
    except GrammarError as error:
        assert name in ("more repeats", "palindromes", "optional"), error  # noqa: PT017 - the others must not fail
    else:
        assert name not in ("more repeats", "palindromes", "optional")


def test_work_and_memory_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes beyond fails, with what to do."""
    words = Words([b"a", b"b"], [])
    monkeypatch.setattr("edgegen.engine.grammar.MOST_WORK", 50)
    with pytest.raises(GrammarError, match="too long for one token"):
        Automaton("root ::= " + " ".join(["[a-z]*"] * 300), words)
    monkeypatch.undo()
    monkeypatch.setattr("edgegen.engine.grammar.MOST_KEPT", 50)
    followed, endless = (Followed(Automaton(text, words)) for text in ('root ::= "a" root "b" | "b"', 'root ::= "a"* "b"'))
    with pytest.raises(GrammarError, match="too many ways through"):
        for _ in range(100):
            followed.accept(0)
    for _ in range(1000):
        endless.accept(0)


def test_a_text_whose_grammar_takes_too_long_fails_alone(model: Path) -> None:
    """The engine goes on, and so do the texts beside it."""
    wild = replace(WILD, max_new_tokens=40)
    with Engine(lambda: LlamaBackend(model, LlamaOptions(max_sequences=5))) as engine:
        beside = engine.submit(Job([1, 2], options=wild))
        with pytest.raises(GrammarError, match="less ambiguous"):
            engine.submit(Job([1], options=wild, grammar='root ::= [^é] root [^é] | [^é] root [^è] | "é"')).result(60)
        assert len(beside.result(60)[0].tokens) > 0


def test_a_bad_grammar_fails_its_job_alone(model: Path) -> None:
    """The engine goes on."""
    with Engine(lambda: LlamaBackend(model, LlamaOptions(max_sequences=5))) as engine:
        with pytest.raises(GrammarError, match="cannot be read"):
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


SAME = {
    "choice": 'root ::= "yes" | "no" | "ja\n" | "yellow"',
    "sets": r'root ::= ([^a-y] | "\x61" [\]\-x-z] | "\u8336" .)+',
    "counts": 'root ::= ("ab" | [c-e]{2}){2,3} "x"{0} "z"{2}? .{1,}',
    "nested": 'root ::= "(" root ")" | item # a comment | "q"\nitem ::= "a"* (\n  "b" |\n  "c"\n)\n\n',
    "characters": 'root ::= [桌椅é]+ " "?',
    "json": schema_grammar.grammar(
        {"type": "object", "properties": {"a": {"type": ["string", "null"], "maxLength": 3}, "b": {}}}
    ),
    "token": 'root ::= ("a" <[101]> !<[102]>)+',
}


class Native:
    """llama.cpp's own sampler."""

    def __init__(self, backend: LlamaBackend, grammar: str) -> None:
        self._lib = bindings()
        self._sampler = self._lib.llama_sampler_init_grammar(backend._vocab, grammar.encode(), b"root")
        assert self._sampler

    def allows(self, ids: Ids) -> Mask:
        """As `backend.Grammar`."""
        data = np.zeros(len(ids), dtype=np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        data["id"] = ids
        pointer = data.ctypes.data_as(ctypes.POINTER(self._lib.llama_token_data))
        self._lib.llama_sampler_apply(self._sampler, ctypes.byref(self._lib.llama_token_data_array(pointer, len(ids), -1, False)))
        allowed: Mask = data["logit"] == 0
        return allowed

    def accept(self, token: int) -> None:
        """As `backend.Grammar`, without its look whether it may."""
        self._lib.llama_sampler_accept(self._sampler, token)


def is_text(backend: LlamaBackend, pending: bytes, id_: int, *, cut: bool) -> bool:
    """Whether a token goes on with a text in UTF-8, also where it ends with a `cut` character; or ends the text."""
    found = decoded(pending + backend.token_bytes(id_))
    return backend.is_end(id_) or (found is not None and (cut or not found[1]))


@pytest.mark.parametrize("name", SAME)
def test_allows_what_llama_cpp_allows(backend: LlamaBackend, name: str) -> None:
    """Along random texts, every token of the vocabulary at each place, but for bytes that are no UTF-8."""
    everything, rng = np.arange(backend.n_vocab), random.Random(name)
    for _ in range(8):
        ours, theirs, pending = backend.grammar(SAME[name]), Native(backend, SAME[name]), b""
        for _ in range(25):
            allowed, native = ours.allows(everything), theirs.allows(everything)
            utf8 = np.array([is_text(backend, pending, id_, cut=name != "token") for id_ in range(backend.n_vocab)])
            assert np.flatnonzero(allowed & utf8).tolist() == np.flatnonzero(native & utf8).tolist()
            assert name == "token" or not (allowed & ~utf8).any()
            if not (found := [id_ for id_ in np.flatnonzero(allowed & utf8).tolist() if not backend.is_end(id_)]):
                break
            token = rng.choice(found)
            ours.accept(token)
            theirs.accept(token)
            pending = (decoded(pending + backend.token_bytes(token)) or ("", b""))[1]
