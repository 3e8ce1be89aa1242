"""One contract for every backend: the fake and llama.cpp with a tiny random GPT-2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgegen.engine import native
from edgegen.engine.backend import Backend, Batch, Logits
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Engine, Job
from edgegen.engine.options import SamplingOptions
from edgegen.errors import EngineError, GpuMemoryError, NotFoundError, OptionError, PackError, PromptTooLongError
from edgegen.slots import END, SPECIALS
from tests.fakes.backend import FakeBackend
from tests.fakes.tiny_gguf import CONTEXT, write_tiny_gguf

GREEDY = SamplingOptions(temperature=0, max_new_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GGUF."""
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


def make(kind: str, model: Path) -> Backend:
    """A backend of a kind."""
    return FakeBackend() if kind == "fake" else LlamaBackend(model, LlamaOptions(max_sequences=9))


@pytest.fixture(params=["fake", "llama"])
def backend(request: pytest.FixtureRequest, model: Path) -> Iterator[Backend]:
    """Each backend in turn."""
    made = make(request.param, model)
    yield made
    made.close()


@pytest.fixture(params=["fake", "llama"])
def engine(request: pytest.FixtureRequest, model: Path) -> Iterator[Engine]:
    """An engine on each backend in turn."""
    with Engine(lambda: make(request.param, model)) as made:
        yield made


def feed(backend: Backend, text: str, *seqs: int, start: int = 0) -> Logits:
    """Decode a text for sequences; the logits after it."""
    batch = Batch()
    ids = backend.tokenize(text)
    for i, token in enumerate(ids):
        batch.add(token, start + i, seqs, wanted=i == len(ids) - 1)
    row: Logits = backend.decode(batch)[0]
    return row


def same(a: Logits, b: Logits) -> bool:
    """Equal up to the rounding of another batch size."""
    return bool(np.allclose(a, b, atol=1e-3))


@pytest.mark.parametrize("text", ["", "the cat", "木桌 ¥239\n", "a\0b", "😀 é"])
def test_tokens_are_the_texts_bytes(backend: Backend, text: str) -> None:
    """Tokenising loses nothing and adds nothing."""
    assert b"".join(map(backend.token_bytes, backend.tokenize(text))) == text.encode()


def test_control_tokens_in_text_stay_text(backend: Backend) -> None:
    """A user's text cannot inject a control token."""
    text = "say <|v1|> and <|end|>"
    assert not any(map(backend.is_control, backend.tokenize(text)))
    assert sum(map(backend.is_control, backend.tokenize(text, special=True))) == 2


def test_every_special_has_an_id(backend: Backend) -> None:
    """Control tokens are single tokens that give their own text back."""
    for token in SPECIALS:
        found = backend.control_id(token)
        assert found is not None and backend.is_control(found) and backend.token_bytes(found) == token.encode()
    assert backend.control_id("<|nope|>") is None and backend.control_id("a") is None
    assert backend.eos == backend.control_id(END) and [t for t in range(backend.n_vocab) if backend.is_end(t)] == [backend.eos]


def test_decode_gives_the_rows_asked_for(backend: Backend) -> None:
    """As many rows as wanted, in order, float32, more of them than llama.cpp gives at once."""
    whole = Batch()
    for i, token in enumerate(backend.tokenize("a cup of tea and a chair")):
        whole.add(token, i, (0,), wanted=True)
    rows = backend.decode(whole)
    assert rows.shape == (len(whole), backend.n_vocab) and rows.dtype == np.float32
    assert same(rows[0], feed(backend, "a", 1)) and same(rows[-1], feed(backend, "a cup of tea and a chair", 2))
    assert backend.decode(Batch()).shape == (0, backend.n_vocab)


def test_shared_prompt(backend: Backend) -> None:
    """Tokens that belong to several sequences are in each of them."""
    feed(backend, "a red ", 0, 1, 2)
    assert same(feed(backend, "cup", 1, start=6), feed(backend, "a red cup", 3))
    assert same(feed(backend, "mug", 2, start=6), feed(backend, "a red mug", 4))


def test_fork_shares_a_prefix(backend: Backend) -> None:
    """A fork continues from the prefix and leaves the source alone."""
    feed(backend, "a red cup", 0)
    backend.fork(0, 1, 6)
    assert same(feed(backend, "mug", 1, start=6), feed(backend, "a red mug", 2))
    assert same(feed(backend, "s", 0, start=9), feed(backend, "a red cups", 3))


def test_drop_forgets_the_tail(backend: Backend) -> None:
    """After a drop the sequence goes on from there."""
    feed(backend, "a red cup", 0)
    backend.drop(0, 6)
    assert same(feed(backend, "mug", 0, start=6), feed(backend, "a red mug", 1))


