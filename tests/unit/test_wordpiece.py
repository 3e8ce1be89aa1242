"""WordPiece: llama.cpp reads, computes and writes what the checkpoint does; what it cannot follow is refused by name."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import BertTokenizerFast, GPT2Config, GPT2LMHeadModel

from convert import gpt2, torture, verify, wordpiece
from convert.checkpoint import open_checkpoint
from convert.restore import restore
from edgegen.decode import Decoder
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Engine
from edgegen.engine.wordpiece import before_slot, piece
from edgegen.errors import ConvertError
from edgegen.slots import END, SPECIALS, Prompt, Slot, bind
from edgegen.train.dataset import Encoder
from edgegen.train.lora import prepare_base
from tests.fakes.checkpoints import PAIRS, TEXTS, errors

BRACKETED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def entries() -> list[str]:
    """A vocabulary with every character of the texts as start and continuation, and a few words."""
    text = "".join([*TEXTS, *torture.TEXTS, *map(chr, range(33, 127)), "￥只要"])
    text += unicodedata.normalize("NFD", text)
    chars = sorted({c for c in text + text.lower() if not c.isspace() and c not in "\0▁"})
    return [*BRACKETED, *chars, *(f"##{c}" for c in chars), "table", "small", "##ing", "cup", "##", ""]


def make(folder: Path, *, vocab: list[str] | None = None, specials: bool = True, **settings: Any) -> Path:
    """A random two-layer GPT-2 with `vocab.txt` and tokenizer_config.json, edgegen's tokens last in the vocabulary."""
    folder.mkdir()
    lines = entries() if vocab is None else vocab
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    added = {str(len(lines) + i): {"content": token, "special": True} for i, token in enumerate(SPECIALS if specials else ())}
    named = {"eos_token": END} if specials else {}
    config = {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": added, "do_lower_case": False, **named, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    torch.manual_seed(3)
    size = len(BertTokenizerFast.from_pretrained(folder))
    sizes = {"vocab_size": size, "n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return make(tmp_path_factory.mktemp("wordpiece") / "checkpoint")


@pytest.fixture(scope="module")
def exact(folder: Path) -> Path:
    """The same as F32 GGUF."""
    return gpt2.write(open_checkpoint(folder), folder.parent / "exact.gguf")


def test_it_computes_what_pytorch_computes(folder: Path, exact: Path) -> None:
    """Logits within rounding, the same greedy text, and the comparison that every conversion makes passes."""
    opened = open_checkpoint(folder)
    worst, mean, same = errors(opened, exact)
    assert (worst < 2e-2, mean < 2e-3, same) == (True, True, True)
    verify.require_equal(verify.compare(opened, exact, PAIRS), exact)


@pytest.mark.parametrize(
    ("settings", "fewer"),
    [
        ({}, 1),
        ({"do_lower_case": True}, 4),
        ({"do_lower_case": True, "strip_accents": False}, 2),
        ({"strip_accents": True}, 4),
    ],
)
def test_the_tokens_are_the_same(tmp_path: Path, settings: dict[str, Any], fewer: int) -> None:
    """For every hard text but those listed, which differ indeed; edgegen's tokens are control tokens that text cannot write."""
    opened = open_checkpoint(make(tmp_path / "checkpoint", **settings))
    backend = LlamaBackend(gpt2.write(opened, tmp_path / "exact.gguf"), LlamaOptions(max_sequences=1))
    encoder, hard = Encoder(opened.tokenizer), verify.hard_texts(opened)
    for text in [*TEXTS, *hard, "".join(SPECIALS), " ".join(BRACKETED)]:
        assert backend.tokenize(text) == encoder.text_ids(text), text
    known = wordpiece.different(opened.words)
    assert len(torture.TEXTS) - len(hard) == len(known) == fewer
    assert not [text for text in known if backend.tokenize(text) == encoder.text_ids(text)]
    assert [backend.control_id(t) for t in SPECIALS] == opened.tokenizer.convert_tokens_to_ids(list(SPECIALS))
    assert not any(map(backend.is_control, backend.tokenize("".join([*SPECIALS, *BRACKETED[2:]]))))
    assert backend.eos == opened.tokenizer.convert_tokens_to_ids(END)
    backend.close()


def test_ids_and_settings_are_written(folder: Path, exact: Path) -> None:
    """Each special id is the tokenizer's, nothing is to be added, and restoring says what it cannot."""
    reader, words = gguf.GGUFReader(exact), open_checkpoint(folder).tokenizer

    def value(key: str) -> Any:
        field = reader.get_field(f"tokenizer.ggml.{key}")
        return None if field is None else field.contents()

    ids = {"bos": words.cls_token_id, "unknown": 1, "seperator": words.sep_token_id, "padding": 0, "mask": 4}
    assert {name: value(f"{name}_token_id") for name in ids} == ids
    assert value("eos_token_id") == words.convert_tokens_to_ids(END)
    flags = ("add_bos_token", "add_eos_token", "add_sep_token", "normalizer.lowercase", "normalizer.strip_accents")
    assert (value("model"), [value(flag) for flag in flags]) == ("bert", [False] * 5)
    assert [value("tokens")[id_] for id_ in words.convert_tokens_to_ids(["[UNK]", "table", "##ing"])] == [
        "[UNK]",
        "▁table",
        "ing",
    ]
    with pytest.raises(ConvertError, match="not GPT-2's byte-level BPE"):
        restore(exact, exact.parent / "back")


def test_text_has_spaces_where_they_belong(exact: Path) -> None:
    """Chinese and punctuation stand without a space, Latin words with one, also before a slot."""
    bound = bind(PAIRS[1].request)
    with Engine(lambda: LlamaBackend(exact, LlamaOptions(max_sequences=2))) as engine:
        decoder = Decoder(engine.vocabulary)

        def written(text: str) -> str:
            return _shown(decoder, engine.encode([text]), bound)

        assert decoder.knows_slots
        assert written("这张木桌，很结实。") == "这张木桌，很结实。"
        assert written("a small table, quiet.") == "a small table, quiet."
        assert written("木桌 table 很") == "木桌 table很"
        slot = bound.slots[0]
        for before, after in (("this", " for"), ("this,", "."), ("只要", "，很"), ("", " is")):
            tokens = [*engine.encode([before]), *engine.encode([slot.control]), *engine.encode([after])]
            assert _shown(decoder, tokens, bound) == before + (" " if before.isascii() and before else "") + "<>" + after


def _shown(decoder: Decoder, tokens: list[int], prompt: Prompt) -> str:
    segments = decoder.segments(tokens, prompt)
    assert segments is not None
    return "".join("<>" if isinstance(segment, Slot) else segment for segment in segments)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (" word", " word"), (" 今", "今"), (" ，", "，"), (" .", "."), ("ing", "ing"), (" か", "か"), (" 한", " 한"),
        (" ￥", "￥"), (" $", " $"), (" ", ""),
    ],
)  # fmt: skip
def test_a_piece(data: str, shown: str) -> None:
    """A space stays before words that spaces separate."""
    assert piece(data.encode()) == shown.encode()


