"""llama-server's flags, as far as its tests use them, and the model that stands in for those of its hub. Knows no server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

MODEL = "CONFORMANCE_MODEL"
"""Environment variable with the GGUF that is served whatever model a test asks for."""
SERVER = "CONFORMANCE_LLAMA_SERVER"
"""Environment variable with the llama-server binary, for the control."""
THREADS = "1"
"""The tests' models are tiny; more threads only wait for each other."""
_SOURCES = ("--model", "--model-url", "--model-draft", "--hf-repo", "--hf-file")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags that the shim acts on; what it does not know is ignored, as most of it sets a size of llama.cpp."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", type=lambda text: [host.strip() for host in text.split(",")])
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--temp", type=float, default=0.8)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--alias", default="")
    parser.add_argument("--tags", default="")
    parser.add_argument("--ctx-size", type=int, default=512)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--n-predict", type=int, default=-1)
    parser.add_argument("--api-key")
    parser.add_argument("--chat-template")
    parser.add_argument("--chat-template-file", type=Path)
    parser.add_argument("--cors-origins")
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--slots", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--kv-unified", action="store_true")
    found, _ = parser.parse_known_args(arguments)
    return found


def substituted(arguments: Sequence[str]) -> list[str]:
    """llama-server's own arguments with the local model in place of what its hub would give."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument in _SOURCES:
            next(left, None)
        else:
            kept.append(argument)
    return [*kept, "--model", os.environ[MODEL], "--threads", THREADS]
