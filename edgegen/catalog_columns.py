"""The names of a catalogue's columns: which fact each is, its unit, its label, what a yes-or-no column says.

Knows the schema's aliases and the lexicon's flags, and no row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from babel.numbers import is_currency

from edgegen import catalog_read as cells
from edgegen import lexicon, schema
from edgegen.catalog_read import Row
from edgegen.domain import Kind, Lang
from edgegen.errors import MappingError

ORDER = (
    "name", "category", "similar_shoppers", "liked", "bought", "viewed", "match", "also_bought", "quote", "trending", "new",
    "sales", "rating", "reviews", "discount", "price", "was_price", "feature", "brand", "material", "color", "style", "flavor",
    "scent", "size", "capacity", "weight", "audience", "occasion", "season", "origin", "warranty", "shipping", "returns",
    "released", "tags",
)  # fmt: skip
LAST = "stock"  # comes after attributes and flags: it says least about the product
# Columns that are not facts themselves.
_COLUMNS = {
    "id": ("product id", "item id", "sku", "asin", "编号", "商品编号", "商品id", "货号"),
    "category_path": ("breadcrumb", "breadcrumbs", "taxonomy", "类目路径", "分类路径"),
    "sale_price": ("special price", "promo price", "discounted price", "促销价", "活动价", "特价", "券后价"),
    "currency": ("currency code", "币种", "货币"),
    "praised": ("praised for", "shoppers praise", "praise", "顾客称赞", "称赞"),
    "own_ratings": ("my ratings", "aspect ratings", "我的评分", "各项评分"),
}
_MORE_ALIASES = {"dimensions": "size", "尺寸长宽高": "size"}
_MEASURES = frozenset((
    "mg", "g", "kg", "lb", "lbs", "oz", "ml", "cl", "l", "mm", "cm", "m", "in", "inch", "inches", "ft", "w", "v", "mah", "wh",
    "mb", "gb", "tb", "hz", "%", "克", "千克", "公斤", "斤", "毫升", "升", "毫米", "厘米", "米", "英寸", "瓦", "伏",
))  # fmt: skip
_BRACKETED = re.compile(r"(.*?)\s*[(（]\s*([^()（）]+?)\s*[)）]\s*")
_STATUS = re.compile(r"(?<=\w) (?:status|information|info)$")
_ACRONYM = re.compile(r"(?=.*[A-Z]{2})(?![A-Z]{5,}$)")  # BPA-free, USB-C, RAM, but not COLOR
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")
JUNK = re.compile(
    r"(?:^| )(?:id|ids|uuid|guid|sku|skus|upc|ean|gtin|mpn|asin|isbn|barcode|url|uri|href|link|links|slug|html|email|hash|"
    r"images?|img|imgs|thumbnails?|pictures?|photos?|timestamp)$|^(?:meta|seo|created|updated)(?: |$)|"
    r"(?:编号|编码|条码|条形码|货号|链接|网址|图片|主图|邮箱)$|"
    # What the shop pays and earns is not for its shoppers.
    r"(?<!shipping )(?<!delivery )(?<!low )(?<!low-)\b(?:unit)?costs?(?:price)?\b(?![ -](?:effective|efficient|saving))|"
    r"\b(?:wholesale|margins?|markup|profits?|cogs)\b|\b(?:purchase|supplier|dealer|trade) price|"
    r"成本|进货?价|批发价|采购价|供货价|毛利|利润",
    re.IGNORECASE,
)
_IS = re.compile(
    r".*(?:\w{3}(?:able|ible)|proof|free|less|\w\w[^\We]ed|safe|friendly|resistant|\w-\w+ing|organic|vegan|vegetarian|"
    r"magnetic|automatic|hypoallergenic|electric|handmade|silent|natural|halal|kosher|based|tight)"
    r"|(?:可|防|无|免|不(?!锈)|耐|抗|速|有机|纯|手工|全自动|便携|静音|环保|素食).*",
    re.IGNORECASE,
)
_HAS_START = re.compile(r"(?:has|with|includes?) +(?=\S)|是否[有带含]|(?:带有?|配有|附带?)(?=.)", re.IGNORECASE)
_IS_START = re.compile(r"is +(?=\S)|是否(?=.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Which column is which fact: `keys` column -> fact key (or id, sale_price and others), `units` column -> unit.

    A column that is in neither becomes an attribute under its own name.
    """

    keys: Mapping[str, str]
    units: Mapping[str, str]

    def column(self, key: str) -> str | None:
        """The first column of a key."""
        return next((column for column, known in self.keys.items() if known == key), None)


@cache
def known_keys() -> tuple[str, ...]:
    """The fact keys that a column can be mapped to."""
    return (*ORDER, LAST, *_COLUMNS)