def test_before_a_slot() -> None:
    """Nothing is put after Chinese, an opening bracket or nothing."""
    assert [before_slot(t) for t in ("", "is", "要", "(", "so,", "，")] == ["", "is ", "要", "(", "so, ", "，"]


def _edited(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy that has tokenizer.json, its parts changed, in place of vocab.txt."""
    shutil.copytree(folder, target)
    words = open_checkpoint(folder).tokenizer
    words.save_pretrained(target)
    (target / "vocab.txt").unlink(missing_ok=True)
    raw = json.loads((target / "tokenizer.json").read_text("utf-8"))
    for part, change in changes.items():
        raw[part] |= change
    (target / "tokenizer.json").write_text(json.dumps(raw), "utf-8")
    return target


def test_tokenizer_json_is_read(folder: Path, exact: Path, tmp_path: Path) -> None:
    """It gives the same file as vocab.txt does."""
    again = open_checkpoint(_edited(folder, tmp_path / "checkpoint"))
    assert gpt2.write(again, tmp_path / "again.gguf").read_bytes() == exact.read_bytes()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"normalizer": {"clean_text": False}}, "clean_text is false"),
        ({"normalizer": {"lowercase": True}}, "do_lower_case is False in tokenizer_config.json and True in tokenizer.json"),
        ({"model": {"continuing_subword_prefix": "@@"}}, "the continuing prefix is '@@'"),
        ({"model": {"max_input_chars_per_word": 20}}, "max_input_chars_per_word is 20"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "the pre-tokeniser is Whitespace"),
    ],
)
def test_settings_are_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConvertError, match=what):
        open_checkpoint(_edited(folder, tmp_path / "edited", **changes))


@pytest.mark.parametrize(
    ("extra", "settings", "what"),
    [
        ([], {"tokenize_chinese_chars": False}, "tokenize_chinese_chars is false"),
        (["##▁x"], {}, "begin with llama.cpp's mark"),
        (["##[PAD]"], {}, r"'\[PAD\]'.*'##\[PAD\]' become one|'##\[PAD\]' and '\[PAD\]' become one"),
        (["a\0b"], {}, "hold a NUL"),
        (["PAD"], {"pad_token": "PAD"}, "'PAD'.* have no punctuation"),
    ],
)
def test_vocabularies_are_refused(tmp_path: Path, extra: list[str], settings: dict[str, Any], what: str) -> None:
    """What llama.cpp would look up differently, before anything is written."""
    folder = make(tmp_path / "edited", vocab=[*BRACKETED, "a", *extra], specials=False, **settings)
    with pytest.raises(ConvertError, match=what):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("flags", "what"),
    [({"lstrip": True}, "lstrip"), ({"single_word": True}, "single_word"), ({"normalized": True}, "normalized")],
)
def test_added_tokens_are_refused(tmp_path: Path, flags: dict[str, bool], what: str) -> None:
    """One that takes in what stands beside it, and one looked for in normalised text."""
    token = {"content": "<x>", "special": False, "normalized": False, **flags}
    folder = make(tmp_path / "edited", vocab=[*BRACKETED, "a"], specials=False, added_tokens_decoder={"6": token})
    with pytest.raises(ConvertError, match=what):
        open_checkpoint(folder)


def test_a_base_gets_edgegens_tokens(tmp_path: Path) -> None:
    """A checkpoint without them is extended for training, and converts with the tokens it had."""
    before = open_checkpoint(make(tmp_path / "base", specials=False))
    after = open_checkpoint(prepare_base(str(tmp_path / "base"), tmp_path / "extended"))
    assert len(after.tokenizer) == len(before.tokenizer) + len(SPECIALS)
    path = gpt2.write(after, tmp_path / "extended.gguf")
    verify.require_equal(verify.compare(after, path, PAIRS), path)


def test_a_text_that_differs_is_named(folder: Path, exact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known to differ fails the comparison, and the message quotes it."""
    monkeypatch.setattr(wordpiece, "different", lambda _: {})
    with pytest.raises(ConvertError, match="splits 'aaaaa"):
        verify.compare(open_checkpoint(folder), exact, PAIRS)
