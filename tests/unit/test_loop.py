"""The engine's thread, queue and steps, on the fake backend."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.engine.backend import Batch, Logits
from edgegen.engine.loop import Engine, Generation, Job
from edgegen.engine.options import SamplingOptions
from edgegen.engine.run import Run
from edgegen.engine.sampling import Token
from edgegen.engine.scheduler import plan
from edgegen.errors import BusyError, EngineError, GpuMemoryError, OptionError, PackError, PromptTooLongError
from edgegen.slots import END, Control
from tests.fakes.backend import VOCABULARY, FakeBackend, Gate, scripted

WAIT_S = 10
SHORT = SamplingOptions(max_new_tokens=8)
GREEDY = replace(SHORT, temperature=0)


class Broken(FakeBackend):
    """A fake that fails on any batch with the token 33."""

    def decode(self, batch: Batch) -> Logits:
        """Fail or decode."""
        before = [replace(cell, seqs=set(cell.seqs)) for cell in self.cells]
        if 33 in batch.tokens:
            self.cells = before
            raise EngineError("decode failed on purpose")
        return super().decode(batch)


def _itself(backend: FakeBackend) -> FakeBackend:
    return backend


def got(future: Future[Generation]) -> Generation:
    """The result, soon."""
    return future.result(WAIT_S)


def test_writes_and_stops() -> None:
    """A scripted text comes out, the stop token does not, and the timings are in order."""
    backend = FakeBackend(scripted("a fine cup"))
    with Engine(lambda: backend) as engine:
        prompt = engine.encode([Control("<|task|>"), "reason", Control("<|text|>")])
        end = engine.vocabulary.id(END)
        assert end is not None
        done = got(engine.submit(Job(prompt, n=3, stop_ids=frozenset({end}))))
        assert [engine.vocabulary.text(c.tokens) for c in done] == ["a fine cup"] * 3
        assert {c.finish for c in done} == {"stop"}
    times = done.timings
    assert times.first_token_s is not None and times.queue_s + times.prompt_s <= times.first_token_s <= times.total_s
    assert backend.closed


def test_encode_parses_no_text_and_names_a_missing_control() -> None:
    """Text that looks like a control token stays text."""
    with Engine(FakeBackend) as engine:
        assert engine.encode(["<|end|>"]) == list(b"<|end|>")
        assert engine.encode([Control("<|v2|>"), "a"]) == [engine.vocabulary.id("<|v2|>"), 97]
        with pytest.raises(PackError, match=r"no control token <\|nope\|>"):
            engine.encode([Control("<|nope|>")])


def test_prompt_is_decoded_once_for_all_candidates() -> None:
    """Eight candidates cost one prompt; every cell is free again but those of the kept prompt."""
    backend = FakeBackend()
    with Engine(lambda: backend) as engine:
        got(engine.submit(Job(list(range(50)), n=8, options=SHORT)))
        assert backend.decoded == [50] + [8] * 7
        assert engine.ask(lambda b: len(backend.cells)) == 50


def test_common_prefix_is_reused() -> None:
    """A second prompt decodes only what differs and writes what it would have written without the first."""
    first, second = list(range(50)), [*range(40), 7, 7]
    with Engine(FakeBackend) as engine:
        expected = got(engine.submit(Job(second, options=GREEDY)))
    backend = FakeBackend()
    with Engine(lambda: backend) as engine:
        got(engine.submit(Job(first, options=GREEDY)))
        again = got(engine.submit(Job(second, options=GREEDY)))
        assert list(again) == list(expected) and again.timings.reused_tokens == 40
        assert got(engine.submit(Job(second, options=GREEDY))).timings.reused_tokens == 41


def test_the_kept_prompt_gives_way() -> None:
    """A job that needs the whole cache gets it."""
    backend = FakeBackend(n_ctx=100, n_cells=100)
    with Engine(lambda: backend) as engine:
        got(engine.submit(Job(list(range(60)), options=SHORT)))
        assert len(got(engine.submit(Job([1] * 92, options=SHORT)))[0].tokens) == 8


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.integers(1, 8), st.integers(0, 9)), min_size=1, max_size=8))
def test_any_mix_of_jobs_writes_what_each_writes_alone(mix: list[tuple[int, int, int]]) -> None:
    """Every job ends exactly once, none starves, and company changes nothing."""
    jobs = [Job([9 + i % 3, *range(length)], n=n, options=replace(SHORT, seed=seed)) for i, (length, n, seed) in enumerate(mix)]
    with Engine(FakeBackend) as engine:
        alone = [list(got(engine.submit(job))) for job in jobs]
    with Engine(FakeBackend) as engine:
        futures = [engine.submit(job) for job in jobs]
        assert [list(got(future)) for future in futures] == alone


def test_long_prompts_come_in_chunks_beside_writers() -> None:
    """A step that somebody waits for takes at most 64 prompt tokens."""
    writer, reader = Run(Job([1, 2]), [0], decoded=2), Run(Job([1] * 200), [1])
    writer.candidates[0].tokens.append(5)
    step = plan([writer, reader])
    assert len(step.batch) == 65 and [share.fed for share in step.shares] == [0, 64]
    assert step.batch.wanted == 1


def test_full_queue_is_busy() -> None:
    """Beyond the bound a job is refused at once; those within it are served."""
    backend = Gate()
    with Engine(lambda: backend, max_waiting=2) as engine:
        first = engine.submit(Job([1], options=SHORT))
        assert backend.entered.wait(WAIT_S)
        rest = [engine.submit(Job([1], options=SHORT)) for _ in range(2)]
        with pytest.raises(BusyError, match="2 jobs are waiting"):
            engine.submit(Job([1], options=SHORT))
        backend.open.set()
        assert all(len(got(future)) == 1 for future in [first, *rest])


def test_cancelled_job_frees_its_sequences() -> None:
    """Cancelling a running job lets the others go on and leaves nothing behind."""
    backend = Gate()
    with Engine(lambda: backend) as engine:
        futures = [engine.submit(Job([1, i], n=2, options=SHORT)) for i in range(3)]
        assert backend.entered.wait(WAIT_S)
        assert futures[0].cancel()
        backend.open.set()
        assert all(got(future) for future in futures[1:])
        assert engine.ask(lambda b: sorted(cell.token for cell in backend.cells)) == [0, 1, 1, 2]


def test_deadline_ends_with_what_there_is() -> None:
    """A late job gives what it has and says so, whether it ran or still waited."""
    now = [0.0]

    def tick(candidate: int, token: Token) -> None:
        now[0] += 1

    with Engine(FakeBackend, clock=lambda: now[0]) as engine:
        done = got(engine.submit(Job([1], options=SHORT, deadline_s=3.5, on_token=tick)))
        assert done[0].finish == "deadline" and len(done[0].tokens) == 4


def test_a_failed_decode_fails_that_job_only() -> None:
    """The job with the bad token fails; the others write what they write alone."""
    allow = np.arange(len(VOCABULARY)) > 40
    good = [Job([50, i], n=2, options=SHORT, allow=allow) for i in range(3)]
    with Engine(Broken) as engine:
        alone = [list(got(engine.submit(job))) for job in good]
        futures = [engine.submit(job) for job in (good[0], Job([50, 33], allow=allow), *good[1:])]
        with pytest.raises(EngineError, match="on purpose"):
            got(futures[1])
        assert [list(got(future)) for i, future in enumerate(futures) if i != 1] == alone


def test_constraint_walks_a_trie() -> None:
    """Only the paths it offers are written; its end is the text's end."""
    paths = [(97, 98), (97, 99, 100)]

    def offer(written: tuple[int, ...]) -> Sequence[int]:
        return [path[len(written)] for path in paths if path[: len(written)] == written and len(path) > len(written)]

    with Engine(FakeBackend) as engine:
        done = got(engine.submit(Job([1], n=8, options=replace(SHORT, temperature=5), constraint=offer)))
    assert {c.tokens for c in done} == set(paths) and {c.finish for c in done} == {"stop"}


