"""Texts in the making: characters whole, stops unseen, tokens with the text that they end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgegen.serving.calls import Token, Written
from edgegen.serving.texts import Text


def fed(text: Text, pieces: Sequence[bytes]) -> list[Written]:
    """What a text gives for pieces, token i for piece i, and for its end."""
    found = [text.feed(Token(i, piece.decode("utf-8", "surrogateescape")), piece) for i, piece in enumerate(pieces)]
    return [written for written in [*found, text.close()] if written is not None]


def joined(found: list[Written]) -> tuple[str, list[int]]:
    """The whole text and all its tokens."""
    return "".join(written.text for written in found), [token.id for written in found for token in written.tokens]


def test_holds_back_cut_characters_and_begun_stops() -> None:
    """A character in several tokens comes whole; what only began like a stop comes later, with its tokens."""
    pieces = [bytes([b]) for b in "茶".encode()] + [b"s", b"to", b"re", b" s"]
    found = fed(Text(0, ("stop",)), pieces)
    assert [(written.text, [token.id for token in written.tokens]) for written in found] == [
        ("茶", [0, 1, 2]), ("store", [3, 4, 5]), (" ", []), ("s", [6]),
    ]  # fmt: skip


def test_a_stop_split_across_tokens_ends_the_text() -> None:
    """The text before it is given with the tokens that began it; nothing comes after."""
    text = Text(1, ("\n\n", "END"))
    found = fed(text, [b"a", b" cup", b" E", b"N", b"D x", b"more"])
    assert joined(found) == ("a cup ", [0, 1, 2]) and text.stop == "END" and {written.index for written in found} == {1}


def test_the_earliest_of_several_stops_ends_the_text() -> None:
    """Both are in one token."""
    text = Text(0, ("cup", "fine"))
    assert joined(fed(text, [b"a fine cup"])) == ("a ", [0]) and text.stop == "fine"


def test_bytes_that_are_no_text_become_replacements() -> None:
    """A cut character at the end too."""
    assert joined(fed(Text(0), [b"a\xff", b"b", "茶".encode()[:2]])) == ("a\ufffdb\ufffd", [0, 1, 2])


def test_whole_it_comes_at_the_end() -> None:
    """In one piece, with all its tokens; nothing where nothing was written."""
    (found,) = fed(Text(2, ("END",), whole=True), [b"a", b" cup", b" E", b"N", b"D x"])
    assert (found.index, found.text, [token.id for token in found.tokens]) == (2, "a cup ", [0, 1, 2])
    assert fed(Text(0, whole=True), []) == []


@given(st.text("ab茶\n", max_size=30), st.lists(st.text("ab茶\n", min_size=1, max_size=4), max_size=3), st.data())
def test_joined_it_is_the_text_up_to_the_first_stop(whole: str, stops: list[str], data: st.DataObject) -> None:
    """Whatever the tokens are; every token is given once and in order, unless it begins after the stop."""
    raw = whole.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)) | {0, len(raw)})
    pieces = [raw[a:b] for a, b in pairwise(cuts)]
    text = Text(0, tuple(stops))
    said, tokens = joined(fed(text, pieces))
    if text.stop is None:
        assert said == whole and not any(stop in whole for stop in stops) and tokens == list(range(len(pieces)))
    else:
        assert said + text.stop == whole[: len(said) + len(text.stop)] and said == whole[: len(said)]
        assert tokens == list(range(len(tokens))) and not any(stop in said for stop in stops)
