"""The calls on an engine of this process, with the fake backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine.loop import Engine
from edgegen.engine.options import SamplingOptions
from edgegen.errors import BusyError, EdgegenError, EngineError, OptionError, PromptTooLongError, UsageError
from edgegen.explain import Explainer, ExplainOptions
from edgegen.serving.calls import Complete, Ended, Explain, Part, Written
from edgegen.serving.local import LocalService
from edgegen.serving.pool import Pool
from edgegen.slots import END, SPECIALS
from tests.fakes.backend import TEXT, FakeBackend, Gate, hashed, scripted

WAIT_S = 10
DESK = (Fact("name", "Oak desk", Kind.TEXT), Fact("price", Decimal(120), Kind.MONEY, currency="USD"))
ASKED = Request("reason", "en", (Section("item", DESK),))
GREEDY = SamplingOptions(temperature=0, max_new_tokens=40)


@pytest.fixture
def service() -> Iterator[LocalService]:
    """A service whose model writes one text whatever it is asked."""
    with Engine(lambda: FakeBackend(scripted("a fine cup of 茶"))) as engine:
        found = LocalService(Explainer(engine), engine, {"name": "tiny"})
        yield found
        found.close()


async def collect(service: LocalService, call: Complete) -> tuple[list[str], Ended, list[Written]]:
    """The texts of a completion, its end, and all that was written."""
    *written, ended = [item async for item in service.complete(call)]
    assert isinstance(ended, Ended)
    said = [item for item in written if isinstance(item, Written)]
    assert len(said) == len(written)
    return ["".join(w.text for w in said if w.index == i) for i in range(call.n)], ended, said


def ask(text: str = "x", **more: Any) -> Complete:
    """A greedy completion."""
    return Complete((Part(text),), **{"options": GREEDY, **more})


async def test_completes_until_the_model_ends(service: LocalService) -> None:
    """Texts, why they ended, what was counted and who wrote."""
    texts, ended, said = await collect(service, ask(n=2))
    assert texts == [" fine cup of 茶"] * 2 and ended.finishes == ("stop", "stop") and ended.stops == (None, None)
    assert (ended.prompt_tokens, ended.completion_tokens) == (1, 2 * len(" fine cup of 茶".encode())) and ended.pack == "tiny"
    assert all("\ufffd" not in written.text for written in said)
    assert bytes(t.id for w in said if w.index == 1 for t in w.tokens).decode() == " fine cup of 茶"
    assert ended.timings["total_s"] >= ended.timings["first_token_s"] >= 0


async def test_whole_texts_come_in_one_piece(service: LocalService) -> None:
    """The same texts and tokens."""
    texts, ended, said = await collect(service, ask(n=2, stops=("cup",)))
    whole, ended_too, pieces = await collect(service, ask(n=2, stops=("cup",), whole=True))
    assert whole == texts and ended_too.stops == ended.stops and [piece.index for piece in pieces] == [0, 1]
    assert [t for w in said if w.index == 1 for t in w.tokens] == list(pieces[1].tokens)


async def test_a_stop_ends_a_candidate_at_once(service: LocalService) -> None:
    """Its other tokens are not even drawn."""
    texts, ended, _ = await collect(service, ask(stops=("cup",)))
    assert texts == [" fine "] and ended.stops == ("cup",) and ended.completion_tokens == len(" fine cup")


async def test_ends_at_the_length_or_where_the_context_ends(service: LocalService) -> None:
    """The options may ask for more than there is room for."""
    _, ended, _ = await collect(service, ask(options=replace(GREEDY, max_new_tokens=3)))
    assert (ended.finishes, ended.completion_tokens) == (("length",), 3)
    _, ended, _ = await collect(service, Complete((Part("x" * 250),), options=GREEDY, ignore_end=True))
    assert (ended.finishes, ended.completion_tokens) == (("length",), 6)


async def test_prompts_are_text_controls_and_ids(service: LocalService) -> None:
    """What looks like a control token is one only where it is said to be."""
    parts = (Part("<|text|>", special=True), Part(END), Part(ids=(65, 66)))
    _, ended, _ = await collect(service, Complete(parts, options=GREEDY))
    assert ended.prompt_tokens == 1 + len(END) + 2
    texts, _, _ = await collect(service, Complete((Part("x<|text|>", special=True),), options=GREEDY))
    assert texts == ["a fine cup of 茶"]


async def test_writes_controls_and_goes_on_beyond_the_end_only_where_asked() -> None:
    """The fake's favourite is a control token, then the end."""
    with Engine(lambda: FakeBackend(scripted("a<|v1|>b"))) as engine:
        service = LocalService(Explainer(engine), engine)
        call = Complete((Part("<|text|>", special=True),), options=replace(GREEDY, max_new_tokens=6))
        plain, controls, beyond = [
            await collect(service, replace(call, write_controls=a, ignore_end=b))
            for a, b in ((False, False), (True, False), (True, True))
        ]
        assert "<|v1|>" not in plain[0][0] and controls[0] == ["a<|v1|>b"] and controls[1].finishes == ("stop",)
        assert beyond[0][0].startswith("a<|v1|>b") and beyond[1].completion_tokens == 6
        service.close()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (Complete(()), OptionError),
        (Complete((Part("x" * 256),)), PromptTooLongError),
        (ask(n=99), OptionError),
        (Complete((Part(ids=(TEXT * 9,)),)), UsageError),
        (Complete((Part(ids=(-1,)),)), UsageError),
    ],
)
async def test_refuses_what_the_model_cannot_do(service: LocalService, call: Complete, error: type[EdgegenError]) -> None:
    """One error in place of the texts."""
    with pytest.raises(error):
        await collect(service, call)


