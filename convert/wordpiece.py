"""BERT's WordPiece tokenizers, as many Chinese GPT-2 checkpoints have them: loaded, checked, spelled as llama.cpp reads them.

llama.cpp marks where a word starts (`▁x`) and leaves a continuation bare (`x`); BERT marks the continuation (`##x`). How text
is cut into words is fixed in both but for two options, lower case and accents; every other setting is refused.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from convert.words import Words
from edgegen.errors import ConvertError
from edgegen.slots import SPECIALS

_START = "▁"
_PREFIX = "##"
_LONGEST = 100  # characters of a word that the tokenizer looks up at all; llama.cpp has no such bound
_OPTIONS = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
"""Settings in tokenizer_config.json, and their names in tokenizer.json."""
_EMPTY = "[EMPTY]"
"""For a token without text, which some vocabularies have from a line of white space: a mark alone would start any word."""
_NORMALIZER = "tokenizer.ggml.normalizer."

_LONG = {"a" * 300: "the tokenizer gives a word of more than 100 characters up, llama.cpp cuts it into tokens"}
_STRIPPED = {
    "한국어 설명입니다.": "llama.cpp takes a Hangul syllable for its first letter, the tokenizer for all its letters",
    "नमस्ते दुनिया क्षत्रिय": "llama.cpp strips every mark, the tokenizer only those that take no place of their own",
    "👍🏽 👩‍👩‍👧‍👦 🇨🇳 1️⃣ ❤️ ☺": "llama.cpp strips the keycap too, a mark around a character",
}
_LOWERED = {"İstanbul ışık ŞĞ": "İ in lower case has two characters, of which llama.cpp keeps the first"}


def follows(words: Words) -> bool:
    """Whether a tokenizer is a WordPiece one."""
    return bool(words.raw["model"]["type"] == "WordPiece")


def different(words: Words) -> Mapping[str, str]:
    """Those of `torture.TEXTS` that llama.cpp is known to tokenise otherwise with a tokenizer's settings, and why."""
    lowercase, strip = options(words)
    return _LONG | (_STRIPPED if strip else _LOWERED if lowercase else {})


def options(words: Words) -> tuple[bool, bool]:
    """Whether a tokenizer lowers case and whether it strips accents, which it does with lower case unless told otherwise."""
    normalizer = words.raw["normalizer"]
    lowercase, strip = normalizer["lowercase"], normalizer["strip_accents"]
    return lowercase, lowercase if strip is None else strip


def check(words: Words, where: Path | str) -> None:
    """Refuse WordPiece settings and tokens that llama.cpp would not follow. Raises ConvertError."""
    raw = words.raw
    for wrong, what in [*_settings(raw), *_disagreements(raw, Path(where)), *_added(raw), *_spellings(words)]:
        if wrong:
            raise ConvertError(f"{where}: {what}; llama.cpp's WordPiece does not follow that. Use BERT's usual WordPiece.")


