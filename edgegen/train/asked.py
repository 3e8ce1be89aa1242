"""Questions to an endpoint, and a file that keeps the answers: a run that was interrupted asks only for the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from convert.output import whole
from edgegen.train.endpoint import Endpoint, EndpointOptions

SEED_STEP = 1_000_000
_TOLD = 20  # questions between two lines of progress
TOKENS = {"en": 4.0, "zh": 1.5}
"""Characters of a token, about; only for estimates."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for, and the `row` that is kept together with the answers (`texts`, `model`, `tokens`)."""

    row: Mapping[str, Any]
    messages: Sequence[Mapping[str, str]]
    n: int
    temperature: float
    max_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking costs, before anything is asked: questions, and tokens by the length of the texts."""

    questions: int
    prompt_tokens: int
    completion_tokens: int

    def cost(self, per_million_in: float, per_million_out: float) -> float:
        """In the currency of the prices."""
        return (self.prompt_tokens * per_million_in + self.completion_tokens * per_million_out) / 1e6


def gather(
    questions: Sequence[Question], path: Path, endpoint: EndpointOptions, say: Callable[[str], None],
    transport: httpx.AsyncBaseTransport | None = None,
) -> None:  # fmt: skip
    """Ask, and add each answer to the file as it comes. Raises EngineError, DataError; what was answered before stays."""
    if questions:
        asyncio.run(_gather(questions, path, endpoint, say, transport))


async def _gather(
    questions: Sequence[Question], path: Path, endpoint: EndpointOptions, say: Callable[[str], None],
    transport: httpx.AsyncBaseTransport | None,
) -> None:  # fmt: skip
    with path.open("a", encoding="utf-8") as file:
        done = 0

        def keep(row: dict[str, Any]) -> None:
            nonlocal done
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            done += 1
            if done % _TOLD == 0 or done == len(questions):
                say(f"{done} of {len(questions)} asked")

        try:
            async with Endpoint(endpoint, transport) as asked, asyncio.TaskGroup() as group:
                for question in questions:
                    group.create_task(_ask(asked, question, keep))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None


async def _ask(asked: Endpoint, question: Question, keep: Callable[[dict[str, Any]], None]) -> None:
    found = await asked.ask(question.messages, question.n, question.temperature, question.max_tokens, question.seed)
    counted = [found.prompt_tokens, found.completion_tokens]
    keep({**question.row, "texts": list(found.texts), "model": asked.model, "tokens": counted})


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of what was asked; a line that a kill has cut short is taken out, so that it is asked again."""
    if not path.is_file():
        return []
    text = path.read_text("utf-8", "replace")
    rows, kept = list[dict[str, Any]](), list[str]()
    for line in text.split("\n"):  # and not splitlines: answers may hold U+2028
        try:
            row = json.loads(line)
            row["texts"]
        except (ValueError, KeyError, TypeError):
            continue
        kept.append(line + "\n")
        rows.append(row)
    if (whole_rows := "".join(kept)) != text:
        with whole(path) as part:
            part.write_text(whole_rows, "utf-8")
    return rows
