"""The catalogue that a server knows: products by id and shoppers by id, in one language. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgegen import catalog, locale, schema
from edgegen.catalog import Product
from edgegen.domain import LANGS, Fact, Kind, Lang, Section
from edgegen.errors import NotFoundError


@dataclass(frozen=True)
class Shop:
    """Products and shoppers in one language."""

    lang: Lang
    products: tuple[Product, ...]
    shoppers: Mapping[str, Section] = field(default_factory=dict)
    served: bool = True
    """Whether there is a catalogue in this language at all; rows can be told in any."""

    @cached_property
    def by_id(self) -> Mapping[str, Product]:
        """The products by their ids."""
        return {product.id: product for product in self.products}

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The shop's category tree."""
        return catalog.paths(self.products)

    def product(self, id_: str) -> Product:
        """The product with an id. Raises NotFoundError."""
        self._check_served()
        if id_ not in self.by_id:
            raise NotFoundError(f"There is no product {id_!r} in the served catalogue. GET /v1/products lists them.")
        return self.by_id[id_]

    def shopper(self, id_: str) -> Section:
        """The shopper with an id. Raises NotFoundError."""
        self._check_served()
        if id_ not in self.shoppers:
            raise NotFoundError(f"There is no shopper {id_!r}. Known: {', '.join(self.shoppers) or 'none'}.")
        return self.shoppers[id_]

    def _check_served(self) -> None:
        if not self.served:
            raise NotFoundError(
                f"No catalogue is served in language {self.lang!r}, so nothing has an id there. GET /v1/products says which "
                "languages are served; give the row itself for any other.",
                "lang",
            )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: each product with its facts as people read them."""
        products = [
            {"id": p.id, "name": _name(p), "facts": [fact_json(fact, self.lang) for fact in p.section]} for p in self.products
        ]
        return {"lang": self.lang, "products": products, "shoppers": list(self.shoppers)}


def _name(product: Product) -> str:
    name = product.section.get("name")
    return str(name.value) if name else product.id


def fact_json(fact: Fact, lang: Lang) -> dict[str, str]:
    """A fact as people read it: key, label and text."""
    known = schema.known().get(fact.key)
    label = fact.label or (known.label(lang) if known else fact.key)
    text = locale.value_text(fact, lang)
    return {"key": fact.key, "label": label, "text": f"{text}%" if fact.kind is Kind.PERCENT and "%" not in text else text}


def sample_shops() -> dict[Lang, Shop]:
    """The sample catalogue in every language."""
    return {lang: Shop(lang, catalog.load(catalog.sample(lang), lang).products, catalog.shoppers(None, lang)) for lang in LANGS}