def test_drop_frees_cells(backend: Backend) -> None:
    """The cache can be filled again and again."""
    text = "x" * (backend.n_ctx - 1)
    for _ in range(2 * backend.n_cells // backend.n_ctx + 2):
        feed(backend, text, 0)
        backend.drop(0)


def test_a_full_cache_is_an_error_and_not_the_end(backend: Backend) -> None:
    """Too many tokens raise; after a drop the backend works as before."""
    expected = feed(backend, "a red cup", 0)
    with pytest.raises(EngineError):
        for seq in range(1, 9):
            feed(backend, "x" * (backend.n_ctx - 1), seq)
    for seq in range(9):
        backend.drop(seq)
    assert same(feed(backend, "a red cup", 0), expected)


OUT_OF_RANGE = [(-1, 0, (0,)), (10**6, 0, (0,)), (1, -1, (0,)), (1, 10**5, (0,)), (1, 0, (99,)), (1, 0, ())]


@pytest.mark.parametrize(("token", "pos", "seqs"), OUT_OF_RANGE)
def test_what_native_code_would_not_survive_is_refused(backend: Backend, token: int, pos: int, seqs: tuple[int, ...]) -> None:
    """Tokens, positions and sequences out of range raise before anything happens."""
    batch = Batch()
    batch.add(token, pos, seqs, wanted=True)
    with pytest.raises(EngineError):
        backend.decode(batch)


def test_batched_is_alone_when_greedy(engine: Engine) -> None:
    """Four jobs at once write what each writes alone."""
    prompts = [engine.encode([text]) for text in ("a red cup", "the chair", "木桌", "a red cap")]
    alone = [engine.submit(Job(p, options=GREEDY)).result()[0].tokens for p in prompts]
    together = [engine.submit(Job(p, options=GREEDY)) for p in prompts]
    assert [f.result()[0].tokens for f in together] == alone


def test_same_seed_same_text(engine: Engine) -> None:
    """Candidates differ from each other, and come again with the same seed, beside other jobs too."""
    job = Job(engine.encode(["a red cup"]), n=3, options=SamplingOptions(max_new_tokens=12, seed=7))
    first = engine.submit(job).result()
    others = [engine.submit(Job(engine.encode(["the"]), n=2)), engine.submit(job)]
    assert [c.tokens for c in others[1].result()] == [c.tokens for c in first]
    assert len({c.tokens for c in first}) == 3


def test_same_seed_same_text_on_a_used_cache(engine: Engine) -> None:
    """To the last bit for a fresh job: what others wrote before, and where in the cache, makes no difference."""
    prompts = [engine.encode([text]) for text in ("a red cup", "the chair", "木桌", "a red cap", "quiet and small")]
    options = [SamplingOptions(max_new_tokens=40, seed=i) for i in range(len(prompts))]
    jobs = [Job(prompt, options=one, fresh=True, draft=False, logprobs=0) for prompt, one in zip(prompts, options, strict=True)]
    first = [engine.submit(job).result()[0] for job in jobs]
    for text in ("cups", "a red", "the lamp and the desk"):
        engine.submit(Job(engine.encode([text]), n=2, options=SamplingOptions(max_new_tokens=20))).result()
    assert [engine.submit(job).result()[0] for job in jobs] == first


def test_mask_and_stop_are_obeyed(engine: Engine) -> None:
    """Only allowed tokens come; a stop token ends the text and is not in it."""
    allow = np.zeros(engine.limits.n_vocab, dtype=np.bool_)
    allow[[97, 98, 99]] = True
    options = SamplingOptions(temperature=2, max_new_tokens=60)
    done = engine.submit(Job([97], n=4, options=options, allow=allow, stop_ids=frozenset({99}))).result()
    assert {t for c in done for t in c.tokens} <= {97, 98}
    assert all(c.finish == "stop" for c in done)


def test_a_prompt_that_is_too_long_says_so(engine: Engine) -> None:
    """The message has both numbers and the way out."""
    with pytest.raises(PromptTooLongError, match=r"300 tokens.*Give fewer facts"):
        engine.submit(Job([97] * 300))


def test_missing_and_damaged_models(model: Path, tmp_path: Path) -> None:
    """A file that is missing, cut off or garbage is one clear error and no crash."""
    whole = model.read_bytes()
    with pytest.raises(NotFoundError, match="No model file"):
        LlamaBackend(tmp_path / "none.gguf")
    for size in (0, 3, 10, 100, 3000, 10_000, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:size])
        with pytest.raises(PackError):
            LlamaBackend(cut)
    for data in (b"PK\3\4" + whole, whole[:4] + b"\xff" * 100, whole[:8] + b"\xff" * 16 + whole[24:], b"GGUF" * 1000):
        bad = tmp_path / "bad.gguf"
        bad.write_bytes(data)
        with pytest.raises(PackError, match="bad.gguf"):
            LlamaBackend(bad)


def test_context_beyond_the_trained_one_is_refused(model: Path) -> None:
    """Learned positions end where training ended."""
    with pytest.raises(OptionError, match=f"at most {CONTEXT}"):
        LlamaBackend(model, LlamaOptions(n_ctx=CONTEXT + 1))


def test_the_size_of_a_batch_changes_no_logits(model: Path) -> None:
    """More tokens, and more rows of logits, than one batch takes go in several; a size out of range is refused."""
    batch = Batch()
    for seq in range(20):
        batch.add(seq, 0, (seq,), wanted=True)
        batch.add(seq + 1, 1, (seq,), wanted=True)
    rows = []
    for size in (16, 256):
        backend = LlamaBackend(model, LlamaOptions(max_sequences=20, batch=size))
        assert backend.batch == size
        rows.append(backend.decode(batch).copy())
        backend.close()
    assert rows[0].shape == (40, rows[0].shape[1]) and same(*rows)
    for size in (15, 4097):
        with pytest.raises(OptionError, match="batch must be in"):
            LlamaOptions(batch=size)


@pytest.mark.parametrize(("layers", "code", "error"), [(1, -2, GpuMemoryError), (0, -2, EngineError), (1, -3, EngineError)])
def test_an_allocation_that_fails_is_the_gpus_where_layers_are_there(
    model: Path, monkeypatch: pytest.MonkeyPatch, layers: int, code: int, error: type[EngineError]
) -> None:
    """Any other failure is a batch's own."""
    backend = LlamaBackend(model, LlamaOptions(gpu_layers=layers))
    monkeypatch.setattr(native.bindings(), "llama_decode", lambda *_: code)
    with pytest.raises(EngineError) as caught:
        feed(backend, "x", 0)
    assert caught.type is error
    backend.close()
