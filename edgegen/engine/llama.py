"""The llama.cpp backend.

Owns a model and a context. Refuses what llama.cpp accepts and then crashes or silently does wrong: files that are cut
off, a context beyond the trained positions, positions out of range.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgegen.engine import adapter as adapters
from edgegen.engine import native, wordpiece
from edgegen.engine.backend import Batch, Logits
from edgegen.engine.gguf import read_header
from edgegen.engine.grammar import Automaton, Followed, Words
from edgegen.engine.options import BATCH
from edgegen.errors import EngineError, GpuMemoryError, OptionError, PackError

_NO_MEMORY = -2  # what llama_decode returns where an allocation failed
_ROWS, _ROWS_BYTES = 64, 8 << 20  # rows of logits it gives at once, and what they may take


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """How a model is loaded. The defaults are safe everywhere; `hardware.probe` finds faster ones."""

    n_ctx: int | None = None
    """Positions a sequence may have; None takes the trained ones, at most 1024."""
    max_sequences: int = 24
    """Sequences in the cache: candidates of all running jobs, two in three, and prompts that are kept. 1 to 256."""
    n_cells: int | None = None
    """Tokens the cache holds in all sequences together; None takes twice n_ctx, and 2048 at least."""
    threads: int = 1
    """Threads for decoding. At least 1."""
    repacked: bool = False
    """Use repacked weight buffers: faster on some processors, a crash on others."""
    gpu_layers: int = 0
    """Layers to put on a GPU where the installed llama.cpp has one; -1 for all."""
    batch: int = BATCH
    """Tokens of a prompt decoded at once: memory grows with it. 16 to 4096."""
    flash: bool = True
    """Flash attention. Without it some types of weights (Q8_0 on x86) give the same logits to the last bit in every batch."""
    adapter: Path | None = None
    """A LoRA adapter in GGUF that goes on top of the model; see `convert.adapter`."""
    adapter_scale: float = 1.0
    """How much of the adapter: 1 as it was trained, 0 the model alone."""
    verbose: bool = False
    """Let llama.cpp write its log to stderr."""

    def __post_init__(self) -> None:
        """Check every range. Raises OptionError."""
        if not 1 <= self.max_sequences <= 256:
            raise OptionError(f"max_sequences must be in [1, 256], got {self.max_sequences}")
        for name, value in (("n_ctx", self.n_ctx), ("n_cells", self.n_cells), ("threads", self.threads)):
            if value is not None and value < 1:
                raise OptionError(f"{name} must be at least 1, got {value}", name)
        if not 16 <= self.batch <= 4096:
            raise OptionError(f"batch must be in [16, 4096], got {self.batch}")
        if self.gpu_layers < -1:
            raise OptionError(f"gpu_layers must be -1 (all) or more, got {self.gpu_layers}")
        if not math.isfinite(self.adapter_scale):
            raise OptionError(f"adapter_scale must be a finite number, got {self.adapter_scale}")


class LlamaBackend:
    """A GGUF model in llama.cpp. Implements `backend.Backend`; make, use and close it in one thread."""

    def __init__(self, path: Path, options: LlamaOptions | None = None) -> None:
        """Load a model. Raises NotFoundError, PackError, OptionError, MissingExtraError, EngineError."""
        self._options = options = options or LlamaOptions()
        self._path, self._model, self._context, self._adapter = path, None, None, None
        header = read_header(path)
        if options.adapter is not None:
            adapters.check(options.adapter, path, header)
        self._n_ctx = _context_length(options.n_ctx, header.n_ctx_train, path)
        self._n_cells = options.n_cells or max(2 * self._n_ctx, 2048)
        self._lib = native.bindings()
        native.LOG.verbose = options.verbose
        native.LOG.errors.clear()
        self._model = self._load()
        self._adapter = self._load_adapter(options.adapter)  # before the context, which makes room for what is loaded by then
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self._n_vocab = int(self._lib.llama_vocab_n_tokens(self._vocab))
        self._words: Words | None = None  # made for the first grammar
        self._is_wordpiece = self._lib.llama_vocab_type(self._vocab) == self._lib.LLAMA_VOCAB_TYPE_WPM
        self._context = self._new_context()
        self._apply_adapter()
        self._memory = self._lib.llama_get_memory(self._context)
        self._arrays = _Arrays(self._lib, options.batch, options.max_sequences)
        self._logits_at, self._logits = 0, np.empty((0, self._n_vocab), dtype=np.float32)

    def _load(self) -> Any:
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = self._options.gpu_layers
        params.use_extra_bufts = self._options.repacked
        model = self._lib.llama_model_load_from_file(str(self._path).encode(), params)
        if not model:
            raise PackError(
                f"llama.cpp cannot load {self._path}: {native.LOG.reason}. Verify the pack, or convert the model again."
            )
        return model

    def _load_adapter(self, path: Path | None) -> Any:
        if path is None:
            return None
        adapter = self._lib.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            self.close()
            raise PackError(
                f"llama.cpp cannot load the adapter {path} on {self._path.name}: {native.LOG.reason}. {adapters.ADVICE}"
            )
        return adapter

    def _apply_adapter(self) -> None:
        if not self._adapter:
            return
        one, scale = (self._lib.llama_adapter_lora_p_ctypes * 1)(self._adapter), (ctypes.c_float * 1)(self._options.adapter_scale)
        if self._lib.llama_set_adapters_lora(self._context, one, 1, scale):
            self.close()
            raise EngineError(
                f"llama.cpp cannot apply the adapter {self._options.adapter}: {native.LOG.reason}. {adapters.ADVICE}"
            )

    def _new_context(self) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = self._n_cells, self._options.max_sequences, True
        params.n_batch = params.n_ubatch = self._options.batch
        # The buffers for logits are made for the most rows: 256 rows of 50k tokens would take 50 MB.
        params.n_outputs_max = self.most_rows
        params.n_threads = params.n_threads_batch = self._options.threads
        if not self._options.flash:
            params.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.no_perf = True
        context = self._lib.llama_init_from_model(self._model, params)
        if not context:
            self.close()
            raise EngineError(
                f"llama.cpp cannot make a context of {self._n_cells} tokens: {native.LOG.reason}. Use a smaller n_ctx or n_cells."
            )
        return context

    @property
    def n_ctx(self) -> int:
        """Positions a sequence may have."""
        return self._n_ctx

    @property
    def n_cells(self) -> int:
        """Tokens the cache holds in all."""
        return self._n_cells

    @property
    def n_vocab(self) -> int:
        """Size of the vocabulary."""
        return self._n_vocab

    @property
    def max_sequences(self) -> int:
        """Sequences the cache tells apart."""
        return self._options.max_sequences

    @property
    def batch(self) -> int:
        """Tokens that llama.cpp takes in one go."""
        return self._options.batch

    @property
    def most_rows(self) -> int:
        """Rows of logits that llama.cpp gives in one go: for one token of every sequence at least, and some drafts."""
        return max(self._options.max_sequences, min(_ROWS, _ROWS_BYTES // (4 * self._n_vocab)))

    @property
    def eos(self) -> int | None:
        """The token that ends a text, if the model has one."""
        token = int(self._lib.llama_vocab_eos(self._vocab))
        return token if token >= 0 else None

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text, without a start token."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        out = (self._lib.llama_token * size)()
        n = self._lib.llama_tokenize(self._vocab, data, len(data), out, size, False, special)
        if n < 0:
            raise EngineError(f"llama.cpp cannot tokenise a text of {len(data)} bytes. Shorten it.")
        return list(out[:n])

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes of a token."""
        self._check_token(token)
        size = 64
        while True:
            out = ctypes.create_string_buffer(size)
            n = self._lib.llama_token_to_piece(self._vocab, token, out, size, 0, True)
            if n >= 0:
                return wordpiece.piece(out.raw[:n]) if self._is_wordpiece else out.raw[:n]
            size = -n

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token."""
        self._check_token(token)
        return bool(self._lib.llama_vocab_is_control(self._vocab, token))

    def is_end(self, token: int) -> bool:
        """Whether a token ends a text."""
        self._check_token(token)
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def control_id(self, token: str) -> int | None:
        """The id of a control token given as text."""
        ids = self.tokenize(token, special=True)
        return ids[0] if len(ids) == 1 and self.is_control(ids[0]) else None

    def grammar(self, text: str) -> Followed:
        """A grammar in GBNF, at its beginning. Raises GrammarError for one that cannot be read."""
        if self._words is None:
            everything = range(self._n_vocab)
            self._words = Words([self.token_bytes(token) for token in everything], filter(self.is_end, everything))
        return Followed(Automaton(text, self._words))

    def _check_token(self, token: int) -> None:
        if not 0 <= token < self._n_vocab:
            raise EngineError(f"Token {token} is not in the vocabulary of {self._n_vocab} tokens. Tokenise with this model.")

    def decode(self, batch: Batch) -> Logits:
        """Run a batch and give the logits asked for: llama.cpp's own memory where it takes the batch at once."""
        if not batch.tokens:
            return np.empty((0, self._n_vocab), dtype=np.float32)
        self._check(batch)
        parts = self._parts(batch.outputs)
        if len(parts) == 1:
            return self._decode_part(batch, parts[0])
        return np.concatenate([self._decode_part(batch, part).copy() for part in parts])

    def _check(self, batch: Batch) -> None:
        for token in (min(batch.tokens), max(batch.tokens)):
            self._check_token(token)
        for pos in (min(batch.positions), max(batch.positions)):
            if not 0 <= pos < self._n_ctx:
                raise EngineError(f"Position {pos} is beyond the context of {self._n_ctx} tokens. Shorten the prompt.")
        for seqs in set(batch.seqs):
            if not seqs or not 0 <= min(seqs) <= max(seqs) < self.max_sequences:
                raise EngineError(f"Sequences {seqs} are not within the {self.max_sequences} of this context.")

    def _parts(self, outputs: list[bool]) -> list[slice]:
        """As much of a batch at once as llama.cpp takes."""
        if len(outputs) <= self.batch and sum(outputs) <= self.most_rows:
            return [slice(0, len(outputs))]
        parts, start, rows = list[slice](), 0, 0
        for i, wanted in enumerate(outputs):
            if i - start == self.batch or rows + wanted > self.most_rows:
                parts.append(slice(start, i))
                start, rows = i, 0
            rows += wanted
        return [*parts, slice(start, len(outputs))]

    def _decode_part(self, batch: Batch, part: slice) -> Logits:
        rows = sum(batch.outputs[part])
        code = self._lib.llama_decode(self._context, self._arrays.fill(batch, part))
        if code == _NO_MEMORY and self._options.gpu_layers:
            raise GpuMemoryError(
                f"The GPU has no memory left for a batch of {part.stop - part.start} tokens. Free some of it, or let edgegen "
                "doctor --probe find another setting."
            )
        if code:
            raise EngineError(_decode_failure(code, part.stop - part.start, self._n_cells))
        if not rows:
            return np.empty((0, self._n_vocab), dtype=np.float32)
        logits = self._lib.llama_get_logits(self._context)
        address = ctypes.addressof(logits.contents)
        if address != self._logits_at:  # mostly the same memory as before
            self._logits_at, self._logits = address, np.ctypeslib.as_array(logits, shape=(self.most_rows, self._n_vocab))
        return self._logits[:rows]

    def fork(self, src: int, dst: int, upto: int) -> None:
        """Let `dst` share the first `upto` tokens of `src`."""
        self._lib.llama_memory_seq_cp(self._memory, src, dst, 0, upto)

    def drop(self, seq: int, from_pos: int = 0) -> None:
        """Forget a sequence's tokens from a position on."""
        self._lib.llama_memory_seq_rm(self._memory, seq, from_pos, -1)

    def set_threads(self, n: int) -> None:
        """Use `n` threads from the next decode on."""
        self._lib.llama_set_n_threads(self._context, n, n)

    def close(self) -> None:
        """Free the context, the adapter and the model."""
        context, adapter, model = self._context, self._adapter, self._model
        self._context = self._adapter = self._model = None
        if context:
            self._lib.llama_free(context)
        if adapter:
            self._lib.llama_adapter_lora_free(adapter)
        if model:
            self._lib.llama_model_free(model)


