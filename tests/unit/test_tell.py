"""Task `tell`: all that it is given, steered by an act; what the act changes in the checks."""

from __future__ import annotations

from random import Random

import pytest

from convert.samples import of_corpus
from edgegen import grounding, selection, slots, tasks
from edgegen.domain import LANGS, Fact, Kind, Lang, Request, Section
from edgegen.errors import DataError
from edgegen.evaluation.cases import prompted
from edgegen.train.prepare import matching, representation
from edgegen.train.prepare.representation import Labels

WORDS = Labels({"hasusbport": "has usb port", "ecorating": "eco rating"})


def request(text: str, lang: Lang = "en") -> Request:
    return representation.request(representation.parse(text), lang, WORDS, "tell")


def wrong(meaning: str, text: str) -> list[str]:
    """The rules that a text breaks."""
    task = tasks.get("tell")
    prompt = task.prompt(request(meaning))
    segments = matching.find(text, prompt, task.given).segments
    return [violation.rule for violation in grounding.check(segments, prompt, task).violations]


def test_no_catalogue_is_asked_for_it() -> None:
    """It is known by name, and is none of the tasks that the corpus teaches."""
    assert "tell" in tasks.every() and "tell" not in tasks.names()


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize(
    "text",
    ["inform(name=aven 1;type=lamp;ports=2;hasusbport=false)", "inform_count(count=4;type=lamp)",
     "?compare(name=aven 1;size=2 cm;name=bolt 2;size=3 cm)", "?reqmore()"],
)  # fmt: skip
def test_template_tells_all(text: str, lang: Lang) -> None:
    """Its text shows every fact and passes the checks of every text."""
    task = tasks.get("tell")
    prompt = task.prompt(request(text, lang))
    assert not grounding.check(task.draft(prompt), prompt, task).violations, slots.render(task.draft(prompt), lang)


def test_all_is_chosen_in_the_order_given() -> None:
    """Nothing is drawn by lot: a meaning representation has chosen already."""
    asked = request("inform(type=lamp;name=aven 1;ports=2;ecorating=dontcare)")
    plan = selection.choose(asked, tasks.get("tell"), Random(1))
    assert plan == tuple(section.facts for section in asked.sections)


def test_what_is_given_is_always_shown_in_training() -> None:
    """The act is in no text, and the model needs it all the same."""
    asked = request("inform(type=lamp;ports=2)")
    plan = selection.told([], asked, [], tasks.get("tell"))
    assert [[fact.key for fact in facts] for facts in plan] == [["act"], []]


def test_the_text_finds_its_own_order() -> None:
    """In training a prompt shows facts in the order of the request, whatever the text tells first, and none it leaves out."""
    asked = request("inform(name=aven 1;type=lamp;ports=2;ecorating=a+)")
    told = matching.written(matching.find("An a+ lamp is the aven 1.", tasks.get("tell").prompt(asked), ("act",)).segments)
    prompt, segments = prompted(asked, told)
    assert [fact.key for fact in prompt.plan[1]] == ["name", "category", "eco_rating"]
    assert [segment.fact.key for segment in segments if isinstance(segment, slots.Slot)] == ["eco_rating", "category", "name"]


@pytest.mark.parametrize(
    ("meaning", "text", "rules"),
    [
        ("inform(name=aven 1;hasusbport=true)", "Aven 1 has a usb port.", []),
        ("inform(name=aven 1;hasusbport=false)", "Aven 1 has a usb port.", ["contradiction"]),
        ("inform(name=aven 1;hasusbport=true)", "Aven 1 has no usb port.", ["contradiction"]),
        ("inform_no_match(type=lamp;hasusbport=true)", "There are no lamps with a usb port.", []),
        ("inform(name=aven 1;ecorating=a+)", "Aven 1 has an eco rating of a+.", []),
        ("inform(name=aven 1;grade=a+)", "Aven 1 is rated a+.", ["context"]),
        ("inform(name=aven 1;ecorating=a+)", "Aven 1 is rated a+.", []),
        ("inform(name=aven 1;power=44 watt;type=lamp)", "Aven 1 is a 44 watt lamp.", []),
        ("?compare(name=aven 1)", "Is it aven 1 that you prefer?", []),
        ("inform(name=aven 1)", "Aven 1 is a bestseller.", ["claim"]),
        ("inform(name=aven 1;type=lamp)", "Aven 1 is here.", ["missing"]),
    ],
)  # fmt: skip
def test_checks(meaning: str, text: str, rules: list[str]) -> None:
    """A denial is right where the act is one; a question claims nothing; a label's own words introduce its value."""
    assert sorted(set(wrong(meaning, text))) == rules


def test_a_fact_of_an_act_needs_no_catalogue() -> None:
    """An item may have any facts, and there may be none."""
    task = tasks.get("tell")
    assert task.prompt(Request("tell", "en", (Section("item", (Fact("style", "plain", Kind.PHRASE),)),))).slots
    assert not grounding.check(["Anything else?"], task.prompt(request("?reqmore()")), task).violations


def test_the_corpus_has_no_texts_of_it() -> None:
    """A conversion compares models on own pairs then, and says so where there are none."""
    with pytest.raises(DataError, match="has no texts of tell"):
        of_corpus("test", 1, ["tell"])
    assert {pair.request.task for pair in of_corpus("test", 1, ["tell", "reason"])} == {"reason"}
