"""Log-probabilities in the two shapes of the OpenAI API. A token that holds half a character is told by its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgegen.serving.calls import Token


def for_completion(tokens: Sequence[Token], offset: int) -> dict[str, Any]:
    """The shape of /v1/completions; `offset` is where the first token begins in the text, in characters."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(_shown(token.text))
    return {
        "tokens": [_named(token.text) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{_named(text): logprob for _, text, logprob in token.top} for token in tokens],
        "text_offset": offsets,
    }


def for_chat(tokens: Sequence[Token]) -> dict[str, Any]:
    """The shape of /v1/chat/completions."""
    content = [
        {**_entry(token.text, token.logprob), "top_logprobs": [_entry(text, logprob) for _, text, logprob in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _entry(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": _shown(text), "logprob": logprob, "bytes": list(_bytes(text))}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(text: str) -> str:
    return _bytes(text).decode("utf-8", "replace")


def _named(text: str) -> str:
    raw = _bytes(text)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
