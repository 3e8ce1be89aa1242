"""The lexicon files: complete, well-formed, the same shape in both languages, free of claims that need evidence."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from edgegen import lexicon, schema
from edgegen.train.corpus.world import HELD_CATEGORIES, slug

FOLDER = files("edgegen").joinpath("data/lexicon")
NAMES = sorted(f.name for f in FOLDER.iterdir() if f.name.endswith(".toml"))
SECTIONS = {"name", "category", "phrases", "attribute", "flag"}
# What the corpus draws for every domain, whatever it sells, with the most it draws of each at a time.
DRAWN = {"feature": 3, "audience": 1, "occasion": 1, "likes": 2, "need": 1, "topic": 1,
         "criterion": 3, "point": 8, "aspect": 5, "query": 1}  # fmt: skip
CLAIMS = re.compile(
    r"\b(?:best|best-?sell\w+|cheapest|most popular|number one|top-rated)\b|最[佳好低优]|第一名|畅销|爆款", re.IGNORECASE
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def load(name: str) -> dict[str, Any]:
    """One file as it is written."""
    return tomllib.loads(FOLDER.joinpath(name).read_text("utf-8"))


def keyed_pairs(raw: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Every list of pairs of a file, with a name for the place where it stands."""
    yield "name", [raw["name"]]
    yield "category word", [c["word"] for c in raw["category"]]
    yield "category path", [c["path"] for c in raw["category"]]
    yield from raw["phrases"].items()
    yield "attribute key", [a["key"] for a in raw["attribute"]]
    for attribute in raw["attribute"]:
        yield f"values of {attribute['key'][0]}", attribute["values"]
    for form in ("is", "has"):
        yield f"{form} flags", [f["word"] for f in raw["flag"] if f["form"] == form]


def test_the_folder_has_files_and_each_is_a_domain() -> None:
    """The loader knows exactly the files of the folder."""
    assert NAMES
    assert [f"{name}.toml" for name in lexicon.domains()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_sections_are_present(name: str) -> None:
    """Every file has its five sections, more categories than are held out, and flags of both forms."""
    raw = load(name)
    assert set(raw) == SECTIONS
    assert len(raw["category"]) > HELD_CATEGORIES
    assert len(raw["attribute"]) > 1
    assert {flag["form"] for flag in raw["flag"]} == {"is", "has"}


@pytest.mark.parametrize("name", NAMES)
def test_phrases_suffice_for_what_is_drawn(name: str) -> None:
    """Each key that the corpus draws from every domain has as many phrases as it draws at once."""
    phrases = load(name)["phrases"]
    assert {key: len(phrases.get(key, [])) for key, least in DRAWN.items() if len(phrases.get(key, [])) < least} == {}


@pytest.mark.parametrize("name", NAMES)
def test_phrase_keys_are_known_facts(name: str) -> None:
    """A phrase key is a key of the schema, or `aspect`, whose words become labels."""
    assert set(load(name)["phrases"]) - set(schema.known()) <= {"aspect"}


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_two_trimmed_strings(name: str) -> None:
    """A pair is an English and a Chinese string, neither empty nor padded; the English has no Chinese in it."""
    for place, pairs in keyed_pairs(load(name)):
        for pair in pairs:
            assert [type(side) for side in pair] == [str, str], f"{place}: {pair}"
            assert all(side and side == side.strip() for side in pair), f"{place}: {pair}"
            assert not CHINESE.search(pair[0]), f"{place}: {pair}"


@pytest.mark.parametrize("name", NAMES)
def test_no_english_twice_inside_a_key(name: str) -> None:
    """A repeated phrase would be drawn twice as often and could be two facts of one product."""
    for place, pairs in keyed_pairs(load(name)):
        if place == "category path":
            continue  # two kinds of product may share a shelf
        twice = [word for word, times in Counter(pair[0].casefold() for pair in pairs).items() if times > 1]
        assert not twice, f"{place}: {twice}"


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_parallel_and_without_digits(name: str) -> None:
    """A path has two to four levels, the same number in both languages, none empty, no digits."""
    for category in load(name)["category"]:
        levels = [side.split(" > ") for side in category["path"]]
        assert len(levels[0]) == len(levels[1]), category
        assert 2 <= len(levels[0]) <= 4, category
        assert all(level.strip() for side in levels for level in side), category
        assert not re.search(r"\d", " ".join(category["path"])), category


@pytest.mark.parametrize("name", NAMES)
def test_prices_are_spans(name: str) -> None:
    """The usual price is a span from a positive low to a higher high."""
    for category in load(name)["category"]:
        low, high = category["price"]
        assert 0 < low < high, category


@pytest.mark.parametrize("name", NAMES)
def test_attribute_keys_are_not_schema_keys(name: str) -> None:
    """A generic attribute must not be taken for a fact that the schema knows with a kind of its own."""
    known = set(schema.known())
    assert [key for attribute in load(name)["attribute"] for key in attribute["key"] if slug(key) in known] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_claims_that_need_evidence(name: str) -> None:
    """Values praise with nothing that only evidence could support."""
    claims = [word for _, pairs in keyed_pairs(load(name)) for pair in pairs for word in pair if CLAIMS.search(word)]
    assert claims == []


@pytest.mark.parametrize("name", NAMES)
def test_words_have_no_marks_of_the_grammar(name: str) -> None:
    """Only paths contain `>`; no value has the characters of holes, alternatives, conditions or slot tokens."""
    words = [word for place, pairs in keyed_pairs(load(name)) if place != "category path" for pair in pairs for word in pair]
    assert [word for word in words if re.search(r"[{}|@<>]", word)] == []
