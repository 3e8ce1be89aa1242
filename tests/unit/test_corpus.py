"""The corpus: deterministic, true, varied, with test products that training has not seen."""

from __future__ import annotations

from itertools import islice

import pytest

from edgegen import explain, lexicon, slots, tasks
from edgegen.domain import LANGS, Lang
from edgegen.errors import DataError
from edgegen.train.corpus import generate, plans
from edgegen.train.corpus.report import as_read, delexicalised, diversity
from edgegen.train.corpus.world import HELD_CATEGORIES
from edgegen.wire import request_from_json, request_to_json

ALL = [(task, lang) for task in tasks.names() for lang in LANGS]


@pytest.mark.parametrize(("task", "lang"), ALL)
def test_same_seed_same_pairs(task: str, lang: Lang) -> None:
    """The same arguments give the same pairs."""
    first, again = (list(generate.pairs(task, lang, "train", 5, seed=1)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("task", "lang"), ALL)
def test_forty_plans(task: str, lang: Lang) -> None:
    """At least forty hand-written sentence plans for each task and language."""
    assert sum(len(role.patterns) for role in plans.load(task, lang).roles.values()) >= 40


@pytest.mark.parametrize(("task", "lang"), [(t, g) for t, g in ALL if t != "category"])
def test_every_text_passes_the_gate(task: str, lang: Lang) -> None:
    """What the model learns from is grounded and safe."""
    for pair in generate.pairs(task, lang, "train", 25, seed=2):
        prompt = tasks.get(task).prompt(pair.request)
        assert explain.check(slots.parse(pair.text, prompt), prompt, tasks.get(task))[0] == (), pair.text


@pytest.mark.parametrize("lang", LANGS)
def test_held_out_categories_are_never_in_training(lang: Lang) -> None:
    """The last categories of each domain occur in the test split only."""
    held = {lexicon.pick(c.word, g) for d in lexicon.domains().values() for c in d.categories[-HELD_CATEGORIES:] for g in LANGS}
    shared = {lexicon.pick(c.word, g) for d in lexicon.domains().values() for c in d.categories[:-HELD_CATEGORIES] for g in LANGS}
    for pair in generate.pairs("reason", lang, "train", 150, seed=5):
        category = pair.request.sections[0].get("category")
        assert category is None or category.value not in held - shared


@pytest.mark.parametrize(("task", "lang"), [("reason", "en"), ("reason", "zh"), ("list", "en"), ("personal", "zh")])
def test_texts_vary(task: str, lang: Lang) -> None:
    """No sentence dominates."""
    found = diversity(delexicalised(pair) for pair in generate.pairs(task, lang, "train", 400, seed=4))
    assert found.distinct_texts > 0.9
    assert found.top_sentence < 0.03


def test_no_sentence_is_frequent_in_the_whole() -> None:
    """Over all tasks and languages; `edgegen train corpus` prints the figure of the whole corpus."""
    texts = [as_read(pair) for task, lang in ALL for pair in generate.pairs(task, lang, "train", 60, seed=8)]
    assert diversity(texts).top_sentence < 0.004


def test_requests_survive_json() -> None:
    """A request written as JSON and read back is the same."""
    for task, lang in ALL:
        for pair in islice(generate.pairs(task, lang, "test", 3, seed=6), 3):
            assert request_from_json(request_to_json(pair.request)) == pair.request


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name} is here", "before any role"),
        ("= a\n{nme}", "unknown key 'nme'"),
        ("= a\n(x|y", "not closed"),
        ("> b\n= a\nx", "'b', which has no patterns"),
        ("= a b c\nx", "not a role header"),
    ],
)
def test_malformed_plans_say_where(text: str, message: str) -> None:
    """A broken plan file is one clear error."""
    with pytest.raises(DataError, match=message):
        plans.parse(text, "x.txt")
