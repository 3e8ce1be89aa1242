"""What must not be said: the tables of both languages, as tables of samples."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import pytest

from edgegen import safety
from edgegen.domain import LANGS, Fact, Kind


def _rules() -> list[dict[str, Any]]:
    folder = files("edgegen").joinpath("data/safety")
    return [rule for lang in LANGS for rule in tomllib.loads(folder.joinpath(f"{lang}.toml").read_text("utf-8"))["rule"]]


BAD = [(rule["id"], text) for rule in _rules() for text in rule["bad"]]
FINE = [text for rule in _rules() for text in rule["fine"]]


@pytest.mark.parametrize(("rule", "text"), BAD)
def test_samples_are_caught_in_either_language(rule: str, text: str) -> None:
    """Every sample breaks its rule, whatever the language of the text around it."""
    for lang in LANGS:
        assert rule in {violation.rule for violation in safety.check_text(text, lang)}
        assert rule in {violation.rule for violation in safety.check_text(f"Hm, {text} ok", lang)}


@pytest.mark.parametrize("text", FINE)
def test_lookalikes_pass(text: str) -> None:
    """Words that only look like a violation are let through."""
    assert safety.check_text(text, "en") == ()


@pytest.mark.parametrize("char", ["\u200b", "\u202e", "\u2066", "\x00", "\x1b", "\ufeff", "\U000e0041"])
def test_hidden_characters(char: str) -> None:
    """Characters that hide or turn text are violations, in copied values too."""
    assert [v.rule for v in safety.check_text(f"A mug{char}.", "en")] == ["hidden"]
    assert not safety.safe_fact(Fact("name", f"Mug{char}", Kind.TEXT))


def test_a_line_break_is_no_hidden_character() -> None:
    """Lists have lines."""
    assert safety.check_text("- a mug\n- a cup", "en") == ()


@pytest.mark.parametrize(
    ("fact", "safe"),
    [
        (Fact("feature", "best-in-class motor", Kind.PHRASE), False),
        (Fact("feature", "销量第一的电机", Kind.PHRASE), False),
        (Fact("feature", "quiet motor", Kind.PHRASE), True),
        (Fact("feature", "最大承重五公斤", Kind.PHRASE), True),
        (Fact("name", "The Best Mug", Kind.TEXT), True),
        (Fact("name", "Mug from mugs-shop.com", Kind.TEXT), False),
        (Fact("quote", "加微信mugshop", Kind.TEXT), False),
        (Fact("quote", "the shit of a mug", Kind.TEXT), False),
        (Fact("quote", "The best mug, it cures colds", Kind.TEXT), False),
        (Fact("quote", "最轻的一款", Kind.TEXT), False),
        (Fact("quote", "Holds well, a nice mug", Kind.TEXT), True),
        (Fact("feature", "经过巴氏杀菌", Kind.PHRASE), True),
        (Fact("tags", ("gift", "cures colds"), Kind.LIST), False),
        (Fact("tags", ("gift", "office"), Kind.LIST), True),
        (Fact("is_x", True, Kind.FLAG, label="clinically proven"), False),
        (Fact("is_x", True, Kind.FLAG, label="waterproof"), True),
        (Fact("name", "WH-1000XM4 138", Kind.TEXT), True),
    ],
)
def test_safe_fact(fact: Fact, safe: bool) -> None:
    """Words that would be repeated are checked in full, names for contacts, links and abuse only."""
    assert safety.safe_fact(fact) is safe


def test_fullwidth_letters_hide_nothing() -> None:
    """Look-alike letters and digits are folded before the tables are applied."""
    assert {v.rule for v in safety.check_text("请打１３８００１３８０００", "zh")} == {"contact"}
