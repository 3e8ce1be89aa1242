"""Reading checkpoints: every form that is read gives the same weights, and what would be silently wrong is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from convert import gpt2
from convert.checkpoint import find, open_checkpoint
from convert.restore import restore
from edgegen.errors import ConvertError, NotFoundError
from edgegen.train import tokenizer
from tests.fakes.checkpoints import edited, errors, make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


REFUSED = [
    ({"n_inner": 128}, "n_inner is 128"),
    ({"activation_function": "gelu"}, "activation_function is 'gelu'"),
    ({"activation_function": "relu"}, "activation_function is 'relu'"),
    ({"scale_attn_weights": False}, "scale_attn_weights"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ({"model_type": "llama"}, "model_type is 'llama'"),
    ({"architectures": ["GPT2ForSequenceClassification"]}, "GPT2ForSequenceClassification"),
    ({"vocab_size": 500}, "the weights"),
    ({"n_ctx": 128}, "n_ctx is 128 and n_positions 256"),
    ({"n_ctx": "256"}, "n_ctx is '256' and n_positions 256"),
    ({"architectures": 7}, "architecture is 7"),
    ({"architectures": [{}]}, "architecture is {}"),
    ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
    ({"n_layer": "2"}, "n_layer is '2'"),
]


@pytest.mark.parametrize(("changes", "what"), REFUSED)
def test_what_would_be_silently_wrong_is_refused(checkpoint: Path, tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConvertError, match=what):
        open_checkpoint(edited(checkpoint, tmp_path / "edited", **changes))


@pytest.mark.parametrize(
    "changes", [{"activation_function": "gelu_pytorch_tanh"}, {"n_inner": 256}, {"reorder_and_upcast_attn": True},
                {"n_ctx": None}, {"architectures": "GPT2LMHeadModel"}],
)  # fmt: skip
def test_other_names_of_the_same_are_taken(checkpoint: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """What computes the same converts."""
    open_checkpoint(edited(checkpoint, tmp_path / "edited", **changes))


def _bare(model: GPT2LMHeadModel, folder: Path) -> None:
    model.transformer.save_pretrained(folder)


def _sharded(model: GPT2LMHeadModel, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def _pickled(model: GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _pickled_of_old(model: GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def _old_config(model: GPT2LMHeadModel, folder: Path) -> None:
    model.config.n_ctx = model.config.n_positions
    model.save_pretrained(folder)


@pytest.mark.parametrize("save", [_bare, _sharded, _pickled, _pickled_of_old, _old_config])
def test_every_form_of_a_checkpoint_is_read(
    checkpoint: Path, tmp_path: Path, save: Callable[[GPT2LMHeadModel, Path], None]
) -> None:
    """Without the output matrix, in shards, as .bin (before PyTorch 1.6 too), with an older config: the same weights."""
    opened = open_checkpoint(checkpoint)
    save(opened.model, tmp_path / "saved")
    opened.tokenizer.save_pretrained(tmp_path / "saved")
    again = open_checkpoint(tmp_path / "saved").model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in opened.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_every_precision_are_read(checkpoint: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    """Bit for bit what PyTorch makes of them."""
    opened = open_checkpoint(checkpoint)
    half = open_checkpoint(checkpoint).model.to(dtype)
    half.save_pretrained(tmp_path / "half")
    opened.tokenizer.save_pretrained(tmp_path / "half")
    again = open_checkpoint(tmp_path / "half").weights
    for name, value in half.transformer.state_dict().items():
        assert np.array_equal(again[name].load(), value.float().numpy()), name


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"{", "cannot be loaded"),
        (b'{"wte.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 99999999]}}', "lies outside"),
        (b'{"wte.weight": {"dtype": "F8", "shape": [4], "data_offsets": [0, 16]}}', "is of type F8, and only F64, F32"),
        (b'{"wte.weight": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 16]}}', "cannot be loaded"),
        (b"[" * 99999, "cannot be loaded"),
        (b"[]", "cannot be loaded"),
    ],
)
def test_a_header_that_lies_is_refused(checkpoint: Path, tmp_path: Path, header: bytes, what: str) -> None:
    """Sizes and types are checked against the file before anything is read."""
    folder = edited(checkpoint, tmp_path / "edited")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(ConvertError, match=what):
        open_checkpoint(folder)


@pytest.mark.parametrize("held", [{"state": {}}, [1], {"epoch": 3}, b"", b"no pickle at all"])
def test_a_pickle_of_something_else_is_refused(checkpoint: Path, tmp_path: Path, held: object) -> None:
    """Training states, damaged files: one line."""
    folder = edited(checkpoint, tmp_path / "edited")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    if isinstance(held, bytes):
        path.write_bytes(held)
    else:
        torch.save(held, path)
    with pytest.raises(ConvertError, match="pytorch_model.bin.*tensors") as found:
        open_checkpoint(folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("table", ["{}", '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "../x"}}', "[" * 99999])
def test_a_damaged_index_is_refused(checkpoint: Path, tmp_path: Path, table: str) -> None:
    """It names files of its folder."""
    folder = edited(checkpoint, tmp_path / "edited")
    (folder / "model.safetensors.index.json").write_text(table, "utf-8")
    with pytest.raises(ConvertError, match="is missing|is not an index"):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(checkpoint: Path, tmp_path: Path) -> None:
    """An index names files; each has to be there, and plain."""
    opened = open_checkpoint(checkpoint)
    _sharded(opened.model, tmp_path / "saved")
    opened.tokenizer.save_pretrained(tmp_path / "saved")
    part = sorted((tmp_path / "saved").glob("*.safetensors"))[0]
    part.unlink()
    with pytest.raises(ConvertError, match=rf"{part.name} is missing"):
        open_checkpoint(tmp_path / "saved")


def test_a_padded_vocabulary_keeps_its_rows(checkpoint: Path, tmp_path: Path) -> None:
    """Rows without a token become unused tokens: the same logits, the same ids, and the way back knows no such token."""
    opened = open_checkpoint(checkpoint)
    words = len(opened.tokenizer)
    opened.model.resize_token_embeddings(-(-words // 64) * 64, mean_resizing=False)
    opened.model.save_pretrained(tmp_path / "padded")
    opened.tokenizer.save_pretrained(tmp_path / "padded")
    padded = open_checkpoint(tmp_path / "padded")
    path = gpt2.write(padded, tmp_path / "padded.gguf")
    worst, mean, same = errors(padded, path)
    assert (worst < 1e-2, mean < 1e-3, same) == (True, True, True)
    back = open_checkpoint(restore(path, tmp_path / "back"))
    assert (len(back.tokenizer), back.model.config.vocab_size) == (words, padded.model.config.vocab_size)
    assert back.model.config.vocab_size % 64 == 0


def test_a_hub_name_is_taken_from_the_cache(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache of hub models holds is found by its name; what it lacks is one clear error where there is no network."""
    repository = tmp_path / "hub" / "models--shop--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(checkpoint, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find("shop/tiny") == snapshot
    assert len(open_checkpoint("shop/tiny").tokenizer) == len(open_checkpoint(checkpoint).tokenizer)
    with pytest.raises(NotFoundError, match=r"no checkpoint 'shop/other'.*cache"):
        open_checkpoint("shop/other")


