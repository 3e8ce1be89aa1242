"""Texts for products that have none, from a larger model: asked with the facts, and kept where the checks find them true.

The larger model writes values itself; `prepare` finds them in its texts, makes slots of them and sets aside what the facts do not
bear out. What was answered is kept: a run that was interrupted asks only for the rest.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edgegen import locale, schema, tasks
from edgegen.domain import Fact, Kind, Lang, Request
from edgegen.errors import DataError, OptionError, UsageError
from edgegen.slots import label_of
from edgegen.train import asked
from edgegen.train.asked import SEED_STEP, TOKENS, Estimate, Question
from edgegen.train.endpoint import EndpointOptions
from edgegen.train.prepare.options import PrepareOptions
from edgegen.train.prepare.run import Prepared, prepare
from edgegen.wire import request_to_json

ASKED, PAIRS = "asked.jsonl", "pairs"
_REQUEST = ("task", "lang", "sections", "choices")
_SYSTEM: Mapping[Lang, str] = {
    "en": (
        "You write for a shop. Write {about}: at most {sentences} sentences of plain, friendly English. Use only the facts below "
        "and name the product. Add no property, number, price, promise or comparison that is not among them; leave out what "
        "you do not need. Write values as they stand. Answer with the text alone."
    ),
    "zh": (
        "你为一家商店写文案。请写一段中文（{about}），最多{sentences}句，语气自然亲切。只能使用下面给出的事实，要写出商品名称；不得添加任何没有给出的"
        "属性、数字、价格、承诺或比较，用不上的事实可以不写。数值照原样写。只回答正文。"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """How many texts, and how varied."""

    n: int = 4
    """Answers a request. 1 to 32."""
    temperature: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError."""
        if not 1 <= self.n <= 32 or not 0 <= self.temperature <= 2 or self.seed < 0:
            raise OptionError("n must be in [1, 32], temperature in [0, 2] and seed at least 0.")


Work = Sequence[tuple[str, Request]]
"""Requests with the id that each answers for."""


def messages(request: Request) -> list[dict[str, str]]:
    """The question for a request: what to write, and the facts with their labels and values."""
    task = tasks.get(request.task)
    system = _SYSTEM[request.lang].format(about=task.about, sentences=task.max_sentences)
    lines = list[str]()
    for section in request.sections:
        lines += [f"[{section.label}]", *(_line(fact, request.lang) for fact in section)]
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n".join(lines)}]


def _line(fact: Fact, lang: Lang) -> str:
    known = schema.known().get(fact.key)
    label = label_of(fact) or (known.label(lang) if known else fact.key)
    if fact.kind is Kind.FLAG:
        return f"- {label}: {('yes' if fact.value else 'no') if lang == 'en' else ('是' if fact.value else '否')}"
    return f"- {label}: {locale.value_text(fact, lang)}"


def estimate(work: Work, out: Path, options: DistillOptions) -> Estimate:
    """What is left to ask, and about how many tokens it takes: read, and written at most."""
    left = [(request.lang, _question(id_, request, options)) for id_, request in _left(work, out, options)]
    read = sum(len(message["content"]) / TOKENS[lang] for lang, one in left for message in one.messages)
    return Estimate(len(left), round(read), sum(one.n * one.max_tokens for _, one in left))


def distill(
    work: Work, out: Path, endpoint: EndpointOptions, options: DistillOptions, *, say: Callable[[str], None],
    transport: httpx.AsyncBaseTransport | None = None,
) -> Prepared:  # fmt: skip
    """Ask for the texts that `out` lacks, keep what is true as `out/pairs`, and return the preparation with its report.

    Raises DataError, EngineError, StorageError, UsageError; what was answered before stays.
    """
    if any(tasks.get(request.task).choices for _, request in work):
        raise UsageError("A task that chooses among given texts needs none written. Name another.")
    out.mkdir(parents=True, exist_ok=True)
    asked.gather([_question(*one, options) for one in _left(work, out, options)], out / ASKED, endpoint, say, transport)
    if not (out / ASKED).is_file():
        raise DataError("There was nothing to ask: no product has the facts that the task needs.")
    rows = out / "texts.jsonl"
    rows.write_text("".join(_rows(out / ASKED, {_key(id_, request_to_json(request)) for id_, request in work})), "utf-8")
    return prepare({"train": rows}, out / PAIRS, PrepareOptions(kind="pairs"), say)


def _left(work: Work, out: Path, options: DistillOptions) -> Work:
    """What has fewer answers than are asked for now. Rows of files from before `n` was kept are whole."""
    done = {_key(row["id"], row) for row in asked.read(out / ASKED) if row.get("n", options.n) >= options.n}
    return [(id_, request) for id_, request in work if _key(id_, request_to_json(request)) not in done]


def _key(id_: str, request: Mapping[str, Any]) -> str:
    """What was asked: a product whose facts have changed, or one of another catalogue, is asked for anew."""
    return json.dumps([id_, *(request.get(key) for key in _REQUEST)], sort_keys=True)


def _question(id_: str, request: Request, options: DistillOptions) -> Question:
    seed = options.seed * SEED_STEP + zlib.crc32(id_.encode()) % SEED_STEP * options.n
    tokens = 2 * tasks.get(request.task).max_new_tokens  # a word of ours may be two of its tokens
    row = {"id": id_, "n": options.n, **request_to_json(request)}
    return Question(row, messages(request), options.n, options.temperature, tokens, seed)


def _rows(path: Path, wanted: Container[str]) -> Iterable[str]:
    """A row for each text on a request that is wanted, as `prepare` reads pairs."""
    for row in asked.read(path):
        if _key(row["id"], row) not in wanted:
            continue
        fields = {key: row[key] for key in _REQUEST if key in row}
        for text in row["texts"]:
            yield json.dumps({**fields, "original": text, "text": text}, ensure_ascii=False) + "\n"