def test_a_callers_fault_fails_only_its_job() -> None:
    """An on_token or constraint that raises does not stop the engine."""

    def fault(*_: object) -> Sequence[int]:
        raise KeyError("caller")

    def deaf(candidate: int, token: Token) -> None:
        fault(candidate, token)

    with Engine(FakeBackend) as engine:
        for job in (Job([1], on_token=deaf), Job([1], constraint=fault)):
            with pytest.raises(KeyError):
                got(engine.submit(job))
        with pytest.raises(KeyError):
            engine.ask(fault)
        assert got(engine.submit(Job([1], options=SHORT)))


def test_tokens_are_told_as_they_come() -> None:
    """What on_token hears is what the completions hold."""
    heard: dict[int, list[int]] = {}
    with Engine(FakeBackend) as engine:
        job = Job([1], n=3, options=SHORT, on_token=lambda i, token: heard.setdefault(i, []).append(token.id))
        done = got(engine.submit(job))
    assert [tuple(heard[i]) for i in range(3)] == [c.tokens for c in done]


def test_who_hears_a_token_may_end_its_candidate() -> None:
    """The others go on; the job ends with the last."""
    with Engine(FakeBackend) as engine:
        heard: list[int] = []

        def hear(candidate: int, token: Token) -> bool:
            heard.append(candidate)
            return heard[-1] == 1 and heard.count(1) == 3

        done = got(engine.submit(Job([1], n=2, options=SHORT, on_token=hear)))
    assert [(len(c.tokens), c.finish) for c in done] == [(8, "length"), (3, "stop")]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job([1] * 250), "250 tokens and 96 new ones.*256"),
        (Job([1], n=9), "n must be at most 8, got 9"),
        (Job([1], n=8), "need 761 cells of 512"),
        (Job([1], allow=np.ones(5, dtype=np.bool_)), "mask has shape"),
    ],
)
def test_jobs_that_can_never_run_are_refused(job: Job, message: str) -> None:
    """At once, with the numbers."""
    with Engine(FakeBackend) as engine, pytest.raises((PromptTooLongError, OptionError), match=message):
        engine.submit(job)


