"""Made-up shops: products with facts and evidence, shoppers, queries. Draws from the lexicon; knows no sentence.

A product's split is decided by what it is: some categories, and some combinations of attributes, occur in the test and
validation sets only, so that a test product is unseen as a category or as a combination.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import Literal

from edgegen import lexicon, schema
from edgegen.domain import Fact, Kind, Lang, Section
from edgegen.lexicon import Category, Domain, Pair

Split = Literal["train", "valid", "test"]
HELD_CATEGORIES = 2  # the last ones of each domain are never in training
_HELD_SHARE = 16  # one attribute combination in so many is held out
_FOREIGN = 0.1  # share of products whose catalogue is written in the other language
_MADE_UP = 0.15  # share of attributes with invented keys and values
_COUNTS = (1, 3, 8, 20, 45, 90, 210, 480, 1200, 3600, 12000, 56000)

_EN_SYLLABLES: list[str] = re.findall(
    r"\w+",
    "al an ar bel bo ca cor da del do el en fa fer ga gro hal ir jo ka kel la lin lo mar mi mo na nor o pel ra ren sa sol "
    "ta tor u va ver wil xen yo za",
)
_ZH_NAMES = "安柏晨川岱恩帆格禾景可澜霖茂宁朴启然森拓望溪夏野悠泽知竹卓逸云和森木青禾山海星河暖素"
_UNITS: dict[str, tuple[Pair, ...]] = {
    "size": (("{} cm", "{}厘米"), ("{} inches", "{}英寸"), ("{} x {} cm", "{}×{}厘米")),
    "capacity": (("{} ml", "{}毫升"), ("{} L", "{}升"), ("{} fl oz", "{}盎司")),
    "weight": (("{} g", "{}克"), ("{} kg", "{}千克"), ("{} lb", "{}磅")),
}
_SOURCES: dict[str, tuple[Pair, ...]] = {
    "peers": (("similar shoppers", "相似顾客"), ("shoppers like you", "同好顾客"), ("collaborative filtering", "协同推荐")),
    "taste": (("your taste profile", "您的口味"), ("your past choices", "您的历史选择"), ("your preferences", "您的偏好")),
    "sales": (("sales trends", "销量走势"), ("store sales", "门店销售"), ("current demand", "近期需求")),
    "content": (("product features", "商品特点"), ("content matching", "内容匹配"), ("product details", "商品信息")),
    "reviews": (("shopper reviews", "顾客评价"), ("ratings", "评分数据")),
}  # fmt: skip


Maker = Callable[[], list[Fact]]


@dataclass(frozen=True, slots=True)
class World:
    """A source of products in one language for one split. All draws come from `rng`."""

    rng: Random
    lang: Lang
    split: Split

    def domain(self) -> Domain:
        """A random retail domain."""
        return self.rng.choice(list(lexicon.domains().values()))

    def category(self, domain: Domain) -> Category:
        """A category; the held-out ones in half of the held-out draws and never in training."""
        held = self.split != "train" and self.rng.random() < 0.5
        return self.rng.choice(domain.categories[-HELD_CATEGORIES:] if held else domain.categories[:-HELD_CATEGORIES])

    def name(self, category: Category | None = None) -> str:
        """A made-up product name, often with a model number."""
        rng = self.rng
        if self.lang == "zh":
            base = "".join(rng.choices(_ZH_NAMES, k=2))
            kind = lexicon.pick(category.word, "zh") if category else ""
            return base + rng.choice(["", f"{rng.randint(2, 900)}", rng.choice(_ZH_NAMES)]) + kind
        base = "".join(rng.choices(_EN_SYLLABLES, k=rng.randint(2, 3))).title()
        kind = f" {lexicon.pick(category.word, 'en').title()}" if category else ""
        return base + rng.choice(["", f" {rng.randint(2, 900)}", " " + rng.choice(_EN_SYLLABLES).title()]) + kind

    def brand(self) -> str:
        """A made-up brand."""
        return "".join(self.rng.choices(_ZH_NAMES, k=2) if self.lang == "zh" else self.rng.choices(_EN_SYLLABLES, k=2)).title()

    def product(self, domain: Domain, fewest: int, most: int, evidence: float = 0.5) -> tuple[Category, list[Fact]]:
        """A product with `fewest` to `most` facts beside its name; `evidence` is the share of reasons to recommend it."""
        while True:
            category = self.category(domain)
            facts = self._facts(domain, category, self.rng.randint(fewest, most), evidence)
            if self._belongs(category, domain, facts):
                return category, facts

    def _belongs(self, category: Category, domain: Domain, facts: Sequence[Fact]) -> bool:
        if category in domain.categories[-HELD_CATEGORIES:]:
            return self.split != "train"
        combo = sorted(f"{f.key}={f.value}" for f in facts if f.kind in (Kind.PHRASE, Kind.FLAG))
        held = hashlib.sha256(f"{domain.id}|{combo}".encode()).digest()[0] % _HELD_SHARE == 0
        return held == (self.split != "train")

    def _facts(self, domain: Domain, category: Category, count: int, evidence: float) -> list[Fact]:
        rng = self.rng
        lang = self.lang if rng.random() > _FOREIGN else ("en" if self.lang == "zh" else "zh")
        name = Fact("name", self.name(category), Kind.TEXT)
        facts = [] if rng.random() < 0.06 else [Fact("category", lexicon.pick(category.word, lang), Kind.PHRASE)]
        makers = self._evidence_makers(domain, category) + self._product_makers(domain, category, lang)
        split = len(makers) - len(self._product_makers(domain, category, lang))
        share = min(max(evidence, 0.001), 0.999)
        weights = [share / split] * split + [(1 - share) / (len(makers) - split)] * (len(makers) - split)
        seen: set[str] = {"name", "category"}
        for make in _sample(rng, makers, weights, count):
            for fact in make():
                if fact.key not in seen or fact.key in ("feature", "criterion", "likes"):
                    facts.append(fact)
                    seen.add(fact.key)
        if rng.random() < 0.6:
            rng.shuffle(facts)
        facts = _distinct(facts)
        facts.insert(0 if rng.random() < 0.85 else rng.randint(0, len(facts)), name)
        return facts

    def _product_makers(self, domain: Domain, category: Category, lang: Lang) -> list[Maker]:
        keys = ("material", "color", "style", "flavor", "scent", "season", "origin", "audience", "occasion",
                "feature", "feature", "feature", "warranty", "shipping", "returns")  # fmt: skip
        attribute: Maker = partial(self._attribute, domain, lang)
        flag: Maker = partial(self._flag, domain, lang)
        price: Maker = partial(self._price, category)
        tags: Maker = partial(self._tags, domain, lang)
        stock: Maker = partial(self._count, "stock")
        phrases: list[Maker] = [partial(self.several, domain, key, 1, 1, lang) for key in keys if key in domain.phrases]
        measures: list[Maker] = [partial(self._measure, key) for key in _UNITS]
        return [*phrases, *[attribute] * 4, *[flag] * 4, *measures, self._maker, price, price, tags, stock]

    def _evidence_makers(self, domain: Domain, category: Category) -> list[Maker]:
        rng = self.rng
        return [
            lambda: [_levelled("similar_shoppers", Decimal(rng.randint(12, 97)), Kind.PERCENT)],
            lambda: [Fact("also_bought", self._other(category), Kind.TEXT)],
            lambda: [Fact("liked", self._other(category), Kind.TEXT)],
            lambda: [Fact("bought", self._other(category), Kind.TEXT)],
            lambda: [Fact("viewed", self._other(category), Kind.TEXT)],
            lambda: [self._match(domain)],
            lambda: [Fact("quote", self._quote(domain), Kind.TEXT)],
            lambda: [Fact("trending", True, Kind.FLAG)],
            lambda: [Fact("new", True, Kind.FLAG)],
            lambda: [Fact("released", date(2026, 1, 1) + timedelta(rng.randint(0, 320)), Kind.DATE)],
            lambda: self._count("sales"),
            lambda: [self._rating()],
            lambda: [self._rating()],
            lambda: self._count("reviews"),
            lambda: [_levelled("discount", Decimal(rng.choice([3, 5, 8, 10, 12.5, 15, 20, 25, 30, 40, 50])), Kind.DISCOUNT)],
            lambda: [Fact("was_price", self._amount(category), Kind.MONEY, currency=self._currency())],
        ]

    def _other(self, category: Category) -> str:
        return self.name(category if self.rng.random() < 0.5 else None)

    def _match(self, domain: Domain) -> Fact:
        key = self.rng.choice([k for k in ("feature", "material", "style", "color") if k in domain.phrases])
        return Fact("match", lexicon.pick(self.rng.choice(domain.phrases[key]), self.lang), Kind.PHRASE)

    def _quote(self, domain: Domain) -> str:
        point = lexicon.pick(self.rng.choice(domain.phrases["point"]), self.lang)
        return point if self.lang == "zh" else point[:1].upper() + point[1:]

    def _maker(self) -> list[Fact]:
        return [Fact("brand", self.brand(), Kind.TEXT)]

    def _attribute(self, domain: Domain, lang: Lang) -> list[Fact]:
        rng = self.rng
        pair, values = rng.choice(domain.attributes)
        label, value = lexicon.pick(pair, lang), lexicon.pick(rng.choice(values), lang)
        if rng.random() < _MADE_UP:
            label = self._invented() if rng.random() < 0.5 else lexicon.pick(rng.choice(self.domain().attributes)[0], lang)
            value = rng.choice([self._invented(), f"{rng.randint(2, 400)} {self._invented()}", str(rng.randint(2, 999))])
        return [Fact(slug(label), value, Kind.PHRASE, label=label)]

    def _invented(self) -> str:
        return "".join(self.rng.choices(_ZH_NAMES, k=2)) if self.lang == "zh" else "".join(self.rng.choices(_EN_SYLLABLES, k=2))

    def _flag(self, domain: Domain, lang: Lang) -> list[Fact]:
        flag = self.rng.choice(domain.flags)
        label = lexicon.pick(flag.word, lang)
        return [Fact(f"{flag.form}_{slug(label)}", self.rng.random() < 0.65, Kind.FLAG, label=label)]

    def _measure(self, key: str) -> list[Fact]:
        rng = self.rng
        form = lexicon.pick(rng.choice(_UNITS[key]), self.lang)
        numbers = [rng.choice([rng.randint(2, 90), rng.randint(100, 990), round(rng.uniform(0.3, 9.9), 1)]) for _ in range(2)]
        return [Fact(key, form.format(*numbers), Kind.MEASURE)]

    def _currency(self) -> str:
        return "CNY" if self.lang == "zh" else self.rng.choice(["USD", "USD", "USD", "EUR", "GBP"])

    def _amount(self, category: Category, place: float | None = None) -> Decimal:
        low, high = category.price
        amount = low + (high - low) * (self.rng.random() if place is None else place)
        if self.lang == "zh":
            return Decimal(max(1, round(amount * 6)))
        return Decimal(max(1, round(amount))) - self.rng.choice([Decimal(0), Decimal("0.01"), Decimal("0.05"), Decimal("0.5")])

    def _price(self, category: Category) -> list[Fact]:
        place = self.rng.random()
        level = schema.thirds(place) if self.rng.random() < 0.7 else None
        return [Fact("price", self._amount(category, place), Kind.MONEY, level=level, currency=self._currency())]

    def _rating(self) -> Fact:
        return _levelled("rating", Decimal(str(round(min(5.0, max(1.5, self.rng.gauss(4.2, 0.6))), 1))), Kind.RATING)

    def _count(self, key: str) -> list[Fact]:
        return [_levelled(key, Decimal(max(1, int(self.rng.choice(_COUNTS) * self.rng.uniform(0.6, 1.4)))), Kind.COUNT)]

    def _tags(self, domain: Domain, lang: Lang) -> list[Fact]:
        pool = [lexicon.pick(p, lang) for key in ("style", "material", "occasion", "season") for p in domain.phrases.get(key, ())]
        chosen = self.rng.sample(pool, min(len(pool), self.rng.randint(2, 3)))
        return [Fact("tags", tuple(chosen), Kind.LIST)] if chosen else []

    def price_span(self, domain: Domain) -> list[Fact]:
        """How many products a category has, its lowest and its highest price."""
        currency, category = self._currency(), self.rng.choice(domain.categories)
        low, high = sorted((self._amount(category, self.rng.uniform(0, 0.4)), self._amount(category, self.rng.uniform(0.6, 1))))
        span = [Fact("lowest", low, Kind.MONEY, currency=currency), Fact("highest", high, Kind.MONEY, currency=currency)]
        return [Fact("products", Decimal(self.rng.randint(4, 240)), Kind.COUNT), *span]

    def several(self, domain: Domain, key: str, least: int, most: int, lang: Lang | None = None) -> list[Fact]:
        """`least` to `most` different phrase facts with one key."""
        pairs = domain.phrases.get(key, ())
        drawn = self.rng.sample(pairs, min(len(pairs), self.rng.randint(least, most)))
        return [Fact(key, lexicon.pick(pair, lang or self.lang), Kind.PHRASE) for pair in drawn]

    def budget(self) -> Fact:
        """What a shopper wants to spend."""
        return Fact("budget", Decimal(self.rng.randint(2, 80) * 10), Kind.MONEY, currency=self._currency())

    def shopper(self, domain: Domain) -> Section:
        """A shopper's profile: some of likes, need, budget."""
        facts = self.several(domain, "likes", 0, 2)
        facts += self.several(domain, "need", 1, 1) if self.rng.random() < 0.5 else []
        if self.rng.random() < 0.3 or not facts:
            facts.append(self.budget())
        return Section("shopper", tuple(facts))

    def sources(self, domain: Domain) -> list[Section]:
        """Two to four recommenders, each with its own evidence."""
        rng, makers = self.rng, self._evidence_makers(domain, self.rng.choice(domain.categories))
        by = {"peers": (0, 1), "taste": (2, 3, 4, 5), "sales": (7, 10, 14), "content": (), "reviews": (6, 11, 13)}
        sections = []
        for kind in rng.sample(list(by), rng.randint(2, 4)):
            source = Fact("source", lexicon.pick(rng.choice(_SOURCES[kind]), self.lang), Kind.PHRASE)
            evidence = self.several(domain, "feature", 1, 1) if kind == "content" else makers[rng.choice(by[kind])]()
            sections.append(Section("by", (source, *evidence)))
        return sections

    def reasons(self, domain: Domain) -> list[Section]:
        """Three to eight praised points, most with the number of shoppers who said so."""
        points = self.several(domain, "point", 3, 8)
        votes = sorted((self._count("votes")[0] for _ in points), key=lambda f: -Decimal(str(f.value)))
        return [Section("reason", (p, v) if self.rng.random() < 0.8 else (p,)) for p, v in zip(points, votes, strict=True)]

    def aspects(self, domain: Domain) -> Section:
        """A shopper's own stars for two to five aspects."""
        facts = []
        for label in self.several(domain, "aspect", 2, 5):
            stars = Decimal(self.rng.choice([1, 2, 3, 4, 4, 5, 5]))
            text = str(label.value)
            facts.append(Fact(slug(text), stars, Kind.ASPECT, label=text, level=schema.aspect_level(stars, Decimal(5))))
        return Section("ratings", tuple(facts))


def _sample(rng: Random, makers: Sequence[Maker], weights: Sequence[float], count: int) -> list[Maker]:
    order = sorted(range(len(makers)), key=lambda i: rng.random() ** (1 / weights[i]), reverse=True)
    return [makers[i] for i in order[:count]]


def _distinct(facts: list[Fact]) -> list[Fact]:
    return list({(f.key, str(f.value)): f for f in facts}.values())


def _levelled(key: str, value: Decimal, kind: Kind) -> Fact:
    return Fact(key, value, kind, level=schema.known()[key].level(value))


def slug(label: str) -> str:
    """A key made of a label."""
    return re.sub(r"\W+", "_", label.casefold()).strip("_") or "attribute"
