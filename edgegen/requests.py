"""From catalogue products to requests: which sections each task gets. Pure; every front end builds its requests here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from edgegen import schema, tasks
from edgegen.catalog import Product
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.errors import DataError, UsageError
from edgegen.recommend import evidence

_GENERAL = frozenset({
    "home", "appliance", "gear", "gadget", "product", "item", "material", "style", "packaging", "care",
    "everyday", "daily", "use", "set", "first", "long", "light", "small", "large", "家电", "电器", "装备", "用品",
    "产品", "材质", "风格", "包装", "护理", "日常",
})  # fmt: skip
"""Words that a wish and a product may share without having to do with each other."""
_HISTORY = frozenset({"liked", "bought", "viewed", "match"})  # what a shopper did or likes
GROUP = 3  # products in one list or guide
FOUND = 4  # products in the answer to a search
_WORD = re.compile(r"[a-z]{3,}")
_HAN = re.compile(r"[一-鿿]{2,}")
_SINGLE = ("name", "category", "price", "rating", "feature", "discount", "material", "similar_shoppers")


@dataclass(frozen=True, slots=True)
class Context:
    """What beside the products a request may draw on."""

    lang: Lang
    shopper: Section | None = None
    query: str | None = None
    topic: str | None = None
    paths: tuple[str, ...] = ()
    catalogue: Sequence[Product] = ()
    """All that the shop sells, for figures on a whole category; where it is not known, none are given."""


PASSED_OVER: Mapping[str, str] = {
    "personal": "nothing known of the shopper goes with the product: no purchase of theirs, no budget that it is within, no "
    "liking or need that shares a word with it",
    "joint": "it has no evidence of two recommenders",
    "summary": "fewer than three points are known that shoppers praise (`praised`)",
    "review": "no stars of a shopper's own are known (`own_ratings`)",
    "category": "no category paths to choose from are known",
    "list": "fewer than two products are of one category",
    "guide": "fewer than two products are of one category",
    "search": "no query is given, and fewer than two products are of one category",
}
"""Why `build` passes a product over, by task."""


def build(task: str, products: Sequence[Product], context: Context) -> Iterator[tuple[str, Request]]:
    """Requests of one task with the id each answers for: one a product, or one a group of its category.

    Raises UsageError where the context lacks what the task needs. A product that has too few facts for the task is
    passed over.
    """
    if task in ("list", "search", "guide"):
        found = [_matching(products, context.query)] if task == "search" and context.query else _groups(products)
        for group in found:
            yield ",".join(p.id for p in group), _grouped(task, group, context)
        return
    if task == "personal" and context.shopper is None:
        raise UsageError("Task 'personal' needs a shopper.", lacks="shopper")
    for product in products:
        request = _single(task, product, context)
        if request is not None:
            yield product.id, request


def _single(task: str, product: Product, context: Context) -> Request | None:
    item, lang = product.section, context.lang
    if task == "joint":
        rest, sources = evidence.by_source(item, lang)
        return Request(task, lang, (rest, *sources)) if len(sources) > 1 else None
    if task == "summary":
        about = _only(item, "name", "category", "brand")
        return Request(task, lang, (about, *product.reasons)) if len(product.reasons) > 2 else None
    if task == "review":
        ratings = Section("ratings", product.ratings)
        return Request(task, lang, (_only(item, "name", "category"), ratings)) if ratings.facts else None
    if task == "category":
        return _category(item, context)
    if task == "personal":
        assert context.shopper is not None  # noqa: S101 - checked in build
        sections = _personal(item, context.shopper)
        told = any(fact.key in tasks.get(task).any_of for section in sections for fact in section)
        return Request(task, lang, sections) if told else None
    return Request(task, lang, (item,))


def _personal(item: Section, shopper: Section) -> tuple[Section, Section]:
    """The item with the evidence that is this shopper's, and what of the profile goes with the item.

    A catalogue row says what was found for somebody; of it, only what the shopper's own history bears out is kept. A wish that
    shares no word with the product is not told of it: "for you, who like quiet appliances: a yoga mat" is no reason.
    """
    bought = [str(f.value) for f in shopper if f.key == "bought"]
    likes = [str(f.value).casefold() for f in shopper if f.key == "likes"]
    kept = [f for f in item if f.key not in _HISTORY or str(f.value) in bought or str(f.value).casefold() in likes]
    companion = item.get("also_bought")
    if companion and companion.value in bought and not any(f.key == "bought" for f in kept):
        kept = [f for f in kept if f is not companion] + [Fact("bought", companion.value, Kind.TEXT)]
    words = _units(" ".join(f"{f.label or ''} {f.value}" for f in item if f.value is not False))
    words -= _GENERAL
    profile = [f for f in shopper if f.key in ("likes", "need") and words & _units(str(f.value))]
    profile += [f for f in shopper if f.key == "budget" and _affords(f, [item])]
    return Section(item.label, tuple(kept)), Section("shopper", tuple(profile))


def _affords(budget: Fact, items: Sequence[Section]) -> bool:
    """Whether each item has a price within the budget."""
    prices = [item.get("price") for item in items]
    return all(p is not None and p.currency == budget.currency and _amount(p) <= _amount(budget) for p in prices)


def _only(item: Section, *keys: str) -> Section:
    return Section(item.label, tuple(f for f in item if f.key in keys))


def _category(item: Section, context: Context) -> Request | None:
    name = item.get("name")
    if name is None or not context.paths:
        return None
    words = Fact("title_words", str(name.value), Kind.PHRASE)
    rest = tuple(f for f in item if f.kind is Kind.PHRASE and f.key != "category")
    return Request("category", context.lang, (Section("item", (words, *rest)),), context.paths)


def _matching(products: Sequence[Product], query: str) -> list[Product]:
    """The products a search is answered with: all where they are few, else those that share most words with the query.

    Raises UsageError where none shares any.
    """
    if len(products) <= FOUND:
        return list(products)
    wanted = _units(query)
    shared = {p.id: len(wanted & _units(" ".join(str(f.value) for f in p.section))) for p in products}
    best = sorted((p for p in products if shared[p.id]), key=lambda p: -shared[p.id])
    if not best:
        raise UsageError(f"No product has a word of the search {query!r}. Search for something the catalogue holds.", "query")
    return [p for p in best if 2 * shared[p.id] > shared[best[0].id]][:FOUND]


def _units(text: str) -> set[str]:
    """What two texts may share: words of three letters or more without a plural s, pairs of Chinese characters."""
    words = {word.removesuffix("s") for word in _WORD.findall(text.casefold())} - {"and", "for", "the", "with"}
    return words | {a + b for run in _HAN.findall(text) for a, b in pairwise(run)}


def _groups(products: Sequence[Product]) -> Iterator[list[Product]]:
    by_category: dict[str, list[Product]] = {}
    for product in products:
        category = product.section.get("category")
        by_category.setdefault(str(category.value) if category else "", []).append(product)
    for group in by_category.values():
        for at in range(0, len(group), GROUP):
            found = group[at : at + GROUP]
            if len(found) > 1:
                yield found


def _grouped(task: str, group: Sequence[Product], context: Context) -> Request:
    items = tuple(Section("item", _few(p.section)) for p in group)
    category = group[0].section.get("category")
    if task == "list":
        return Request(task, context.lang, (*_list_head(context, [p.section for p in group]), *items))
    if task == "search":
        query = context.query or (str(category.value) if category else "")
        if not query:
            raise UsageError("Task 'search' needs what was searched for.", lacks="query")
        return Request(task, context.lang, (Section("query", (Fact("query", query, Kind.TEXT),)), *items))
    if category is None:
        raise DataError("Task 'guide' needs products with a category.", lacks="category")
    return Request(task, context.lang, (Section("guide", _guide_facts(category, group, context)), *items))


def _few(section: Section, most: int = 5) -> tuple[Fact, ...]:
    ranked = [f for key in _SINGLE for f in section if f.key == key]
    rest = [f for f in section if f.key not in _SINGLE]
    return tuple((ranked + rest)[:most])


def _list_head(context: Context, items: Sequence[Section]) -> tuple[Section, ...]:
    """What the list is for; a budget where no item is beyond it."""
    facts = [Fact("topic", context.topic, Kind.PHRASE)] if context.topic else []
    if context.shopper and (budget := context.shopper.get("budget")) and _affords(budget, items):
        facts.append(budget)
    return (Section("list", tuple(facts)),) if facts else ()


def _guide_facts(category: Fact, group: Sequence[Product], context: Context) -> tuple[Fact, ...]:
    labels = [f.label for p in group for f in p.section if f.label and f.kind is not Kind.FLAG]
    known = [k for k in ("material", "size", "price", "rating", "warranty") if any(p.section.get(k) for p in group)]
    labels += [schema.known()[k].label(context.lang) for k in known]
    criteria = [Fact("criterion", label, Kind.PHRASE) for label in dict.fromkeys(labels)][:3]
    whole = [p for p in context.catalogue if (found := p.section.get("category")) and found.value == category.value]
    return (category, *criteria, *(_span(whole) if len(whole) > 1 else ()))


def _span(products: Sequence[Product]) -> Iterator[Fact]:
    """How many products there are, and the lowest and the highest price where all are priced in one currency."""
    yield Fact("products", Decimal(len(products)), Kind.COUNT)
    prices = [f for p in products if (f := p.section.get("price")) and isinstance(f.value, Decimal)]
    if len(prices) == len(products) and len({f.currency for f in prices}) == 1:
        low, high = min(prices, key=_amount), max(prices, key=_amount)
        if _amount(low) < _amount(high):
            yield Fact("lowest", low.value, Kind.MONEY, currency=low.currency)
            yield Fact("highest", high.value, Kind.MONEY, currency=high.currency)


def _amount(fact: Fact) -> Decimal:
    return fact.value if isinstance(fact.value, Decimal) else Decimal(0)
