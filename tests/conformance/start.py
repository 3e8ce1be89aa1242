"""Starts `edgegen serve` with llama-server's flags in its own words. Knows no request."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.flags import THREADS

_START_S = 60


def edgegen(flags: Namespace, model: Path, folder: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """The port and process of a server on a model."""
    port = free_port()
    command = [sys.executable, "-m", "edgegen", "serve", "--model", str(model), "--port", str(port)]
    command += ["--threads", THREADS, "--context", str(_positions(model, flags))]
    if flags.api_key:
        keys = folder / "keys.json"
        entry = {"name": "test", "sha256": hashlib.sha256(flags.api_key.encode()).hexdigest()}
        keys.write_text(json.dumps({"keys": [entry]}), "utf-8")
        command += ["--keys", str(keys)]
    if flags.cors_origins:
        command += ["--allow-origin", flags.cors_origins]
    return port, subprocess.Popen(command, env=os.environ)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the model has answered. Raises SystemExit where the server ends or takes too long."""
    began = time.monotonic()
    while time.monotonic() - began < _START_S:
        if process.poll() is not None:
            raise SystemExit(f"edgegen serve ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"edgegen serve is not ready after {_START_S} s")


def vocabulary(model: Path) -> tuple[Mapping[str, int], list[int], str]:
    """Ids of tokens by their text, the ids that end a text, the text of the one that starts it: what our API does not tell."""
    from gguf import GGUFReader

    fields = GGUFReader(model).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    ids = {_text(token): id_ for id_, token in enumerate(tokens)}
    end, begin = (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "bos"))
    return ids, [int(end.contents())] if end else [], tokens[int(begin.contents())] if begin else ""


def _positions(model: Path, flags: Namespace) -> int:
    """What a slot holds, at most what the model was trained with: edgegen refuses more, llama-server only warns."""
    from gguf import GGUFReader

    fields = GGUFReader(model).fields
    trained = int(fields[f"{fields['general.architecture'].contents()}.context_length"].contents())
    return min(trained, int(flags.ctx_size) if flags.kv_unified else int(flags.ctx_size) // int(flags.parallel))


def _text(token: str) -> str:
    if len(token) == 6 and token.startswith("<0x"):
        byte = int(token[3:5], 16)
        return chr(byte) if byte < 0x80 else f"bytes:\\x{byte:02x}"
    return token.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")
