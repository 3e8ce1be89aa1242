"""Rows as drafts: which column is the text, which the facts, and the request that the facts make. Knows no cleaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgegen import catalog, schema, slots, tasks
from edgegen.catalog_read import Row
from edgegen.domain import Lang, Request, Section
from edgegen.errors import DataError, EdgegenError, MappingError
from edgegen.train.prepare import attributes, representation, rows, texts
from edgegen.train.prepare.cleaning import Draft
from edgegen.train.prepare.options import PrepareOptions
from edgegen.train.prepare.representation import Labels
from edgegen.wire import request_from_json

_MR = re.compile(r"\s*[?\w-]*\s*\(.*\)\s*$|(?:\s*[\w/ -]+\[[^\]]*\]\s*,?)+\s*$")


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that is no draft, and why."""

    row: int
    why: str


@dataclass
class Source:
    """One file's rows with what was found out about them."""

    path: Path
    rows: list[Row]
    kind: str
    text: str
    facts: str | None
    unread: list[Unread] = field(default_factory=list)


def open_source(path: Path, options: PrepareOptions) -> Source:
    """Read a file and find its columns. Raises DataError, MappingError, NotFoundError, MissingExtraError, UsageError."""
    good, bad = rows.read(path)
    fields = {name for row in good[:1000] for name in row.fields}
    text = rows.column(good, "text", rows.TEXT, options.columns)
    if text is None:
        listed = ", ".join(sorted(fields))
        raise MappingError(f"{path}: no column is the text. Say which one is: --map text=COLUMN. Columns: {listed}.")
    kind = options.kind or _kind(good, fields, options, text)
    facts = None
    if kind in ("mr", "attributes"):
        facts = rows.column(good, "facts", rows.FACTS, options.columns)
        if facts is None or facts == text:
            listed = ", ".join(sorted(fields))
            raise MappingError(f"{path}: no column holds the facts. Say which one does: --map facts=COLUMN. Columns: {listed}.")
    if kind == "pairs" and not {"task", "lang", "sections"} <= fields:
        raise DataError(f"{path}: pairs need the fields task, lang, sections and text. Found: {', '.join(sorted(fields))}.")
    return Source(path, good, kind, text, facts, [Unread(b.number, b.message) for b in bad])


def _kind(good: Sequence[Row], fields: set[str], options: PrepareOptions, text: str) -> str:
    """What the rows hold, by their columns and the first of them."""
    if {"task", "lang", "sections"} <= fields:
        return "pairs"
    if fields <= {text}:
        return "lines"
    facts = rows.column(list(good), "facts", rows.FACTS, options.columns)
    sample = [str(row.fields[facts]) for row in good[:50] if facts and row.fields.get(facts)]
    if sample and sum(bool(_MR.match(cell)) for cell in sample) > len(sample) / 2:
        return "mr"
    if sample and sum(attributes.looks_like(cell) for cell in sample) > len(sample) / 2:
        return "attributes"
    return "columns"


def read(source: Source, options: PrepareOptions, labels: Labels | None = None) -> tuple[list[Draft], Labels]:
    """The drafts of a source; rows that are none are added to its `unread`. `labels` are another source's names of slots."""
    labels = labels or _labels(source)
    make = _maker(source, options, labels)
    found: list[Draft] = []
    for row in source.rows:
        try:
            text = _text(row, source.text)
            lang = _lang(options.lang) or texts.language(text)
            found.append(make(row, text, lang))
        except (EdgegenError, ValueError) as error:
            source.unread.append(Unread(row.number, str(error)))
    if not found:
        raise DataError(f"No row of {source.path} makes a pair. The first: {source.unread[0].why}")
    return found, labels


def _lang(name: str | None) -> Lang | None:
    return None if name is None else "zh" if name == "zh" else "en"


def _text(row: Row, column: str) -> str:
    value = row.fields.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"Row {row.number}: the text is missing.")
    return texts.tidy(value)


def _labels(source: Source) -> Labels:
    if source.kind != "mr" or source.facts is None:
        return Labels()
    acts = list[representation.Act]()
    for row in source.rows:
        try:
            acts += representation.parse(str(row.fields.get(source.facts) or ""))
        except DataError:
            continue
    return representation.labels(acts, [str(row.fields.get(source.text) or "") for row in source.rows])


_Make = Callable[[Row, str, Lang], Draft]


