"""Tries settings on a model and prints what it measures: `python -m edgegen.engine.trial MODEL SETTING...`, or no arguments
for what llama.cpp says of itself.

Runs as a child process of `edgegen.hardware`, because native code can crash here. One line of JSON for each trial, at
once, so that a crash loses only the trial it happens in.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.engine.backend import Batch
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.native import describe
from edgegen.errors import EdgegenError, EngineError

_PROMPT, _STEPS, _SEQUENCES, _ROUNDS = 200, 12, 4, 3


def measure(backend: LlamaBackend) -> dict[str, float]:
    """Seconds for what a request does, the best of three rounds: `prompt_s`, and `seconds` with steps of four candidates."""
    prompts, requests = list[float](), list[float]()
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        n, first = _read(backend)
        prompts.append(time.perf_counter() - began)
        _write(backend, n, first)
        requests.append(time.perf_counter() - began)
        for seq in range(_SEQUENCES):
            backend.drop(seq)
    return {"seconds": min(requests), "prompt_s": min(prompts)}


def _read(backend: LlamaBackend) -> tuple[int, int]:
    """Decode a prompt for all sequences: its tokens, and the likeliest one after it."""
    n, prompt = max(1, min(_PROMPT, backend.n_ctx - _STEPS)), Batch()
    for pos in range(n):
        prompt.add(pos % backend.n_vocab, pos, tuple(range(_SEQUENCES)), wanted=pos == n - 1)
    return n, int(backend.decode(prompt)[0].argmax())


def _write(backend: LlamaBackend, start: int, first: int) -> None:
    tokens = [first] * _SEQUENCES
    for step in range(_STEPS):
        batch = Batch()
        for seq in range(_SEQUENCES):
            batch.add(tokens[seq], start + step, (seq,), wanted=True)
        logits = backend.decode(batch)
        if not np.isfinite(logits).all():
            raise EngineError("The model gave logits that are not numbers. Do not use this setting.")
        tokens = [int(row.argmax()) for row in logits]


def main(arguments: list[str]) -> int:
    """Run trials of one kind of buffers, each with other threads, on one loaded model."""
    if not arguments:
        _print(describe())
        return 0
    path, settings = Path(arguments[0]), [json.loads(text) for text in arguments[1:]]
    for setting in settings:
        options = LlamaOptions(max_sequences=_SEQUENCES, n_cells=512, **setting)
        try:
            backend = LlamaBackend(path, options)
            _print(setting | measure(backend))
            backend.close()
        except EdgegenError as error:
            _print(setting | {"error": str(error)})
            return error.exit_code
    return 0


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