def _settings(raw: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    model, normalizer, pre = raw["model"], raw["normalizer"] or {"type": "none"}, raw["pre_tokenizer"] or {"type": "none"}
    yield normalizer["type"] != "BertNormalizer", f"the normaliser is {normalizer['type']}, not BertNormalizer"
    yield not normalizer.get("clean_text"), "clean_text is false"
    yield not normalizer.get("handle_chinese_chars"), "tokenize_chinese_chars is false"
    yield pre["type"] != "BertPreTokenizer", f"the pre-tokeniser is {pre['type']}, not BertPreTokenizer"
    prefix, longest = model["continuing_subword_prefix"], model["max_input_chars_per_word"]
    yield prefix != _PREFIX, f"the continuing prefix is {prefix!r}, not {_PREFIX!r}"
    yield longest < _LONGEST, f"max_input_chars_per_word is {longest}, less than {_LONGEST}"
    yield model["unk_token"] not in model["vocab"], f"the unknown token {model['unk_token']!r} is not in the vocabulary"


def _disagreements(raw: dict[str, Any], folder: Path) -> Iterator[tuple[bool, str]]:
    """A Bert class takes these from tokenizer_config.json, others from tokenizer.json: which was trained with is not known."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for theirs, ours in _OPTIONS.items():
        said, done = config.get(theirs), (raw["normalizer"] or {}).get(ours)
        yield (
            None not in (said, done) and said != done,
            f"{theirs} is {said} in tokenizer_config.json and {done} in tokenizer.json",
        )


def _added(raw: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    added = raw["added_tokens"]
    trimming = [t["content"] for t in added if t["lstrip"] or t["rstrip"] or t["single_word"]]
    yield bool(trimming), f"the added tokens {trimming[:3]} take in what stands beside them (lstrip, rstrip, single_word)"
    loose = [t["content"] for t in added if t["normalized"] and not t["special"]]
    yield bool(loose), f"the added tokens {loose[:3]} are looked for in normalised text (normalized)"


def _spellings(words: Words) -> Iterator[tuple[bool, str]]:
    raw, special = words.raw, controls(words)
    bare = [token for token in special if len(token) < 2 or not set(token) & set(string.punctuation)]
    # Kept as it is, such a token would be the continuation of a word, and text could write it.
    yield bool(bare), f"the special tokens {bare[:3]} have no punctuation, so text can write them"
    starting = [token for token in raw["model"]["vocab"] if token.startswith(_PREFIX + _START)]
    yield bool(starting), f"the continuations {starting[:3]} begin with llama.cpp's mark of a word's start"
    cut = [token for token in words.vocab if "\0" in token]
    yield bool(cut), f"the tokens {cut[:3]} hold a NUL, where llama.cpp ends a token"
    taken = dict[str, str]()
    plain = special | {t["content"] for t in raw["added_tokens"]}
    for token in words.vocab:
        other = taken.setdefault(spell(token, plain=token in plain), token)
        yield other != token, f"the tokens {other!r} and {token!r} become one"


def controls(words: Words) -> set[str]:
    """The tokens that text must not be able to write: special ones, the unknown token, edgegen's."""
    raw = words.raw
    special = {t["content"] for t in raw["added_tokens"] if t["special"]} | {*words.named.values(), raw["model"]["unk_token"]}
    return special | (set(SPECIALS) & set(words.vocab))


def spell(token: str, *, plain: bool) -> str:
    """A token as llama.cpp looks it up; a `plain` one (special, added, unused) stays as it is."""
    if plain:
        return token
    if not token:
        return _EMPTY
    # A bare prefix continues nothing: an empty text would get a made-up name.
    continues = token.startswith(_PREFIX) and token != _PREFIX
    return token.removeprefix(_PREFIX) if continues else _START + token


def ids(words: Words) -> dict[str, int]:
    """The ids of special tokens by their keys.

    None may be left out but the end's: llama.cpp would take the first BERT's, which stand for other tokens elsewhere. What
    the tokenizer lacks is the unknown token. Where no end is named, the separator is: texts were trained between [CLS] and [SEP].
    """
    keys, unknown = gguf.Keys.Tokenizer, words.vocab[words.raw["model"]["unk_token"]]
    start = words.id("cls") if words.id("bos") is None else words.id("bos")
    found = {
        keys.BOS_ID: start, keys.UNK_ID: unknown, keys.SEP_ID: words.id("sep"), keys.PAD_ID: words.id("pad"),
        keys.MASK_ID: words.id("mask"),
    }  # fmt: skip
    last = words.id("sep") if words.id("eos") is None else words.id("eos")
    end = {} if last is None else {keys.EOS_ID: last}
    return {key: unknown if id_ is None else id_ for key, id_ in found.items()} | end


def describe(writer: gguf.GGUFWriter, tokens: Sequence[str], types: Sequence[int], words: Words) -> None:
    """Write the vocabulary and its settings into a GGUF header.

    No start, end or separator is to be added. This llama.cpp reads these keys and yet adds a start and a separator where a
    program asks it for special tokens, which edgegen never does.
    """
    lowercase, strip = options(words)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([spell(t, plain=kind != gguf.TokenType.NORMAL) for t, kind in zip(tokens, types, strict=True)])
    writer.add_token_types(types)
    for key, id_ in ids(words).items():
        writer.add_uint32(key, id_)
    writer.add_bool(_NORMALIZER + "lowercase", lowercase)
    writer.add_bool(_NORMALIZER + "strip_accents", strip)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_sep_token(False)