def _maker(source: Source, options: PrepareOptions, labels: Labels) -> _Make:
    task, facts = options.task, source.facts or ""

    def mr(row: Row, text: str, lang: Lang) -> Draft:
        acts = representation.parse(str(row.fields.get(facts) or ""))
        request = representation.request(acts, lang, labels, task or "tell")
        return _draft(row, text, request, representation.canonical(acts), options)

    def attribute(row: Row, text: str, lang: Lang) -> Draft:
        pairs = attributes.parse(str(row.fields.get(facts) or ""))
        return _draft(row, text, attributes.request(pairs, lang, task or "tell"), attributes.canonical(pairs), options)

    def pair(row: Row, text: str, _: Lang) -> Draft:
        if row.fields.get("copy_of"):
            raise ValueError(f"Row {row.number}: a changed copy of another pair. Prepare first, and make copies of what is kept.")
        request = request_from_json(_plain(row.fields))
        text = texts.tidy(str(row.fields.get("original") or _with_values(text, request)))
        return _draft(row, text, request, _canonical(request), options)

    products = _Products(source, options)

    def product(row: Row, text: str, lang: Lang) -> Draft:
        section, identity = products.of(row, text, lang)
        named = section.get("name") is not None
        request = Request(task or ("product" if named else "tell"), lang, (section,))
        return _draft(row, text, request, _canonical(request), options, identity)

    return {"mr": mr, "attributes": attribute, "pairs": pair}.get(source.kind, product)


def _with_values(text: str, request: Request) -> str:
    """A text with slots as a reader sees it."""
    return slots.render(slots.parse(text, tasks.get(request.task).prompt(request)), request.lang)


def _plain(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: fields[key] for key in ("task", "lang", "sections", "choices") if key in fields}


def _canonical(request: Request) -> str:
    return " | ".join(
        f"{s.label}: {'; '.join(sorted(f'{f.key}={f.value}' for f in s))}" for s in request.sections
    )  # fmt: skip


def _draft(row: Row, text: str, request: Request, facts: str, options: PrepareOptions, identity: str | None = None) -> Draft:
    tasks.get(request.task).check(request)
    products = (identity,) if identity else _names(request)
    by_product = options.by == "product" or (options.by == "auto" and not request.labelled("act") and products)
    return Draft(row.number, text, request, products if by_product and products else (facts,), facts)


def _names(request: Request) -> tuple[str, ...]:
    return tuple(str(f.value) for s in request.sections if s.label == "item" for f in s if f.key == "name")


class _Products:
    """The facts that go with a row: its own columns, or those of the catalogue's product that it names."""

    def __init__(self, source: Source, options: PrepareOptions) -> None:
        self._text, self._options, self._kind = source.text, options, source.kind
        self._own: dict[Lang, catalog.ColumnMap] = {}
        self._columns = [c for c in catalog.columns_of(source.rows) if c != source.text]
        self._shop: dict[Lang, list[catalog.Product]] = {}

    def of(self, row: Row, text: str, lang: Lang) -> tuple[Section, str | None]:
        """The item's section and what identifies the product. Raises DataError for a row without facts."""
        if self._options.catalogue is not None:
            found = self._known(row, text, lang)
            return found.section, found.id
        if self._kind == "lines":
            return Section("item", ()), None
        fields = {name: value for name, value in row.fields.items() if name != self._text}
        made = catalog.product(
            _named(Row(row.number, fields), self._map(lang)), self._map(lang), lang, self._options.currency, 24
        )
        facts = tuple(fact for fact in made.section if fact.value != _NAMELESS)
        if not facts:
            raise DataError(f"Row {row.number}: no column gives a fact.")
        identity = made.id if self._map(lang).column("id") else None
        return Section("item", facts), identity

    def _map(self, lang: Lang) -> catalog.ColumnMap:
        if lang not in self._own:
            given = {key: column for key, column in self._options.columns.items() if key not in ("text", "facts")}
            try:
                self._own[lang] = catalog.guess(self._columns, given)
            except MappingError:
                if given or "name" in {schema.fold(c) for c in self._columns}:
                    raise
                self._own[lang] = catalog.guess([*self._columns, _NAME], {"name": _NAME})
        return self._own[lang]

    def _known(self, row: Row, text: str, lang: Lang) -> catalog.Product:
        """The product of the catalogue with the row's id or name, else the one that the text names; the longest name wins."""
        assert self._options.catalogue is not None  # noqa: S101 - the caller has looked
        if lang not in self._shop:
            loaded = catalog.load(self._options.catalogue, lang, currency=self._options.currency)
            self._shop[lang] = sorted(loaded.products, key=lambda p: -len(_name(p)))
        cells = {str(value).strip().casefold() for name, value in row.fields.items() if name != self._text}
        for product in self._shop[lang]:
            if product.id.casefold() in cells or _name(product).casefold() in cells:
                return product
        for product in self._shop[lang]:
            if re.search(rf"(?<![a-z0-9]){re.escape(_name(product))}(?![a-z0-9])", text, re.IGNORECASE):
                return product
        raise DataError(f"Row {row.number}: no product of the catalogue is named.")


_NAME, _NAMELESS = "name ", "-nameless-"


def _name(product: catalog.Product) -> str:
    return str(product.section.facts[0].value)


def _named(row: Row, columns: catalog.ColumnMap) -> Row:
    """The row with a name that stands for none, where the file has no column for it."""
    return Row(row.number, {**row.fields, _NAME: _NAMELESS}) if columns.column("name") == _NAME else row
