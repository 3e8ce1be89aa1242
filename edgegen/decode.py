"""Between token ids and segments: what the model may write for a prompt, and what it wrote. Knows no engine thread.

The mask is where rule 1 is kept: a token with a digit in it, and a slot that was not offered, cannot be chosen.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgegen import licensing
from edgegen.engine import wordpiece
from edgegen.engine.worker import Vocabulary
from edgegen.errors import PackError
from edgegen.licensing import Ends, Scopes, Table
from edgegen.slots import END, SLOT_TOKENS, Prompt, Segment, Slot

Mask = npt.NDArray[np.bool_]
_NUMERIC = frozenset({"Nd", "Nl", "No"})


class Decoder:
    """Masks and decoding for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, table: Table | None = None) -> None:
        """`table` narrows what may be written to what the facts license; without it any word may.

        Raises PackError for a table of another vocabulary.
        """
        self._vocabulary, self._table = vocabulary, table or {}
        if any(token >= len(vocabulary.pieces) for licensors in self._table.values() for token in licensors):
            raise PackError("The licensing table names tokens that the model does not have. Build the pack again.")
        self._base = np.array([_writable(piece) for piece in vocabulary.pieces], dtype=np.bool_)
        self._base[list(vocabulary.controls)] = False
        self.end = vocabulary.id(END)
        if self.end is not None:
            self._base[self.end] = True
        self.sentence_ends = frozenset(
            i for i, piece in enumerate(vocabulary.pieces) if self._base[i] and ends_sentence(piece.decode("utf-8", "ignore"))
        )
        clause_ends = frozenset(i for i, piece in enumerate(vocabulary.pieces) if ends_clause(piece.decode("utf-8", "ignore")))
        self._ends = Ends(self.sentence_ends, clause_ends)
        # A WordPiece vocabulary has no token that is a space, so none could be written before a slot.
        self._spaceless = b" " not in vocabulary.pieces
        self._slot_ids = {id_: i for i, token in enumerate(SLOT_TOKENS, 1) if (id_ := vocabulary.id(token)) is not None}

    @property
    def knows_slots(self) -> bool:
        """Whether the model was made for edgegen: it has the end token and the slot tokens."""
        return self.end is not None and len(self._slot_ids) == len(SLOT_TOKENS)

    def mask(self, prompt: Prompt, given: Sequence[str] = ()) -> Mask:
        """What may be written for a prompt: bool [n_vocab]. Slots of sections labelled as `given` are read, never written."""
        allow = self._base.copy()
        licensors, shown = self._table.get(licensing.name(prompt)), licensing.scopes(prompt).everything
        if licensors is not None:
            licensed = [token for token, found in licensors.items() if licensing.allowed(found, shown)]
            narrow = np.zeros_like(allow)
            narrow[licensed if self.end is None else [*licensed, self.end]] = True
            allow &= narrow
        sections = prompt.request.sections
        offered = {slot.index for slot in prompt.slots if sections[slot.section].label not in given}
        allow[[id_ for id_, index in self._slot_ids.items() if index in offered]] = True
        return allow

    def slot(self, token: int, prompt: Prompt) -> Slot | None:
        """The slot of a prompt that a token writes, or None where it is another token."""
        index = self._slot_ids.get(token)
        return None if index is None else next((slot for slot in prompt.slots if slot.index == index), None)

    def licensed(self, token: int, written: Sequence[int], prompt: Prompt, scopes: Scopes) -> bool:
        """Whether what the sentence is about licenses a token that is no slot."""
        licensors = self._table.get(licensing.name(prompt))
        if licensors is None or not licensors.get(token):
            return True
        section = licensing.section_of(written, lambda t: self.slot(t, prompt), self._ends, prompt, scopes)
        return licensing.allowed(licensors[token], scopes.of(section))

    def sentence_start(self, tokens: Sequence[int]) -> int:
        """Where the sentence begins that the last token belongs to."""
        ends = (at for at in range(len(tokens) - 1, 0, -1) if tokens[at - 1] in self.sentence_ends)
        return next(ends, 0)

    def segments(self, tokens: Sequence[int], prompt: Prompt) -> list[Segment] | None:
        """What the tokens of a whole text say, or None where it is not text."""
        found = self.unstripped(tokens, prompt)
        return None if found is None else _stripped(found)

    def unstripped(self, tokens: Sequence[int], prompt: Prompt) -> list[Segment] | None:
        """What tokens say, or None where it is not text: broken UTF-8, or a digit put together from bytes."""
        slots = {slot.index: slot for slot in prompt.slots}
        out: list[Segment] = []
        run = b""
        for token in [*tokens, None]:
            index = self._slot_ids.get(token) if token is not None else 0
            if index is None:
                run += self._vocabulary.pieces[token] if token is not None else b""
                continue
            text = _text(run)
            if text is None or (index and index not in slots):
                return None
            if index and self._spaceless:
                text = wordpiece.before_slot(text)
            out += [text] if text else []
            out += [slots[index]] if index else []
            run = b""
        return out


def _writable(piece: bytes) -> bool:
    # A piece that is cut inside a character may still hold whole digits.
    return not has_digit(piece.decode("utf-8", "ignore"))


def ends_sentence(text: str) -> bool:
    """Whether a sentence, or a line of a list, ends with this token's text."""
    return text.rstrip(" ").endswith((".", "!", "?", "。", "！", "？")) or "\n" in text


def ends_clause(text: str) -> bool:
    """Whether a clause ends with this token's text."""
    return text.rstrip(" ").endswith((",", ";", "，", "；"))


def has_digit(text: str) -> bool:
    """Whether a text has a character that stands for a number in any script: 7, ٧, ½, Ⅷ, ⑦."""
    return any(unicodedata.category(char) in _NUMERIC for char in text)


def _text(run: bytes) -> str | None:
    try:
        text = run.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if has_digit(text) else text


def _stripped(segments: list[Segment]) -> list[Segment]:
    if segments and isinstance(segments[0], str):
        segments[0] = segments[0].lstrip()
    if segments and isinstance(segments[-1], str):
        segments[-1] = segments[-1].rstrip()
    return [segment for segment in segments if segment]


def along(choices: Sequence[Sequence[int]], end: int) -> Callable[[tuple[int, ...]], Sequence[int]]:
    """A constraint that lets only the given token sequences be written, each followed by `end`."""
    tree: dict[tuple[int, ...], set[int]] = {}
    for choice in choices:
        for at, token in enumerate([*choice, end]):
            tree.setdefault(tuple(choice[:at]), set()).add(token)
    followers = {prefix: sorted(tokens) for prefix, tokens in tree.items()}
    return lambda written: followers.get(written, ())
