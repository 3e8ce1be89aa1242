"""The servers that are compared: how each is started, what its requests need, and when it answers. Knows no measurement."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
_START_S = 120
_STOP_S = 10


class StartError(Exception):
    """A server that does not start or answer; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Side:
    """A server: its command with `{port}` in it, and the fields that its requests need beside those of all."""

    name: str
    command: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    texts: bool = False
    """It takes prompts as text alone."""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The command as one would type it."""
        parts = [Path(part).name if part.startswith("/") else part for part in self.command]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    side: Side
    pid: int
    port: int


def safe() -> tuple[str, ...]:
    """What llama-server needs where its repacked buffers crash: on processors with AMX, in this version."""
    info = Path("/proc/cpuinfo")
    return ("--no-repack",) if info.exists() and "amx_tile" in info.read_text("utf-8", "replace") else ()


def ours(model: Path, *, threads: int | None, cells: int | None = None) -> Side:
    """`edgegen serve` on a GGUF file, or on the pack whose folder it is in; `cells` are the tokens that all texts share."""
    what = ["--pack", str(model.parent)] if (model.parent / "manifest.json").exists() else ["--model", str(model)]
    command = [sys.executable, "-m", "edgegen", "serve", *what, "--port", "{port}"]
    command += ["--threads", str(threads)] if threads else []
    command += ["--cells", str(cells)] if cells else []
    fields = {"top_k": 40, "min_p": 0.0, "write_controls": True}
    return Side("edgegen", tuple(command), fields, env={"PYTHONPATH": str(ROOT)})


def pack(name: str) -> Side:
    """`edgegen serve` on a pack."""
    command = (sys.executable, "-m", "edgegen", "serve", "--pack", name, "--port", "{port}")
    return Side("edgegen", command, env={"PYTHONPATH": str(ROOT)})


def llama_server(binary: Path, model: Path, *, threads: int | None, slots: int, cells: int, more: tuple[str, ...] = ()) -> Side:
    """llama-server with so many slots on `cells` tokens; without `threads` it takes its own default.

    It samples with min_p 0.05 and top_k 40 unless told; min_p is switched off on both sides.
    """
    command = [str(binary), "--model", str(model), "--port", "{port}", "--parallel", str(slots), "--ctx-size", str(cells)]
    command += ["--threads", str(threads)] if threads else []
    name = "llama-server" + "".join(f" {part}" for part in more if part != "--no-repack")
    return Side(name, (*command, "--no-ui", "--offline", *more), {"top_k": 40, "min_p": 0.0, "cache_prompt": True})


def llama_cpp_python(model: Path, site: Path, *, threads: int | None, context: int) -> Side:
    """`python -m llama_cpp.server`, which answers one request at a time."""
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--port", "{port}", "--n_ctx", str(context)]
    command += ["--interrupt_requests", "false"]
    command += ["--n_threads", str(threads), "--n_threads_batch", str(threads)] if threads else []
    return Side("llama_cpp.server", tuple(command), {"top_k": 40, "min_p": 0.0}, texts=True, env={"PYTHONPATH": str(site)})


def llama_cpp_example(
    script: Path, model: Path, site: Path, config: Path, *, threads: int | None, slots: int, context: int
) -> Side:
    """llama-cpp-python's `examples/server/server.py`, which batches in Python; its options are a file."""
    settings: dict[str, Any] = {
        "path": str(model), "alias": "model", "n_ctx": slots * context, "n_seq_max": slots, "kv_unified": True, "n_batch": 256,
        "n_ubatch": 256, "max_output_tokens": context, "use_mmap": True, "chat_template": "{{ messages[0].content }}",
    }  # fmt: skip
    if threads:
        settings |= {"threads": threads, "threads_batch": threads}
    config.write_text(json.dumps({"server": {"host": "127.0.0.1", "port": 0}, "model": settings}), "utf-8")
    command = (sys.executable, str(script), "--config-file", str(config))
    return Side("examples/server", command, {"top_k": 40, "min_p": 0.0}, texts=True, env={"PYTHONPATH": str(site)})


def stoppable() -> None:
    """Let SIGTERM end this process by way of what it has to clean up: no server is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(side: Side, log: Path) -> Iterator[Running]:
    """A server that has answered a request; it is stopped at the end. Raises StartError."""
    port = free_port()
    config = side.command[-1] if side.command[-2:-1] == ("--config-file",) else None
    if config:
        made = json.loads(Path(config).read_text("utf-8"))
        made["server"]["port"] = port
        Path(config).write_text(json.dumps(made), "utf-8")
    command = [part.replace("{port}", str(port)) for part in side.command]
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, stdout=file, stderr=file, env={**os.environ, **side.env}, start_new_session=True, cwd=log.parent
        )
    try:
        _wait(side, process, port, log)
        yield Running(side, process.pid, port)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The whole session: a server's children must not outlive it."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(side: Side, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < _START_S:
        if process.poll() is not None:
            raise StartError(f"{side.name} ended with {process.returncode}: {last(log)}")
        status, _ = ask(port, "/v1/completions", {"model": "model", "prompt": "A", "max_tokens": 2})
        if status == 200:
            return
        time.sleep(0.1)
    raise StartError(f"{side.name} does not answer after {_START_S} s: {last(log)}")


def last(log: Path) -> str:
    """The end of a log."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-400:]


def ask(port: int, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = 60) -> tuple[int, Any]:
    """Status and JSON of a small request, (0, None) where nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        data = None if body is None else json.dumps(body)
        connection.request("POST" if data else "GET", path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        return response.status, json.loads(answer) if answer.startswith((b"{", b"[")) else answer.decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
