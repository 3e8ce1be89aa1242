"""Texts in the making: bytes become whole characters, and a stop ends a text before anybody has seen its beginning. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from edgegen.serving.calls import Token, Written

_Decoder = codecs.getincrementaldecoder("utf-8")


class Text:
    """One candidate's text. Held back are a cut character and what may still become a stop, with the tokens that they are of."""

    __slots__ = ("_decoder", "_held", "_sent", "_tokens", "index", "stop", "stops")

    def __init__(self, index: int, stops: Sequence[str] = (), *, whole: bool = False) -> None:
        """Candidate `index`; `stops` end it and are not part of it. `whole` gives nothing before the end."""
        self.index, self.stops = index, stops
        self._sent: list[Written] | None = [] if whole else None
        self.stop: str | None = None
        """The stop that ended it."""
        self._decoder = _Decoder("replace")
        self._held = ""
        self._tokens: list[tuple[int, int, Token]] = []  # where each begins and ends, counted from the first held character

    def feed(self, token: Token, piece: bytes) -> Written | None:
        """Take a token and its bytes; gives what can be sent now."""
        if self.stop is not None:
            return None
        begin = len(self._held)
        self._held += self._decoder.decode(piece)
        cut = bool(self._decoder.getstate()[0])
        self._tokens.append((begin, len(self._held) + cut, token))
        if not self.stops:
            return self._send(len(self._held))
        found = min(((at, stop) for stop in self.stops if (at := self._held.find(stop)) >= 0), default=None)
        if found is None:
            return self._send(len(self._held) - max(map(self._begun, self.stops)))
        at, self.stop = found
        self._held = self._held[:at]
        self._tokens = [(begin, at, token) for begin, _, token in self._tokens if begin < at]
        return self._send(at)

    def close(self) -> Written | None:
        """The text ends; gives what was held back."""
        if self.stop is None:
            self._held += self._decoder.decode(b"", final=True)
            self._tokens = [(begin, len(self._held), token) for begin, _, token in self._tokens]
        last = self._send(len(self._held))
        if not self._sent:
            return last
        tokens = tuple(token for written in self._sent for token in written.tokens)
        return Written(self.index, "".join(written.text for written in self._sent), tokens)

    def _begun(self, stop: str) -> int:
        """How many characters at the end may be the beginning of a stop."""
        held = self._held
        return next((n for n in range(min(len(stop) - 1, len(held)), 0, -1) if held.endswith(stop[:n])), 0)

    def _send(self, upto: int) -> Written | None:
        ready = 0
        while ready < len(self._tokens) and self._tokens[ready][1] <= upto:
            ready += 1
        if not upto and not ready:
            return None
        written = Written(self.index, self._held[:upto], tuple(token for _, _, token in self._tokens[:ready]))
        self._held = self._held[upto:]
        self._tokens = [(begin - upto, end - upto, token) for begin, end, token in self._tokens[ready:]]
        if self._sent is None:
            return written
        self._sent.append(written)
        return None
