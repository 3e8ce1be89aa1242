"""llama.cpp's bindings and its log: the only file that imports llama_cpp, because both are one per process."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from edgegen.errors import MissingExtraError

_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR; 3 is a warning
_CONTINUED = 5  # GGML_LOG_LEVEL_CONT: more of the message before


@cache
def bindings() -> Any:
    """llama_cpp's ctypes functions, which carry no useful types: so this is Any, once, here. Raises MissingExtraError."""
    try:
        from llama_cpp import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError(f"llama.cpp cannot be loaded: {error}. Install it with: pip install llama-cpp-python") from error
    llama_cpp.llama_log_set(_callback(llama_cpp), None)
    llama_cpp.llama_backend_init()
    return llama_cpp


class Log:
    """Where llama.cpp's messages go: errors are kept for our own messages, the rest is dropped unless asked for."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=4)
        self.verbose = False
        self._level = 0
        self._kept: list[str] | None = None

    @property
    def reason(self) -> str:
        """Why the last call failed: the first error is the cause of those after it."""
        return self.errors[0] if self.errors else "it gives no reason"

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """All that is said, warnings too, in pieces as they come."""
        pieces: list[str] = []
        self._kept = pieces
        try:
            yield pieces
        finally:
            self._kept = None

    def write(self, level: int, text: bytes, _: object) -> None:
        """Take a message or a piece of one."""
        self._level = self._level if level == _CONTINUED else level
        line = text.decode("utf-8", "replace")
        if self._level == _ERROR_LEVEL and line.strip():
            self.errors.append(line.strip())
        if self._kept is not None:
            self._kept.append(line)
        if self.verbose:
            sys.stderr.write(line)


LOG = Log()


@cache
def _callback(lib: Any) -> Any:
    return lib.llama_log_callback(LOG.write)


def offloads() -> bool:
    """Whether the installed llama.cpp can put layers on a GPU of this machine. Raises MissingExtraError."""
    return bool(bindings().llama_supports_gpu_offload())


def describe() -> dict[str, str]:
    """What the installed llama.cpp says of itself: version, features, GPU support."""
    lib = bindings()
    import llama_cpp

    features = lib.llama_print_system_info().decode("utf-8", "replace").strip()
    gpu = "yes" if offloads() else "no"
    return {"llama-cpp-python": str(llama_cpp.__version__), "features": features, "gpu offload": gpu}