@cache
def _aliases() -> Mapping[str, tuple[str, int]]:
    """Folded column name -> key and rank: the key's own name ranks first, then its aliases, then its labels."""
    table: dict[str, tuple[str, int]] = {}
    for key in known_keys():
        known = schema.known().get(key)
        aliases = (*known.aliases, *known.labels.values()) if known else _COLUMNS[key]
        for rank, alias in enumerate((key, *aliases)):
            table.setdefault(schema.fold(alias), (key, rank))
    return table | {schema.fold(name): (key, 99) for name, key in _MORE_ALIASES.items()}


def guess(columns: Sequence[str], overrides: Mapping[str, str] | None = None) -> ColumnMap:
    """Which column is which fact, by the schema's aliases; `overrides` says key -> column and wins.

    Raises MappingError for an override with an unknown key or column, and where no column is the name.
    """
    overrides = overrides or {}
    for key, column in overrides.items():
        if key not in known_keys():
            raise MappingError(f"Unknown fact key {key!r} in {key}={column}. Known: {', '.join(known_keys())}.")
        if column not in columns:
            raise MappingError(f"Unknown column {column!r} in {key}={column}. Columns: {', '.join(columns)}.")
    found = {column: key for key, column in overrides.items()}
    if len(found) < len(overrides):
        raise MappingError("A column can be one fact only. Name another column for one of the facts.")
    units = {column: unit for column in columns if (unit := split_unit(column)[1])}
    for _, key, column in sorted(_candidates(columns), key=lambda c: c[0]):
        if column not in found and (key == "feature" or key not in found.values()):
            found[column] = key
    if "name" not in found.values():
        raise MappingError(f"No column is the product's name. Columns: {', '.join(columns) or 'none'}.", lacks="name")
    return ColumnMap({c: found[c] for c in columns if c in found}, units)


def _candidates(columns: Iterable[str]) -> Iterable[tuple[int, str, str]]:
    for column in columns:
        base, _ = split_unit(column)
        folded = schema.fold(base)
        key, rank = _aliases().get(folded) or _aliases().get(folded.rstrip("0123456789")) or ("", 0)
        if key and (folded in _aliases() or key == "feature"):
            yield rank, key, column


def split_unit(column: str) -> tuple[str, str]:
    """`weight (kg)` and `weight_kg` -> weight, kg; the latter only where what is left is a known column."""
    if match := _BRACKETED.fullmatch(column):
        unit = match[2]
        return (match[1], unit) if unit.casefold() in _MEASURES or is_currency(unit.upper()) else (column, "")
    base, _, unit = _CAMEL.sub(" ", column).strip().rpartition(" ")
    key = _aliases().get(schema.fold(base), ("", 0))[0]
    known = schema.known().get(key)
    kind = known.kind if known else Kind.MONEY if key == "sale_price" else None
    fits = (kind is Kind.MEASURE and unit.casefold() in _MEASURES) or (kind is Kind.MONEY and is_currency(unit.upper()))
    return (base, unit) if fits else (column, "")


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Every column that occurs, in order of first sight."""
    return tuple(dict.fromkeys(column for row in rows for column in row.fields))


# --- labels


def label(column: str) -> str:
    """A column's name as words: `minimumOrderQuantity` -> `minimum order quantity`; acronyms stay as they are."""
    words = _CAMEL.sub(" ", cells.clean(column)).split()
    shout = len(words) > 1 and all(word.isupper() for word in words)
    text = " ".join(word if not shout and _ACRONYM.match(word) else word.lower() for word in words)
    return _STATUS.sub("", text)


def slug(text: str) -> str:
    """A fact key made of a label, and never one that the schema knows."""
    key = re.sub(r"\W+", "_", text.casefold()).strip("_") or "attribute"
    return f"{key}_attribute" if schema.known().get(key) else key


@cache
def spelled(lang: Lang) -> Mapping[str, str]:
    """The lexicon's words of either language, case-folded -> as `lang` spells them."""
    known = lexicon.translations(lang)
    return {word.casefold(): word for word in known.values()} | dict(known)


@cache
def _flags(lang: Lang) -> Mapping[str, tuple[str, str]]:
    """The lexicon's flags, case-folded in either language -> form and word in `lang`."""
    flags = [flag for domain in lexicon.domains().values() for flag in domain.flags]
    return {word.casefold(): (flag.form, lexicon.pick(flag.word, lang)) for flag in reversed(flags) for word in flag.word}


def flag(text: str, value: object, lang: Lang) -> tuple[str, str]:
    """What a yes-or-no column says: `is` or `has`, and the words, in `lang` where the lexicon knows them.

    The lexicon decides first, then the column's own `is` or `has`, then a cell that says 有 or 无, then the last word.
    """
    if known := _flags(lang).get(text.casefold()):
        return known
    has, is_ = _HAS_START.match(text), _IS_START.match(text)
    start = has or is_
    bare = text[start.end() :] if start else text
    if known := _flags(lang).get(bare.casefold()):
        return known
    words = spelled(lang).get(bare.casefold(), bare)
    if has or value in ("有", "无", "没有"):
        return "has", words
    return "is" if is_ or _IS.fullmatch(bare) else "has", words
