"""All tasks: found by the scan, whole in both languages, with template text that passes its own check."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgegen import explain, slots, tasks
from edgegen.domain import LANGS, Fact, Kind, Lang, Request, Section
from edgegen.errors import DataError, UsageError
from edgegen.train.corpus import generate
from edgegen.train.pairs import Pair

GOLDEN = Path(__file__).parent.parent / "data" / "prompts"
FREE = [name for name in tasks.names() if not tasks.get(name).choices]


def cases(task: str, lang: Lang, count: int) -> list[Pair]:
    return list(generate.pairs(task, lang, "test", count, seed=3))


def test_ten_tasks() -> None:
    """The folder holds the ten tasks of the design."""
    assert tasks.names() == (
        "category", "guide", "joint", "list", "personal", "product", "reason", "review", "search", "summary",
    )  # fmt: skip


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("name", tasks.names())
def test_golden_prompt(name: str, lang: Lang) -> None:
    """A prompt is laid out as the golden file shows it, byte for byte."""
    bound = tasks.get(name).prompt(cases(name, lang, 1)[0].request)
    text = "".join(p.token if isinstance(p, slots.Control) else p for p in bound.pieces)
    path = GOLDEN / f"{name}.{lang}.txt"
    assert path.read_bytes() == text.encode(), f"look at the difference before you accept it: {path}"


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("name", FREE)
def test_template_passes_its_own_check(name: str, lang: Lang) -> None:
    """Template text is held to every rule that a text of the model is, for requests of the corpus."""
    task = tasks.get(name)
    for pair in cases(name, lang, 12):
        prompt = task.prompt(pair.request)
        violations, _ = explain.check(task.draft(prompt), prompt, task)
        assert not violations, slots.render(task.draft(prompt), lang)


@pytest.mark.parametrize("name", FREE)
def test_request_without_sections_is_refused(name: str) -> None:
    """What a task needs is said in the error."""
    with pytest.raises(DataError, match=f"Task '{name}' needs"):
        tasks.get(name).prompt(Request(name, "en", (Section("nothing", ()),)))


def test_unknown_task() -> None:
    """An unknown task names the known ones."""
    with pytest.raises(UsageError, match="Known: category, guide, joint"):
        tasks.get("nope")


def test_category_chooses_the_closest_without_a_model() -> None:
    """The template of a choosing task is the choice that shares most with the words."""
    pair = cases("category", "en", 1)[0]
    request = Request("category", "en", pair.request.sections, ("Music > Violins", pair.text))
    task = tasks.get("category")
    assert task.draft(task.prompt(request)) == [pair.text]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("Retro USB hub for students", "Electronics > Hubs"),
        ("三人帐篷 防雨", "户外 > 露营 > 帐篷"),
        ("Family tents", "Sports > Tents"),
    ],
)
def test_likely_paths_come_first(words: str, first: str) -> None:
    """The path whose last name is among the words wins over one that shares letters; far ones are left out."""
    paths = ("Sports > Tents", "Electronics > Hubs", "户外 > 露营 > 帐篷", "户外 > 露营 > 睡袋")
    request = Request("category", "en", (Section("item", (Fact("title_words", words, Kind.PHRASE),)),), paths)
    assert tasks.likely(request)[0] == first
    assert len(tasks.likely(request)) < len(paths)


def test_every_path_is_likely_where_nothing_is_shared() -> None:
    """The model decides alone then."""
    request = Request("category", "en", (Section("item", (Fact("title_words", "zzz", Kind.PHRASE),)),), ("A > Bcd", "E > Fgh"))
    assert set(tasks.likely(request)) == {"A > Bcd", "E > Fgh"}
