"""Pairs of a request and a text for it, and their JSONL files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from edgegen.domain import Request
from edgegen.errors import DataError, EdgegenError, NotFoundError
from edgegen.evaluation import cases
from edgegen.slots import Prompt, Segment
from edgegen.wire import request_from_json, request_to_json

_EVERY = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and a text for it; `text` writes slots as `<|vN|>`. `original` is what a person wrote, to measure against.

    `copy_of` is the digest of the pair that this one was made from, where it was: it never measures, and never teaches where
    that one measures. `shown` draws the order of the facts in its prompt; None shows them in the order of telling.
    """

    request: Request
    text: str
    original: str | None = None
    copy_of: str | None = None
    shown: int | None = None

    @property
    def digest(self) -> str:
        """What tells request and text from others, as 16 hexadecimal digits."""
        said = json.dumps({**request_to_json(self.request), "text": self.text}, sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def prompted(self) -> tuple[Prompt, list[Segment]]:
        """The prompt that shows what the text tells, and the text on it."""
        return cases.prompted(self.request, self.text, None if self.shown is None else Random(self.shown))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        more = {"original": self.original, "copy_of": self.copy_of}
        known = {key: value for key, value in more.items() if value is not None}
        return {**request_to_json(self.request), "text": self.text, **known}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Pair:
        """From a JSON object."""
        if not isinstance(raw, dict) or not isinstance(raw.get("text"), str):
            raise DataError("A pair lacks `text`. Each line needs task, lang, sections and text.")
        if not isinstance(raw.get("original"), str | None):
            raise DataError("A pair's `original` is no string. Give the text as a person wrote it, or leave it out.")
        copy_of = raw.get("copy_of")
        return cls(request_from_json(raw), raw["text"], raw.get("original"), None if copy_of is None else str(copy_of))


def read(path: Path) -> Iterator[Pair]:
    """The pairs of a JSONL file. Raises NotFoundError, or DataError with the line that is wrong."""
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}. Give the path of a JSONL file of pairs.")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _parse(line, f"{path}:{number}")


def _parse(line: bytes, where: str) -> Pair:
    try:
        return Pair.from_json(json.loads(line.decode("utf-8")))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: {error}. Each line is to be a pair as JSON; `edgegen train prepare` makes them.") from None
    except (ValueError, RecursionError, EdgegenError) as error:
        raise DataError(f"{where}: {error}") from None


def split(found: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and every twentieth, which only measures; where there is but one it is both.

    Copies are not counted: they teach, but for those of pairs that measure, which are left out.
    """
    own = [at for at, pair in enumerate(found) if pair.copy_of is None]
    measured = set(own[::_EVERY])
    held = [found[at] for at in sorted(measured)]
    apart = {pair.digest for pair in held}
    learnt = [pair for at, pair in enumerate(found) if at not in measured and pair.copy_of not in apart]
    return learnt or held, held


def write(path: Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as JSONL; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for count, pair in enumerate(pairs, 1):  # noqa: B007 - the last count is the answer
            out.write(json.dumps(pair.to_json(), ensure_ascii=False) + "\n")
    return count
