"""The HTTP API as the terminal sees it. Knows no widgets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

_TIMEOUT = httpx.Timeout(5.0, read=60.0)


class ApiError(Exception):
    """A call that failed, in one line that staff can act on."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of a product as people read it."""

    key: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the served catalogue."""

    id: str
    name: str
    facts: tuple[Fact, ...]

    def fact(self, key: str) -> str | None:
        """The text of the first fact with a key."""
        return next((fact.text for fact in self.facts if fact.key == key), None)

    def matches(self, words: str) -> bool:
        """Whether every word occurs in its id, its name or a fact."""
        text = " ".join([self.id, self.name, *(fact.text for fact in self.facts)]).casefold()
        return all(word in text for word in words.casefold().split())


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of text: whether it is written about several products, and whether for one shopper."""

    name: str
    about: str
    several: bool
    shopper: bool
    query: bool


@dataclass(frozen=True, slots=True)
class Shop:
    """What is served in one language, and in which languages there is something."""

    lang: str
    langs: tuple[str, ...]
    products: tuple[Product, ...]
    shoppers: tuple[str, ...]


class Client:
    """Calls of one server. Every call raises ApiError."""

    def __init__(self, base_url: str, http: httpx.AsyncClient | None = None, key: str | None = None) -> None:
        """`http` is used instead of a client of its own; it must know its base URL. `key` is sent where the server wants one."""
        self.base_url = base_url
        self._http = http or httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT, trust_env=False)
        if key:
            self._http.headers["Authorization"] = f"Bearer {key}"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def tasks(self) -> tuple[Task, ...]:
        """Every task."""
        with_needs = (await self._get("/v1/tasks"))["tasks"]
        return tuple(_task(raw) for raw in with_needs)

    async def shop(self, lang: str | None = None) -> Shop:
        """The catalogue in a language, or in the server's default one."""
        raw = await self._get("/v1/products", {"lang": lang} if lang else None)
        products = tuple(Product(p["id"], p["name"], tuple(Fact(**fact) for fact in p["facts"])) for p in raw["products"])
        return Shop(raw["lang"], tuple(raw["langs"]), products, tuple(raw["shoppers"]))

    async def explain(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The events of an explanation: `delta` bits, then `done` with the record."""
        async with self._answer("POST", "/v1/explanations", json={**body, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        raise ApiError(str(event["error"]["message"]))
                    yield event

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        async with self._answer("GET", path, params=params) as answer:
            try:
                found: dict[str, Any] = json.loads(await answer.aread())
            except ValueError:
                raise ApiError(f"{self.base_url} is not an edgegen server. Check the address.") from None
            return found

    @asynccontextmanager
    async def _answer(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(method, path, **options) as answer:
                if answer.is_error:
                    raise ApiError(_message(answer.status_code, await answer.aread()))
                yield answer
        except httpx.TimeoutException:
            raise ApiError(f"The server at {self.base_url} does not answer in time.") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            why = f" ({error})" if str(error) else ""
            raise ApiError(f"The server at {self.base_url} cannot be reached{why}. Start it with: edgegen serve") from None


def _task(raw: Mapping[str, Any]) -> Task:
    most = {need["section"]: need["most"] for need in raw["needs"]}
    return Task(raw["name"], raw["about"], most.get("item", 0) > 1, "shopper" in most, "query" in most)


def _message(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The server answers with status {status}. Is it edgegen's?"
