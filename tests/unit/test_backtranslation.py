"""Translation there and back: what is asked, what of the answers is kept, and that nothing is asked twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgegen.cli import main
from edgegen.domain import Fact, Kind, Section
from edgegen.errors import DataError, EngineError, OptionError
from edgegen.train import backtranslation as back
from edgegen.train import endpoint, pairs
from edgegen.train.augment import check
from edgegen.train.backtranslation import BackOptions, Made
from edgegen.train.endpoint import EndpointOptions
from edgegen.train.pairs import Pair
from tests.unit.test_augment import PRICE, pair

URL = EndpointOptions("http://model.test/v1", tries=2)
DESKS = [
    pair(f"{{name}} costs {{price}}{when}.", Section("item", (Fact("name", "Oak desk", Kind.TEXT), PRICE)))
    for when in ("", " here", " for now", " so far")
]
CHINESE = pair("{name}售价{price}。", Section("item", (Fact("name", "木桌", Kind.TEXT), PRICE)), lang="zh")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take no time."""
    monkeypatch.setattr(endpoint, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(endpoint, "_LONGEST_PAUSE_S", 0.001)


class Translator:
    """An endpoint that translates by rote; `back` are its answers into the text's own language."""

    def __init__(self, *answers: str, there: str = "{name} 的价格是 {price}。", fail_after: int = 99) -> None:
        self.answers, self.there, self.left, self.calls = answers, there, fail_after, list[dict[str, Any]]()

    def __call__(self, call: httpx.Request) -> httpx.Response:
        """One answer."""
        if call.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "translator"}]})
        if not self.left:
            return httpx.Response(401, text="no credit")
        self.left -= 1
        body = json.loads(call.content)
        self.calls.append(body)
        system, text = (message["content"] for message in body["messages"])
        marks = {name: mark for mark, name in re.findall(r"({v\d+}) for the (\w+)", system)}
        wanted = [self.there] if text.startswith("{") and "costs" in text else self.answers
        said = [a.replace("{name}", marks["name"]).replace("{price}", marks["price"]) for a in wanted][: body["n"]]
        return httpx.Response(200, json={"choices": [{"message": {"content": text}} for text in said]})

    @property
    def transport(self) -> httpx.MockTransport:
        """In place of a network."""
        return httpx.MockTransport(self)


def run(model: Translator, out: Path, found: list[Pair], n: int = 1) -> Made:
    """Translate with a model."""
    return back.back_translate(found, out, URL, BackOptions(n=n), say=lambda _: None, transport=model.transport)


def test_other_words_become_copies(tmp_path: Path) -> None:
    """Placeholders become the same slots; the values are never sent; a pair that measures is not translated."""
    model = Translator("The price of {name} is {price}.")
    made = run(model, tmp_path, DESKS)
    assert [p.copy_of for p in made.copies] == [DESKS[1].digest]  # the others' say the same on the same prompt
    assert made.copies[0].text == "The price of <|v1|> is <|v4|>."
    assert not check.faults(made.copies[0]) and made.left_out == {"duplicate": 2}
    sent = json.dumps(model.calls)
    assert "120" not in sent and "desk" not in sent and len(model.calls) == 2 * (len(DESKS) - 1)
    learnt, held = pairs.split(list(pairs.read(tmp_path / back.PAIRS)))
    assert held == [DESKS[0]] and learnt == [*DESKS[1:], *made.copies]


def test_the_same_is_asked_once(tmp_path: Path) -> None:
    """Pairs that differ in values alone, which the model never sees, are one question."""
    twin = Pair(pair("{name}.", Section("item", (Fact("name", "Elm desk", Kind.TEXT), PRICE))).request, DESKS[1].text)
    model = Translator("The price of {name} is {price}.")
    assert len(run(model, tmp_path, [*DESKS[:2], twin]).copies) == 1 and len(model.calls) == 2


def test_chinese_too(tmp_path: Path) -> None:
    """Into English and back; blanks about values go."""
    model = Translator("{name} 的价格是 {price} 。")
    made = run(model, tmp_path, [DESKS[0], CHINESE])
    assert [p.text for p in made.copies] == ["<|v1|>的价格是<|v4|>。"]
    assert "into English" in model.calls[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("{name} costs little.", "a value lost, or one too many"),
        ("{name} costs {price}, really {price}.", "a value lost, or one too many"),
        ("{name} is waterproof and costs {price}.", "untrue, or badly made"),
        ("{name} costs {price}, and call 555-010-2030.", "untrue, or badly made"),
        ("{name} costs {price}.", "duplicate"),
    ],
)
def test_what_is_not_kept(tmp_path: Path, answer: str, why: str) -> None:
    """A value lost, a claim, a number, the same again: counted by the reason."""
    made = run(Translator(answer), tmp_path, DESKS[:2])
    assert (made.copies, made.left_out) == ([], {why: 1})
    assert list(pairs.read(tmp_path / back.PAIRS)) == DESKS[:2]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """Neither there nor back; a translation that lost a value is not translated back at all."""
    with pytest.raises(EngineError, match="refuses the call: 401"):
        run(Translator("At {price}, there is {name}.", fail_after=4), tmp_path, DESKS)
    left = back.estimate(DESKS, tmp_path, BackOptions(n=1)).questions
    assert left == 2
    model = Translator("At {price}, there is {name}.")
    assert run(model, tmp_path, DESKS).copies and len(model.calls) == 2
    again = Translator("nothing")
    assert run(again, tmp_path, DESKS).copies and not again.calls
    lost = Translator("At {price}, there is {name}.", there="{name}不错。")
    assert not run(lost, tmp_path / "lost", DESKS).copies and len(lost.calls) == len(DESKS) - 1


def test_what_cannot_be_translated(tmp_path: Path) -> None:
    """One clear error each."""
    copies = [Pair(p.request, p.text, copy_of="0" * 16) for p in DESKS]
    with pytest.raises(DataError, match="nothing to translate"):
        run(Translator(), tmp_path, copies)
    with pytest.raises(OptionError, match="n must be"):
        BackOptions(n=0)


def test_the_command_estimates_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run asks nothing; texts go to another machine only where that is said."""
    pairs.write(tmp_path / "pairs.jsonl", DESKS)
    common = [
        "train",
        "augment",
        str(tmp_path / "pairs.jsonl"),
        "--endpoint",
        "https://model.test/v1",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*common, "--dry-run", "--price-in", "1"]) == 0
    assert "6 questions of 2 answers" in (told := capsys.readouterr().err) and "by the prices given" in told
    assert main(common) == 2
    assert "--yes" in capsys.readouterr().err and not (tmp_path / "o").exists()
