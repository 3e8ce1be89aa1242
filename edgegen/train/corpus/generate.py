"""The corpus: pairs of a request and its text, deterministic by seed. Needs no training library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from edgegen import grounding, lexicon, selection, slots, tasks
from edgegen.domain import Fact, Kind, Lang, Request, Section
from edgegen.errors import DataError
from edgegen.lexicon import Domain
from edgegen.slots import Segment, Slot
from edgegen.train.corpus import plans
from edgegen.train.corpus.world import Split, World
from edgegen.train.pairs import Pair

_BARE_LEFT_OUT = 0.9


def pairs(task: str, lang: Lang, split: Split, count: int, seed: int) -> Iterator[Pair]:
    """`count` pairs of one task. The same arguments give the same pairs."""
    made, attempts = 0, 0
    while made < count:
        rng = Random(f"{seed}/{task}/{lang}/{split}/{attempts}")
        attempts += 1
        if attempts > 50 + count * 20:
            raise DataError(f"Only {made} of {count} pairs of {task}/{lang} could be made. Its plans fit too few products.")
        pair = _pair(task, lang, split, rng)
        if pair is not None:
            made += 1
            yield pair


def _pair(task: str, lang: Lang, split: Split, rng: Random) -> Pair | None:
    if tasks.get(task).choices:
        return _category(World(rng, lang, split), task)
    return written(_SCENES[task](World(rng, lang, split), task), rng)


def written(request: Request, rng: Random) -> Pair | None:
    """A request with a text by its task's plans; None where none fits its facts and is true, or it tells too little."""
    handler = tasks.get(request.task)
    try:
        prompt = handler.prompt(request)
    except DataError:  # a scene with too many values for the slots
        return None
    segments = plans.compose(plans.load(request.task, request.lang), prompt, rng)
    if segments is None:
        return None
    verdict = grounding.check(segments, prompt, handler)
    bare = _bare(selection.told(segments, request, verdict.claims, handler), request)
    if not verdict.ok or (bare and rng.random() < _BARE_LEFT_OUT):
        return None
    return Pair(request, marked(segments))


def _bare(plan: selection.Plan, request: Request) -> bool:
    """Whether a text on several items only names one that has more to tell: what `selection.choose` never asks for."""
    items = [(facts, section) for facts, section in zip(plan, request.sections, strict=True) if section.label == "item"]
    return len(items) > 1 and any([fact.key for fact in facts] == ["name"] and len(section.facts) > 1 for facts, section in items)


def marked(segments: list[Segment]) -> str:
    """Segments as text with slot marks."""
    return "".join(s.control.token if isinstance(s, Slot) else s for s in segments)


def _reason(world: World, task: str) -> Request:
    facts = world.product(world.domain(), 2, 10)[1]
    return Request(task, world.lang, (Section("item", tuple(facts)),))


def _personal(world: World, task: str) -> Request:
    domain = world.domain()
    facts = world.product(domain, 2, 8, evidence=0.6)[1]
    return Request(task, world.lang, (Section("item", tuple(facts)), world.shopper(domain)))


def _joint(world: World, task: str) -> Request:
    domain = world.domain()
    facts = world.product(domain, 0, 4, evidence=0.0)[1]
    return Request(task, world.lang, (Section("item", tuple(facts)), *world.sources(domain)))


def _summary(world: World, task: str) -> Request:
    domain = world.domain()
    facts = world.product(domain, 0, 2, evidence=0.3)[1]
    return Request(task, world.lang, (Section("item", tuple(facts)), *world.reasons(domain)))


def _product(world: World, task: str) -> Request:
    facts = world.product(world.domain(), 4, 14, evidence=0.15)[1]
    return Request(task, world.lang, (Section("item", tuple(facts)),))


def _items(world: World, domain: Domain, least: int, most: int) -> list[Section]:
    count = world.rng.randint(least, most)
    return [Section("item", tuple(world.product(domain, 2, 6 if count < 4 else 4)[1])) for _ in range(count)]


def _list(world: World, task: str) -> Request:
    domain = world.domain()
    facts = world.several(domain, "topic", 1, 1) if world.rng.random() < 0.7 else []
    if world.rng.random() < 0.3:
        facts.append(world.budget())
    return Request(task, world.lang, (*([Section("list", tuple(facts))] if facts else []), *_items(world, domain, 2, 5)))


def _search(world: World, task: str) -> Request:
    domain = world.domain()
    query = lexicon.pick(world.rng.choice(domain.phrases["query"]), world.lang)
    return Request(task, world.lang, (Section("query", (Fact("query", query, Kind.TEXT),)), *_items(world, domain, 1, 4)))


def _guide(world: World, task: str) -> Request:
    domain, rng = world.domain(), world.rng
    facts = [Fact("category", lexicon.pick(world.category(domain).word, world.lang), Kind.PHRASE)]
    extra = world.several(domain, "criterion", 2, 4)
    extra += [f for f in world.price_span(domain) if rng.random() < 0.7]
    rng.shuffle(extra)
    items = _items(world, domain, 0, 3) if rng.random() < 0.7 else []
    return Request(task, world.lang, (Section("guide", tuple(facts + extra)), *items))


def _review(world: World, task: str) -> Request:
    domain = world.domain()
    facts = world.product(domain, 0, 2, evidence=0.0)[1]
    return Request(task, world.lang, (Section("item", tuple(facts)), world.aspects(domain)))


def _category(world: World, task: str) -> Pair:
    domain = world.domain()
    category, facts = world.product(domain, 3, 8, evidence=0.0)
    word = Fact("category", lexicon.pick(category.word, world.lang), Kind.PHRASE)
    known = [f for f in facts if f.key not in ("name", "category")]
    prompt = slots.bind(Request(task, world.lang, (Section("item", (word, *known)),)))
    title = plans.compose(plans.load(task, world.lang), prompt, world.rng) or [str(word.value)]
    words = Fact("title_words", slots.render(title, world.lang), Kind.PHRASE)
    shown = [f for f in known if world.rng.random() < 0.5]
    path = lexicon.pick(category.path, world.lang)
    return Pair(Request(task, world.lang, (Section("item", (words, *shown)),), (path,)), path)


_SCENES: dict[str, Callable[[World, str], Request]] = {
    "reason": _reason, "personal": _personal, "joint": _joint, "summary": _summary, "product": _product,
    "list": _list, "search": _search, "guide": _guide, "review": _review,
}  # fmt: skip