class _Arrays:
    """The C arrays of a batch, made once and filled again for every decode."""

    def __init__(self, lib: Any, size: int, width: int) -> None:
        self._token, self._pos, self._count = (np.zeros(size, np.int32) for _ in range(3))
        self._wanted = np.zeros(size, np.int8)
        self._seqs = np.zeros((size, width), np.int32)
        pointer = ctypes.POINTER(lib.llama_seq_id)
        first, stride = self._seqs.ctypes.data, self._seqs.strides[0]
        self._rows = (pointer * size)(*(ctypes.cast(first + i * stride, pointer) for i in range(size)))
        self._batch = lib.llama_batch(
            0, _pointer(self._token, lib.llama_token), None, _pointer(self._pos, lib.llama_pos),
            _pointer(self._count, ctypes.c_int32), ctypes.cast(self._rows, ctypes.POINTER(pointer)),
            _pointer(self._wanted, ctypes.c_int8),
        )  # fmt: skip

    def fill(self, batch: Batch, part: slice) -> Any:
        """The native batch of these tokens, valid until the next call."""
        n = self._batch.n_tokens = part.stop - part.start
        seqs = batch.seqs[part]
        self._token[:n], self._pos[:n], self._wanted[:n] = batch.tokens[part], batch.positions[part], batch.outputs[part]
        self._count[:n] = counts = [len(owners) for owners in seqs]
        self._seqs[:n, 0] = [owners[0] for owners in seqs]
        if max(counts) > 1:
            for i, owners in enumerate(seqs):
                self._seqs[i, : len(owners)] = owners
        return self._batch


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _context_length(asked: int | None, trained: int, path: Path) -> int:
    if trained < 1:
        raise PackError(f"{path} does not say how many positions it was trained with. Convert the model again.")
    if asked is not None and asked > trained:
        raise OptionError(f"n_ctx must be at most {trained}, the positions {path.name} was trained with, got {asked}", "n_ctx")
    return asked or min(trained, 1024)


def _decode_failure(code: int, tokens: int, cells: int) -> str:
    if code == 1:
        return f"The cache of {cells} tokens has no room for {tokens} more. Ask for fewer candidates, or use more n_cells."
    return f"llama.cpp failed on a batch of {tokens} tokens (code {code}). Try again; if it stays so, run edgegen doctor."
