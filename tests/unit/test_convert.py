"""Conversion: what is converted computes the same, and nothing is left half done. What is read: test_checkpoint.py."""

from __future__ import annotations

import errno
import tracemalloc
from math import prod
from pathlib import Path

import pytest
import torch

from convert import gpt2, quantize, torture, verify
from convert.checkpoint import open_checkpoint
from convert.output import need, whole
from convert.restore import restore
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.errors import ConvertError, OptionError, StorageError
from edgegen.slots import END, SPECIALS
from edgegen.train import tokenizer
from edgegen.train.dataset import Encoder
from tests.fakes.checkpoints import PAIRS, TEXTS, errors, make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def exact(checkpoint: Path) -> Path:
    """The same as F32 GGUF."""
    return gpt2.write(open_checkpoint(checkpoint), checkpoint.parent / "exact.gguf")


def test_f32_computes_what_pytorch_computes(checkpoint: Path, exact: Path) -> None:
    """The same greedy text, and logits within a thousandth on average.

    The worst of them is 5e-3 off: llama.cpp's GELU table and attention are in half precision, even for F32 weights.
    """
    worst, mean, same = errors(open_checkpoint(checkpoint), exact)
    assert (worst < 1e-2, mean < 1e-3, same) == (True, True, True)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """Of sixteen layers it never holds two: a matrix, and the same turned."""
    opened = open_checkpoint(make_checkpoint(tmp_path / "deep", n_embd=128, n_layer=16))
    largest = 4 * max(prod(stored.shape) for stored in opened.weights.values())
    gpt2.write(opened, tmp_path / "first.gguf")  # what is loaded once is there now
    tracemalloc.start()
    try:
        size = gpt2.write(opened, tmp_path / "deep.gguf").stat().st_size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 30 * largest and peak < 2 * largest + (1 << 20), (size, peak, largest)


def test_weights_that_are_not_numbers_are_named(checkpoint: Path, exact: Path) -> None:
    """It is the checkpoint that is damaged, and no quantization helps."""
    opened = open_checkpoint(checkpoint)
    opened.model.transformer.ln_f.weight.data[3] = torch.nan
    with pytest.raises(ConvertError, match="checkpoint's own logits are not numbers"):
        verify.compare(opened, exact, PAIRS)


def test_untied_embeddings_are_written(tmp_path: Path) -> None:
    """A model with an output matrix of its own computes the same too."""
    opened = open_checkpoint(make_checkpoint(tmp_path / "untied", tie_word_embeddings=False))
    worst, mean, same = errors(opened, gpt2.write(opened, tmp_path / "untied.gguf"))
    assert (worst < 1e-2, mean < 1e-3, same) == (True, True, True)
    back = open_checkpoint(restore(tmp_path / "untied.gguf", tmp_path / "back"))
    assert torch.equal(back.model.lm_head.weight, opened.model.lm_head.weight)


def test_the_tokens_are_the_same(checkpoint: Path, exact: Path) -> None:
    """Ids in llama.cpp are the tokenizer's, and every slot token is a control token that text cannot write."""
    words = tokenizer.load(checkpoint)
    backend = LlamaBackend(exact, LlamaOptions(max_sequences=1))
    assert [backend.control_id(token) for token in SPECIALS] == words.convert_tokens_to_ids(list(SPECIALS))
    assert backend.eos == words.convert_tokens_to_ids(END)
    encoder = Encoder(words)
    for text in [*TEXTS, *torture.TEXTS, "".join(SPECIALS)]:
        assert backend.tokenize(text) == encoder.text_ids(text), text
    backend.close()


def test_q8_0_and_back(checkpoint: Path, exact: Path, tmp_path: Path) -> None:
    """A quantized model loads, comes back with the same shapes and token ids, and nearly the same weights."""
    path = quantize.quantize(exact, tmp_path / "q8.gguf", "q8_0")
    assert quantize.tensor_types(path) == {"Q8_0": 9, "F32": 19}
    before, after = open_checkpoint(checkpoint), open_checkpoint(restore(path, tmp_path / "back"))
    state = after.model.state_dict()
    for name, value in before.model.state_dict().items():
        assert value.shape == state[name].shape
        assert torch.allclose(value, state[name], atol=8e-3), name
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()
    for text in [*TEXTS, "".join(SPECIALS)]:
        assert before.tokenizer.encode(text) == after.tokenizer.encode(text)
    assert after.tokenizer.pad_token == before.tokenizer.pad_token
    assert errors(before, path)[0] < 0.5


def test_restore_inverts_write(checkpoint: Path, exact: Path, tmp_path: Path) -> None:
    """From F32 the weights come back bit for bit, and convert to the same file again."""
    back = open_checkpoint(restore(exact, tmp_path / "checkpoint"))
    for name, value in open_checkpoint(checkpoint).model.state_dict().items():
        assert torch.equal(value, back.model.state_dict()[name]), name
    assert gpt2.write(back, tmp_path / "again.gguf").read_bytes() == exact.read_bytes()


def test_restore_refuses_coarse_weights(exact: Path, tmp_path: Path) -> None:
    """Training from four bits would keep their loss for good."""
    path = quantize.quantize(exact, tmp_path / "q4.gguf", "q4_0")
    with pytest.raises(ConvertError, match="Q4_0 weights, too coarse"):
        restore(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_output_is_whole_or_not_there(tmp_path: Path) -> None:
    """A full disk is one clear error; what was there stays, and no temporary file is left."""
    target = tmp_path / "model.gguf"
    target.write_text("old")

    def fail() -> None:
        with whole(target) as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"model\.gguf: No space left on device"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]
    assert target.read_text() == "old"
    with pytest.raises(StorageError, match="MiB are needed"):
        need(tmp_path / "sub", 1 << 60)


def test_a_full_disk_leaves_no_model(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing the tensors fails, nothing is left."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensor_data", full)
    with pytest.raises(StorageError, match="No space left"):
        gpt2.write(open_checkpoint(checkpoint), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    """The new folder has nothing of the old one."""
    target = tmp_path / "pack"
    target.mkdir()
    (target / "old").touch()
    with whole(target) as part:
        part.mkdir()
        (part / "new").touch()
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["pack"]


def test_unknown_types_are_refused(exact: Path, tmp_path: Path) -> None:
    """The message lists the known ones."""
    with pytest.raises(OptionError, match="q8_0"):
        quantize.quantize(exact, tmp_path / "x.gguf", "q9_9")
