"""What a text is worth, and which of two is preferred: each part of the reward moves it, and a store gives the pairs it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgegen import slots, tasks
from edgegen.store import Entry, Event
from edgegen.train import preferences, reward
from edgegen.train.preferences import Preference
from tests.fakes.feedback import request, shown


def worth(text: str, *events: Event) -> reward.Reward:
    """The reward of a text on all facts of the desk."""
    prompt = tasks.get("reason").prompt(request())
    plan = replace(prompt, plan=tuple(section.facts for section in prompt.request.sections))
    return reward.of(slots.parse(text, plan), plan, events)


GOOD = "<|v1|> costs <|v4|>."


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("<|v1|> is waterproof and costs <|v4|>.", "grounded"),
        ("<|v1|> is a desk for a room.", "covered"),
        ("<|v1|> costs <|v4|>", "readable"),
        ("<|v1|> costs <|v4|>" + ", and it is there for a small room, a wide room or a long room" * 3 + ".", "readable"),
        ("<|v1|> costs <|v4|>. It is a desk for a room. It is a desk for a room.", "unrepeated"),
    ],
)
def test_each_fault_costs_its_part(text: str, part: str) -> None:
    """And the whole is less for it; an untrue text is worth nothing."""
    good, bad = worth(GOOD), worth(text)
    assert good.total == 1.0 and getattr(bad, part) < getattr(good, part) and bad.total < good.total
    assert part != "grounded" or bad.total == 0


def test_what_people_made_of_a_text_counts() -> None:
    """Where they said anything; dwelling says nothing."""
    liked, disliked = worth(GOOD, Event("up")), worth(GOOD, Event("down"))
    assert liked.total == 1.0 > worth(GOOD, Event("edited", text="x")).total > disliked.total
    assert worth(GOOD, Event("dwell", seconds=3)) == worth(GOOD)
    assert reward.of(None, tasks.get("reason").prompt(request())).total == 0


def test_the_store_gives_preferences() -> None:
    """Edited over shown where the edit is true; liked over disliked on the same request alone; the rest is counted."""
    entries = [
        Entry(shown("<|v1|> for <|v4|>."), (Event("edited", text="At $120, Oak desk fits a small room."),)),
        Entry(shown("<|v1|> for <|v4|>."), (Event("edited", text="Oak desk is waterproof and costs $120."),)),
        Entry(shown("<|v1|> for <|v4|>."), (Event("edited", text="Oak desk costs $99."),)),
        Entry(shown("<|v1|>: only <|v4|>."), (Event("down"), Event("up"))),
        Entry(shown("<|v1|>, <|v4|>."), (Event("rejected"), Event("dwell", seconds=1))),
        Entry(shown("<|v1|> is <|v4|>.", 99), (Event("down"),)),
        Entry(shown(GOOD), ()),
        Entry(replace(shown(GOOD), slotted=None), (Event("up"),)),
    ]
    got = preferences.from_store(entries)
    assert [(one.chosen, one.rejected, one.why) for one in got.found] == [
        ("At <|v4|>, <|v1|> fits a small room.", "<|v1|> for <|v4|>.", "edited over shown"),
        ("<|v1|>: only <|v4|>.", "<|v1|>, <|v4|>.", "accepted over rejected"),
    ]
    assert got.left == {"edited: not what the facts say": 2, "nobody said anything": 1, "slots are not known": 1}
    assert got.kinds() == {"edited over shown": 1, "accepted over rejected": 1}


def test_the_best_candidate_is_preferred_to_the_worst() -> None:
    """A true one to an untrue one, or by the whole reward; where all are as good, none is."""
    prompt = tasks.get("reason").prompt(request())
    texts = [slots.parse(text, prompt) for text in ("<|v1|> is waterproof and costs <|v4|>.", GOOD, "<|v1|> for <|v4|>.")]
    found = preferences.from_candidates(prompt, [None, *texts])
    assert [(one.chosen, one.rejected) for one in found] == [(GOOD, "<|v1|> is waterproof and costs <|v4|>.")]
    assert preferences.from_candidates(prompt, texts[1:], "reward") == []
    told = replace(prompt, plan=tuple(section.facts for section in prompt.request.sections))
    poor = slots.parse("<|v1|> is a desk.", told)
    assert preferences.from_candidates(told, [poor, texts[1]]) == []
    assert [one.rejected for one in preferences.from_candidates(told, [poor, texts[1]], "reward")] == ["<|v1|> is a desk."]
    assert preferences.from_candidates(prompt, [None]) == []


def test_both_texts_stand_on_one_prompt() -> None:
    """It shows what either tells, in the better one's order, and nothing more."""
    prompt, chosen, rejected = preferences.placed(Preference(request(), "At <|v4|>: a desk.", "<|v1|> is a desk.", "x"))
    assert [fact.key for fact in prompt.plan[0]] == ["price", "name"]
    assert slots.render(chosen, "en") == "At $120: a desk." and slots.render(rejected, "en") == "Oak desk is a desk."


def test_what_people_made_of_a_candidate_decides() -> None:
    """Of two candidates that are as good as each other for the checks, the one that people disliked is the worse."""
    prompt = tasks.get("reason").prompt(request())
    prompt = replace(prompt, plan=tuple(section.facts for section in prompt.request.sections))
    texts = (GOOD, "<|v1|> is <|v4|>.")
    candidates = [slots.parse(text, prompt) for text in texts]
    assert preferences.from_candidates(prompt, candidates, "reward") == []
    known = preferences.said([Entry(shown(texts[0]), (Event("down"),)), Entry(shown(texts[1], 99), (Event("down"),))])
    (found,) = preferences.from_candidates(prompt, candidates, "reward", known)
    assert (found.chosen, found.rejected) == (texts[1], texts[0])
