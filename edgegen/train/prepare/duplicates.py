"""Texts that say the same of the same facts. Pure.

Two texts are one where they have the same facts and, without case, marks and blanks, the same letters, or nearly the same runs
of three words. Only texts on the same facts are compared, so that no index is needed: a shop has few texts on one product.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"<\|v\d+\|>|[㐀-䶿一-鿿]|[^\W_㐀-鿿]+")


def repeated(texts: Iterable[tuple[str, str]], alike: float) -> Iterator[str | None]:
    """For each (facts, text): None, or "duplicate" or "near duplicate" where one before it says the same."""
    seen: dict[str, list[tuple[str, frozenset[tuple[str, ...]]]]] = {}
    for facts, text in texts:
        words = _WORD.findall(text.casefold())
        plain, runs = "".join(words), frozenset(zip(words, words[1:], words[2:], strict=False)) or frozenset({tuple(words)})
        before = seen.setdefault(facts, [])
        if any(plain == other for other, _ in before):
            yield "duplicate"
        elif any(len(runs & other) >= alike * len(runs | other) for _, other in before):
            yield "near duplicate"
        else:
            before.append((plain, runs))
            yield None
