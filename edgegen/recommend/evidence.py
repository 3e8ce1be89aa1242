"""The evidence of each recommender, as sections for the joint task. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edgegen.domain import Fact, Kind, Lang, Section

SOURCES: Mapping[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "peers": (("similar shoppers", "相似顾客"), ("similar_shoppers", "also_bought")),
    "taste": (("your preferences", "您的偏好"), ("liked", "bought", "viewed", "match")),
    "sales": (("sales trends", "销量走势"), ("sales", "trending")),
    "reviews": (("shopper reviews", "顾客评价"), ("quote", "reviews", "rating")),
    "content": (("product features", "商品特点"), ("feature", "material")),
}
"""Recommender -> its name in English and Chinese, and the keys of its evidence, strongest first."""


def by_source(item: Section, lang: Lang, most: int = 4) -> tuple[Section, list[Section]]:
    """The item without its evidence, and a section `by` for each recommender that has some (at most `most`)."""
    taken: list[Fact] = []
    sections: list[Section] = []
    for names, keys in SOURCES.values():
        found = next((f for key in keys for f in item if f.key == key and f.value is not False), None)
        if found is not None and len(sections) < most:
            taken.append(found)
            sections.append(Section("by", (Fact("source", names[lang == "zh"], Kind.PHRASE), found)))
    rest = tuple(f for f in item if not any(f is t for t in taken))
    return Section(item.label, rest), sections
