"""A checkpoint's tokenizer, read from its files without PyTorch or transformers. What is made of it is checked elsewhere.

Three layouts: `tokenizer.json`; GPT-2's `vocab.json` and `merges.txt`; BERT's `vocab.txt`. Names of special tokens stand in
`tokenizer_config.json` or, in older folders, `special_tokens_map.json`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgegen.errors import ConvertError
from edgegen.slots import SPECIALS

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_GPT2 = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
_ADVICE = "Save the tokenizer again."


@dataclass(frozen=True)
class Words:
    """A tokenizer: `named` are the texts of special tokens by their role, of `ROLES`."""

    folder: Path
    backend: Tokenizer
    named: Mapping[str, str]

    @cached_property
    def raw(self) -> dict[str, Any]:
        """The tokenizer as `tokenizer.json` holds it."""
        raw: dict[str, Any] = json.loads(self.backend.to_str())
        return raw

    @cached_property
    def vocab(self) -> dict[str, int]:
        """Ids by token, added tokens among them."""
        return dict(self.backend.get_vocab(with_added_tokens=True))

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.vocab)

    @property
    def missing(self) -> list[str]:
        """Those of edgegen's tokens that the tokenizer lacks."""
        return [token for token in SPECIALS if token not in self.vocab]

    def id(self, role: str) -> int | None:
        """The id of a special token, None where there is none of that role."""
        return self.vocab[self.named[role]] if role in self.named else None


def read(folder: Path, config: Mapping[str, Any] | None = None) -> Words:
    """The tokenizer of a folder; `config` is the model's, which names start and end where the tokenizer does not.

    Raises ConvertError.
    """
    settings = _json(folder / "tokenizer_config.json")
    named = {f"{role}_token": value for role, value in _defaults(folder).items()}
    named |= _json(folder / "special_tokens_map.json") | settings
    made = _backend(folder, settings)
    texts = {role: text for role in ROLES if (text := _text(named.get(f"{role}_token")))}
    _add(made, folder, settings, set(texts.values()))
    beside = {token.content for token in made.get_added_tokens_decoder().values()}
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in texts.values() if t not in beside])
    return Words(folder, made, _numbered(made, config or {}) | texts)


def _numbered(made: Tokenizer, config: Mapping[str, Any]) -> dict[str, str]:
    found = {role: config.get(f"{role}_token_id") for role in ("bos", "eos", "pad")}
    tokens = {role: made.id_to_token(id_) for role, id_ in found.items() if type(id_) is int and id_ >= 0}
    return {role: token for role, token in tokens.items() if token is not None}


def _defaults(folder: Path) -> Mapping[str, str]:
    if (folder / "tokenizer.json").is_file():
        return {}
    return _GPT2 if (folder / "vocab.json").is_file() else _BERT


def _backend(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer without what is added to it."""
    whole, vocab, merges, lines = (folder / n for n in ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"))
    if whole.is_file():
        _json(whole)  # its errors name the place
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole))
        if vocab.is_file() and merges.is_file():
            return _byte_level(models.BPE.from_file(str(vocab), str(merges)), bool(settings.get("add_prefix_space", False)))
        if lines.is_file():
            return _wordpiece(lines, settings)
    except ConvertError:
        raise
    except Exception as error:
        raise ConvertError(f"{folder}: the tokenizer cannot be loaded: {error}. {_ADVICE}") from error
    if vocab.is_file():
        raise ConvertError(f"{folder} holds vocab.json and no merges.txt. {_ADVICE}")
    raise ConvertError(f"{folder} holds no tokenizer.json. Save the tokenizer beside the model.")


def _byte_level(model: models.BPE, add_prefix_space: bool) -> Tokenizer:
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    made.decoder = decoders.ByteLevel()
    return made


def _wordpiece(lines: Path, settings: Mapping[str, Any]) -> Tokenizer:
    tokens = lines.read_text("utf-8").split("\n")
    vocab = {token: id_ for id_, token in enumerate(tokens[:-1] if not tokens[-1] else tokens)}
    unknown = _text(settings.get("unk_token")) or _BERT["unk"]
    if unknown not in vocab:
        raise ConvertError(f"{lines}: the unknown token {unknown!r} is not in the vocabulary. {_ADVICE}")
    made = Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"), lowercase=settings.get("do_lower_case", True),
    )  # fmt: skip
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##")
    return made


def _add(made: Tokenizer, folder: Path, settings: Mapping[str, Any], special: Collection[str]) -> None:
    """Add the tokens that stand beside the vocabulary, in the order of their ids; `special` are those that have a role."""
    beside = _json(folder / "added_tokens.json")  # older folders: text to id
    older = {id_: {"content": text, "special": text in special} for text, id_ in beside.items() if isinstance(id_, int)}
    try:
        newer = {int(id_): dict(token) for id_, token in (settings.get("added_tokens_decoder") or {}).items()}
        found = [AddedToken(str(token.pop("content")), **_flags(token)) for _, token in sorted((older | newer).items())]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        path = folder / "tokenizer_config.json"
        raise ConvertError(f"{path}: added_tokens_decoder is not a table of tokens. {_ADVICE}") from error
    whole = (folder / "tokenizer.json").is_file()
    for entry in found:
        if not whole or made.token_to_id(entry.content) is None:
            (made.add_special_tokens if entry.special else made.add_tokens)([entry])


def _flags(token: Mapping[str, Any]) -> dict[str, bool]:
    special = bool(token.get("special"))
    edges = {name: bool(token.get(name)) for name in ("lstrip", "rstrip", "single_word")}
    return {"special": special, "normalized": bool(token.get("normalized", not special)), **edges}


def _text(value: Any) -> str | None:
    """A token that is written as text or as an object with its content."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path} is not JSON: {error}. {_ADVICE}") from error
    if not isinstance(found, dict):
        raise ConvertError(f"{path} is not a JSON object. {_ADVICE}")
    return found
