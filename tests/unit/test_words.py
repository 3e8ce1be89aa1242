"""The tokenizer as its files say: the same tokens as transformers reads, without transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convert import gpt2, reference, torture
from convert.checkpoint import open_checkpoint
from convert.words import Words, read
from edgegen.errors import ConvertError
from tests.fakes.checkpoints import edited, make_checkpoint

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


def _agree(words: Words) -> None:
    theirs = reference.load_tokenizer(words)
    assert theirs.get_vocab() == words.vocab
    for text in torture.TEXTS:
        assert theirs.encode(text, add_special_tokens=False) == words.backend.encode(text, add_special_tokens=False).ids, text


def _split(checkpoint: Path, folder: Path, **settings: Any) -> Path:
    """A copy with vocab.json and merges.txt in place of tokenizer.json."""
    edited(checkpoint, folder)
    raw = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    vocab = raw["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocab | {END: len(vocab)}), "utf-8")
    lines = (merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{line}\n" for line in lines), "utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def test_a_tokenizer_json_is_read_alike(checkpoint: Path) -> None:
    """Tokens, added tokens and the named ones."""
    words = read(checkpoint)
    _agree(words)
    assert words.id("eos") == words.id("bos") == reference.load_tokenizer(words).eos_token_id
    assert not words.missing


def test_vocab_and_merges_are_read_alike(checkpoint: Path, tmp_path: Path) -> None:
    """GPT-2's older layout: start and end are its end-of-text token unless something else is named."""
    words = read(_split(checkpoint, tmp_path / "plain"))
    _agree(words)
    assert words.named["eos"] == words.named["bos"] == END
    added = {"400": {"content": "<stop>", "special": True}, "401": {"content": "gold", "special": False}}
    end = {"__type": "AddedToken", "content": "<stop>", "special": True}
    named = _split(checkpoint, tmp_path / "named", eos_token=end, added_tokens_decoder=added)
    words = read(named)
    _agree(words)
    assert words.named["eos"] == "<stop>"
    (named / "merges.txt").unlink()
    with pytest.raises(ConvertError, match=r"no merges\.txt"):
        read(named)


def test_added_tokens_are_special_where_they_have_a_role(checkpoint: Path, tmp_path: Path) -> None:
    """As in added_tokens.json of older folders: the others are found in text, as transformers does."""
    folder = _split(checkpoint, tmp_path / "old")
    first = len(json.loads((folder / "vocab.json").read_text("utf-8")))
    added = {"<stop>": first, "gold": first + 1}
    (folder / "added_tokens.json").write_text(json.dumps(added), "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<stop>"}), "utf-8")
    words = read(folder)
    _agree(words)
    theirs = reference.load_tokenizer(words).added_tokens_decoder
    assert {id_: token.special for id_, token in words.backend.get_added_tokens_decoder().items()} == {
        id_: token.special for id_, token in theirs.items()
    }
    assert words.backend.encode("a gold b", add_special_tokens=False).ids.count(added["gold"]) == 1


def test_the_config_names_what_the_tokenizer_does_not(checkpoint: Path, tmp_path: Path) -> None:
    """As GPT-2's own repository does; an id beyond the vocabulary names nothing."""
    folder = edited(checkpoint, tmp_path / "edited")
    (folder / "tokenizer_config.json").write_text("{}", "utf-8")
    assert read(folder, {"eos_token_id": 7}).id("eos") == 7
    assert read(folder, {"eos_token_id": 10**6}).id("eos") is None
    assert read(folder, {"eos_token_id": None, "bos_token_id": -1}).named == {}


def test_no_end_at_all_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """For llama.cpp would take token 11 for the end."""
    folder = edited(checkpoint, tmp_path / "edited", bos_token_id=None, eos_token_id=None)
    (folder / "tokenizer_config.json").write_text("{}", "utf-8")
    with pytest.raises(ConvertError, match="names no start or end token"):
        gpt2.write(open_checkpoint(folder), tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("tokenizer.json", "{", "is not JSON"),
        ("tokenizer.json", "[]", "is not a JSON object"),
        ("tokenizer.json", "{}", "cannot be loaded"),
        ("tokenizer.json", "[" * 99999, "is not JSON"),
        ("tokenizer_config.json", "{", "is not JSON"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "not a table of tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"one": {"content": "a"}}}', "not a table of tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"1": "a"}}', "not a table of tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"1": {}}}', "not a table of tokens"),
    ],
)
def test_a_damaged_file_is_named(checkpoint: Path, tmp_path: Path, name: str, text: str, what: str) -> None:
    """One clear error."""
    folder = edited(checkpoint, tmp_path / "edited")
    (folder / name).write_text(text, "utf-8")
    with pytest.raises(ConvertError, match=what):
        read(folder)


def test_what_transformers_reads_otherwise_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """The comparison would be with another tokenizer than the one that is written."""
    folder = edited(checkpoint, tmp_path / "edited")
    words = read(folder)
    with pytest.raises(ConvertError, match="other tokens"):
        reference.load_tokenizer(Words(folder, _grown(words), words.named))
    with pytest.raises(ConvertError, match="as eos token"):
        reference.load_tokenizer(Words(folder, words.backend, dict(words.named) | {"eos": "the"}))


def _grown(words: Words) -> Any:
    made = type(words.backend).from_str(words.backend.to_str())
    made.add_tokens(["never before"])
    return made


def test_converting_loads_no_pytorch(checkpoint: Path, tmp_path: Path) -> None:
    """Writing and quantizing do without it and without transformers; only comparisons need them."""
    code = (
        "import sys; from pathlib import Path\n"
        "from convert import gpt2, quantize; from convert.checkpoint import open_checkpoint\n"
        f"exact = gpt2.write(open_checkpoint({str(checkpoint)!r}), Path({str(tmp_path / 'exact.gguf')!r}))\n"
        f"quantize.quantize(exact, Path({str(tmp_path / 'small.gguf')!r}), 'q8_0')\n"
        "print(sorted({'torch', 'transformers', 'peft', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
