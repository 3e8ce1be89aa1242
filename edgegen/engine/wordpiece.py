"""Where a WordPiece vocabulary's text has spaces. Its tokens say where a word starts, not whether a space was before it."""

from __future__ import annotations

import unicodedata

_SPACE = b" "


def piece(data: bytes) -> bytes:
    """What a token writes: llama.cpp puts a space before every start of a word, also before Chinese and punctuation."""
    if not data.startswith(_SPACE):
        return data
    text = data[1:].decode("utf-8", "ignore")
    return data if text and _is_word(text[0]) else data[1:]


def before_slot(text: str) -> str:
    """A text with the space that its tokens could not hold, where a slot follows: after a Latin word or its punctuation."""
    return text + " " if text and (text[-1] in ",.;:!?" or (text[-1].isalnum() and _is_word(text[-1]))) else text


def _is_word(char: str) -> bool:
    """Whether a space separates a word of such characters: no punctuation and, but for Hangul, nothing of full width."""
    if unicodedata.category(char).startswith("P"):
        return False
    return unicodedata.east_asian_width(char) not in "WF" or "HANGUL" in unicodedata.name(char, "")