def _change_tokenizer(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")


SPACED = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
    ({"pre_tokenizer": SPACED}, "add_prefix_space"),
    ({"normalizer": {"type": "NFKC"}}, "NFKC"),
]


@pytest.mark.parametrize(("change", "what"), OTHERS)
def test_other_tokenizers_are_refused(checkpoint: Path, tmp_path: Path, change: dict[str, Any], what: str) -> None:
    """llama.cpp would split the text otherwise."""
    folder = edited(checkpoint, tmp_path / "edited")
    _change_tokenizer(folder, change)
    with pytest.raises(ConvertError, match=what):
        open_checkpoint(folder)


def test_a_vocabulary_that_does_not_fit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A token without a row in the weights has no meaning."""
    folder = edited(checkpoint, tmp_path / "edited")
    words: PreTrainedTokenizerFast = tokenizer.load(folder)
    words.add_tokens(["extra"])
    words.save_pretrained(folder)
    with pytest.raises(ConvertError, match=r"\d+ tokens and the weights have \d+.*resize_token_embeddings"):
        open_checkpoint(folder)


def test_missing_things_are_named(checkpoint: Path, tmp_path: Path) -> None:
    """No folder, no config, an adapter, cut-off weights, a vocabulary without the unknown token."""
    with pytest.raises(NotFoundError, match="no checkpoint folder"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConvertError, match="adapter"):
        open_checkpoint(tmp_path)
    folder = edited(checkpoint, tmp_path / "edited")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ConvertError, match="weights cannot be loaded"):
        open_checkpoint(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]")
    with pytest.raises(ConvertError, match=r"txt: the unknown token '.+' is not in the vocabulary\. Save the [a-z ]*\.$"):
        open_checkpoint(folder)


def test_lost_weights_are_not_made_up(checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint without a layer that its config has is refused, though transformers would fill it with noise."""
    with pytest.raises(ConvertError, match="missing keys"):
        open_checkpoint(edited(checkpoint, tmp_path / "edited", n_layer=3))