def test_closing_fails_or_drains() -> None:
    """Open jobs fail on close and finish on drain; later calls are refused."""
    for drain in (False, True):
        backend = Gate()
        engine = Engine(partial(_itself, backend))
        future = engine.submit(Job([1], options=SHORT))
        assert backend.entered.wait(WAIT_S)
        closer = threading.Thread(target=engine.close, kwargs={"drain": drain})
        closer.start()
        backend.open.set()
        closer.join(WAIT_S)
        if drain:
            assert len(got(future)[0].tokens) == 8
        elif future.exception(WAIT_S) is not None:
            assert isinstance(future.exception(), EngineError)
        with pytest.raises(EngineError, match="closed"):
            engine.submit(Job([1]))
        with pytest.raises(EngineError, match="closed"):
            engine.ask(lambda b: None)
        assert backend.closed
        engine.close()


def test_a_factory_that_fails_tells_the_caller() -> None:
    """The error comes out of the constructor."""

    def fail() -> FakeBackend:
        raise PackError("broken pack")

    with pytest.raises(PackError, match="broken pack"):
        Engine(fail)


def test_a_text_that_is_set_back_goes_on_from_there() -> None:
    """Below a limit every second token is refused once; what stays is as long as asked for, and the cache is in step."""
    refused: list[tuple[int, ...]] = []

    def keep(written: Sequence[int], token: int, logprobs: Sequence[float]) -> int:
        assert len(logprobs) == len(written) + 1 and max(logprobs) <= 0
        if len(written) % 3 == 2 and tuple(written) not in refused:
            refused.append(tuple(written))
            return len(written) - 2
        return len(written) + 1

    with Engine(FakeBackend) as engine:
        done = got(engine.submit(Job([50, 60], n=3, options=SHORT, keep=keep, patience=50)))
        assert all(len(c.tokens) == SHORT.max_new_tokens for c in done)
        assert {c.setbacks for c in done} > {0} or sum(c.setbacks for c in done) >= 3
        alone = got(engine.submit(Job([50, 60, *done[0].tokens], n=1, options=GREEDY)))  # the backend checks every position
        assert len(alone[0].tokens) == SHORT.max_new_tokens


def test_setbacks_to_the_beginning_run_out_of_patience() -> None:
    """A text that never pleases ends after `patience` setbacks, with nothing written."""
    with Engine(FakeBackend) as engine:
        (done,) = got(engine.submit(Job([50, 60], options=SHORT, keep=lambda *_: 0, patience=5)))
    assert (done.tokens, done.finish, done.setbacks) == ((), "setbacks", 5)


def test_enough_candidates_end_the_job() -> None:
    """The others are spare."""
    stop = frozenset({int(FakeBackend().eos or 0)})
    with Engine(lambda: FakeBackend(scripted("ab"))) as engine:
        done = got(engine.submit(Job([1], n=3, options=GREEDY, stop_ids=stop, enough=1)))
    assert [c.finish for c in done].count("stop") >= 1 and {c.finish for c in done} <= {"stop", "spare"}


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"enough": 0}, {"keep": lambda *_: 0, "options": GREEDY}])
def test_setbacks_check_their_options(wrong: dict[str, object]) -> None:
    """At temperature 0 a text that is set back would only come again."""
    with pytest.raises(OptionError):
        Job([1], **wrong)  # type: ignore[arg-type]


def test_a_prompt_that_nobody_waits_for_goes_in_the_batches_of_the_backend() -> None:
    """As many tokens at once as were found to be read fastest."""
    backend = FakeBackend()
    backend.batch = 64
    with Engine(lambda: backend) as engine:
        engine.submit(Job([1] * 100, options=replace(GREEDY, max_new_tokens=1))).result(10)
    assert backend.decoded[:2] == [64, 36]


def test_a_gpu_without_memory_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs are told why, none of them is tried again in parts, and whoever runs the process hears of it."""

    class Full(FakeBackend):
        def decode(self, batch: Batch) -> Logits:
            self.decoded.append(len(batch))
            raise GpuMemoryError("The GPU has no memory left.")

    heard, backend = list[threading.ExceptHookArgs](), Full()
    monkeypatch.setattr(threading, "excepthook", heard.append)
    with Engine(lambda: backend) as engine:
        futures = engine.ask(lambda _: [engine.submit(Job([i, 2, 3], options=SHORT)) for i in (1, 9)])
        for future in futures:
            with pytest.raises(GpuMemoryError):
                future.result(10)
    assert len(backend.decoded) == 1 and [args.exc_type for args in heard] == [GpuMemoryError] and backend.closed
    with pytest.raises(EngineError, match="closed"):
        engine.submit(Job([1]))
