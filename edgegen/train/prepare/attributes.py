"""Attribute strings: `类型#上衣*材质#牛仔布*颜色#白色`, as facts of one product. Source of the format: AdvertiseGen.

The kind of product steers the text (section `act`): a text shows it in a hundred words, hardly ever in the attribute's own.
"""

from __future__ import annotations

from edgegen import catalog_columns as names
from edgegen import schema
from edgegen.domain import Fact, Lang, Request, Section
from edgegen.errors import DataError
from edgegen.train.prepare import representation

BETWEEN, WITHIN = "*", "#"
_KNOWN = frozenset({*names.ORDER, names.LAST})


def looks_like(text: str) -> bool:
    """Whether a text is an attribute string."""
    parts = text.split(BETWEEN)
    return all(part.count(WITHIN) == 1 and not part.startswith(WITHIN) for part in parts)


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """Attributes and their values in order, each once. Raises DataError for what is no attribute string."""
    if not looks_like(text.strip()):
        raise DataError(f"{text[:60]!r} holds no attributes. Write attribute#value*attribute#value.")
    pairs = (part.split(WITHIN) for part in text.strip().split(BETWEEN))
    return tuple(dict.fromkeys((key.strip(), value.strip()) for key, value in pairs if value.strip()))


def request(pairs: tuple[tuple[str, str], ...], lang: Lang, task: str) -> Request:
    """The request that an attribute string asks for."""
    facts = [_fact(key, value, lang) for key, value in pairs]
    steers = tuple(fact for fact in facts if fact.key == "category" and task == "tell")
    item = Section("item", tuple(fact for fact in facts if fact not in steers))
    return Request(task, lang, (Section("act", steers), item) if steers else (item,))


def canonical(pairs: tuple[tuple[str, str], ...]) -> str:
    """One text for all strings of the same attributes, whatever their order."""
    return BETWEEN.join(sorted(f"{key}{WITHIN}{value}" for key, value in pairs))


def _fact(key: str, value: str, lang: Lang) -> Fact:
    known = schema.alias_table().get(schema.fold(key), "")
    if known in _KNOWN:
        return representation.valued(known, value, None, lang)
    return representation.valued(names.slug(key), value, key, lang)
