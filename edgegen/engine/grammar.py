"""Follows a text along a grammar in GBNF with llama.cpp's grammar sampler. Knows no sampling options and no jobs.

The notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md. llama.cpp ends the process where a token
is accepted that the grammar does not allow, so `accept` looks first.
"""

from __future__ import annotations

import ctypes
import re
import weakref
from typing import Any, Self

import numpy as np

from edgegen.engine import native
from edgegen.engine.backend import Ids, Mask
from edgegen.errors import EngineError, OptionError

MOST = 100_000
"""Characters a grammar may have."""
_DEEPEST = 200  # brackets in brackets: the parser is recursive, in native code
_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_REASON = re.compile(r"error parsing grammar: (.+)")
_LITERALS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')


class LlamaGrammar:
    """How far a text has come along a grammar. Implements `backend.Grammar`; for the thread of its backend."""

    def __init__(self, lib: Any, sampler: Any) -> None:
        """Take over a native sampler."""
        self._lib, self._sampler = lib, sampler
        weakref.finalize(self, lib.llama_sampler_free, sampler)

    @classmethod
    def read(cls, lib: Any, vocab: Any, text: str) -> Self:
        """A grammar whose first rule to write is `root`. Raises OptionError, with what llama.cpp's parser says."""
        data = _checked(text)
        native.LOG.errors.clear()
        with native.stderr_kept() as said:
            sampler = lib.llama_sampler_init_grammar(vocab, data, b"root")
        if not sampler:
            found = _REASON.search(said[0])
            raise OptionError(f"The grammar cannot be read: {found[1] if found else native.LOG.reason}. Write it in GBNF.")
        return cls(lib, sampler)

    def allows(self, ids: Ids) -> Mask:
        """Which of these tokens may come next: bool [len(ids)]; a token that ends texts, where the text may end."""
        data = np.zeros(len(ids), dtype=_DATA)
        data["id"] = ids
        pointer = data.ctypes.data_as(ctypes.POINTER(self._lib.llama_token_data))
        array = self._lib.llama_token_data_array(pointer, len(ids), -1, False)
        self._lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: Mask = data["logit"] == 0
        return allowed

    def accept(self, token: int) -> None:
        """Go on with a token. Raises EngineError for one that is not allowed."""
        if not self.allows(np.array([token]))[0]:
            raise EngineError(f"The grammar does not allow token {token} here. Choose one that it allows.")
        self._lib.llama_sampler_accept(self._sampler, token)

    def copy(self) -> Self:
        """Another text that has come as far."""
        return type(self)(self._lib, self._lib.llama_sampler_clone(self._sampler))


def _checked(text: str) -> bytes:
    """The grammar's bytes, if they may go to native code, which stops at a zero and is recursive."""
    depth = deepest = 0
    for char in _LITERALS.sub("", text):
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    for wrong, what in (
        (not text.strip(), "it is empty"),
        (len(text) > MOST, f"it has {len(text)} characters, more than {MOST}"),
        ("\0" in text, "it has a zero character"),
        (deepest > _DEEPEST, f"it has more than {_DEEPEST} brackets in brackets"),
    ):
        if wrong:
            raise OptionError(f"The grammar cannot be read: {what}. Write it in GBNF.")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise OptionError(f"The grammar cannot be read: {error.reason}. Write it in GBNF.") from None