async def test_tokens_there_and_back(service: LocalService) -> None:
    """A cut character keeps its bytes; an unknown id is refused."""
    assert await service.tokenize("a<|v1|>", special=True) == [(97, "a"), (TEXT + SPECIALS.index("<|v1|>"), "<|v1|>")]
    assert len(await service.tokenize("<|v1|>")) == len("<|v1|>")
    found = await service.tokenize("茶")
    assert "".join(text for _, text in found).encode("utf-8", "surrogateescape").decode() == "茶"
    assert await service.detokenize([id_ for id_, _ in found]) == "茶"
    with pytest.raises(OptionError, match="no token 9999"):
        await service.detokenize([9999])
    assert (await service.figures())["jobs_waiting"] == 0


async def test_explains_with_the_model_or_from_the_template(service: LocalService) -> None:
    """The fake's text fails its check, so the template answers; the record and the bits agree."""
    answer = await service.explain(Explain(ASKED))
    assert answer.record["source"] == "template" and "".join(answer.pieces) == answer.record["text"] and answer.pack == "tiny"
    with pytest.raises(UsageError):
        await service.explain(Explain(replace(ASKED, task="nope")))


@pytest.mark.parametrize("kind", ["complete", "explain"])
async def test_a_call_that_is_left_is_dropped_within_a_step(kind: str) -> None:
    """The cells of its sequences are free, and nothing more is decoded for it."""
    backend = Gate(scripted("word " * 40))
    with Engine(lambda: backend) as engine:
        service = LocalService(Explainer(engine), engine)
        long = ask(options=replace(GREEDY, max_new_tokens=200))
        work: Coroutine[Any, Any, Any] = service.explain(Explain(ASKED)) if kind == "explain" else collect(service, long)
        call = asyncio.create_task(work)
        assert await asyncio.to_thread(backend.entered.wait, WAIT_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        backend.open.set()
        await asyncio.to_thread(engine.ask, lambda _: None)
        await asyncio.to_thread(engine.ask, lambda _: None)
        assert sum(backend.decoded) < 80 and engine.figures()["sequences_in_use"] == 0
        service.close()


async def test_a_full_queue_says_so_and_an_engine_that_closes_fails_the_open_calls() -> None:
    """Nobody waits for ever."""
    backend = Gate(scripted("word " * 40))
    with Engine(lambda: backend, max_waiting=1) as engine:
        service = LocalService(Explainer(engine), engine)
        calls = [asyncio.create_task(collect(service, ask(n=8, options=replace(GREEDY, max_new_tokens=30)))) for _ in range(4)]
        assert await asyncio.to_thread(backend.entered.wait, WAIT_S)
        closer = threading.Thread(target=engine.close)
        closer.start()
        backend.open.set()
        done = await asyncio.gather(*calls, return_exceptions=True)
        closer.join()
        assert all(isinstance(one, EngineError) for one in done) and any(isinstance(one, BusyError) for one in done)
        with pytest.raises(EngineError):
            await collect(service, ask())
        service.close()


async def test_an_explanation_that_waits_too_long_becomes_the_template() -> None:
    """Its deadline counts from the call."""
    with Engine(lambda: FakeBackend(hashed)) as engine:
        service = LocalService(Explainer(engine), engine)
        answer = await service.explain(Explain(ASKED, ExplainOptions(deadline_s=0.001)))
        assert answer.record["source"] == "template"
        service.close()


def test_the_pool_takes_shoppers_first_and_keeps_threads_for_them() -> None:
    """Batch work waits although a thread is idle; a full queue refuses."""
    go, order = threading.Event(), list[str]()
    started = threading.Semaphore(0)

    def work(name: str) -> None:
        order.append(name)
        started.release()
        assert go.wait(WAIT_S)

    pool = Pool(2, most_waiting=3)
    pool.submit(lambda: work("batch 1"), "batch")
    assert started.acquire(timeout=WAIT_S)
    pool.submit(lambda: work("batch 2"), "batch")
    pool.submit(lambda: work("shopper 1"))
    assert started.acquire(timeout=WAIT_S) and order == ["batch 1", "shopper 1"]
    pool.submit(lambda: work("shopper 2"))
    pool.submit(lambda: work("shopper 3"))
    with pytest.raises(BusyError):
        pool.submit(lambda: work("shopper 4"))
    go.set()
    for _ in range(3):
        assert started.acquire(timeout=WAIT_S)
    assert order.index("shopper 2") < order.index("shopper 3")
    pool.close()
