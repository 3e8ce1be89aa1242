"""The rows of a file of texts, whatever its format: JSON, JSONL, CSV, TSV, Parquet, or plain lines. Knows no facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgegen import catalog_read, schema
from edgegen.catalog_read import BadRow, Row
from edgegen.errors import DataError, MappingError, NotFoundError, extra

TEXT = (
    "text", "ref", "reference", "human reference", "target", "summary", "reason", "explanation", "review", "copy", "output",
    "completion", "response", "sentence", "文案", "文本", "理由", "推荐理由", "推荐语", "描述", "评论",
)  # fmt: skip
FACTS = ("mr", "meaning representation", "facts", "content", "attributes", "source", "input", "属性", "参数")
_PARQUET = (".parquet", ".pq")
_LINES = (".txt", ".text", ".lst")
_MAGIC = b"PAR1"


def read(path: Path) -> tuple[list[Row], list[BadRow]]:
    """The rows of a file and those that cannot be read. Raises NotFoundError, DataError, or MissingExtraError for Parquet."""
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}. Give the path of a file of texts.")
    if path.suffix.lower() in _PARQUET or _starts(path, _MAGIC):
        found: Iterator[Row | BadRow] = _parquet(path)
    elif path.suffix.lower() in _LINES:
        found = _lines(path)
    else:
        found = catalog_read.read(path)
    rows = list(found)
    good = [row for row in rows if isinstance(row, Row)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    if not good:
        raise DataError(f"{path} holds no row that can be used{f': {bad[0].message}' if bad else ''}. Give texts with facts.")
    return good, bad


def column(rows: list[Row], wanted: str, names: tuple[str, ...], given: Mapping[str, str]) -> str | None:
    """The column of the texts or the facts: as `given`, else the first that has one of the names. Raises MappingError."""
    there = list(dict.fromkeys(name for row in rows[:1000] for name in row.fields))
    if wanted in given:
        if given[wanted] not in there:
            raise MappingError(f"Unknown column {given[wanted]!r} in {wanted}={given[wanted]}. Columns: {', '.join(there)}.")
        return given[wanted]
    folded = {schema.fold(name): name for name in reversed(there)}
    return next((folded[schema.fold(name)] for name in names if schema.fold(name) in folded), None)


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _lines(path: Path) -> Iterator[Row | BadRow]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line} is not UTF-8. Save the file as UTF-8.") from None
    if not text.strip():
        raise DataError(f"{path} is empty. Give a text a line.")
    for number, said in enumerate(text.splitlines(), 1):
        if said.strip():
            yield Row(number, {"text": said.strip()})


def _parquet(path: Path) -> Iterator[Row]:
    with extra("Reading Parquet", "parquet"):
        import pyarrow
        import pyarrow.parquet
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{path} is not a whole Parquet file: {why}. Copy it again, or give JSONL or CSV.") from None
    for number, fields in enumerate(table.to_pylist(), 1):
        yield Row(number, {str(name): _plain(value) for name, value in fields.items() if value is not None})


def _plain(value: Any) -> Any:
    """A value as JSON has it: exact decimals, ISO dates, pairs of a map column as an object."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return {str(key): _plain(item) for key, item in value}
        return [_plain(item) for item in value]
    return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, dict) else value
