"""The inference engine: one thread owns the native context, everyone else submits jobs to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgegen.engine.backend import Backend
    from edgegen.engine.llama import LlamaOptions
    from edgegen.engine.loop import Engine
    from edgegen.engine.ngrams import NGrams
    from edgegen.hardware import Setting


def open_engine(
    model: Path, *, setting: Setting | None = None, max_waiting: int = 32, adapter: Path | None = None,
    n_ctx: int | None = None, n_cells: int | None = None, table: NGrams | None = None,
    load: Callable[[Path, LlamaOptions], Backend] | None = None,
) -> Engine:  # fmt: skip
    """An engine on a GGUF model, with the setting that is known to be best here, and with a GGUF adapter on top if there is one.

    `n_ctx` and `n_cells` as in LlamaOptions; `table` is the pack's draft table; `load` makes the backend in place of llama.cpp.
    A GPU that cannot take its layers gets half of them, and so on down to none. Raises NotFoundError, PackError,
    MissingExtraError, EngineError, OptionError.
    """
    from edgegen import hardware
    from edgegen.engine import native
    from edgegen.engine.llama import LlamaBackend, LlamaOptions
    from edgegen.engine.loop import Engine
    from edgegen.engine.offload import load_what_fits

    chosen = setting or hardware.known(model).setting
    layers = chosen.gpu_layers if chosen.gpu_layers and native.offloads() else 0  # none where the GPU is gone since the probe
    options = LlamaOptions(
        n_ctx=n_ctx, n_cells=n_cells, adapter=adapter,
        threads=chosen.threads, repacked=chosen.repacked, gpu_layers=layers, batch=chosen.batch,
    )  # fmt: skip
    make = load or LlamaBackend
    return Engine(lambda: load_what_fits(model, options, make), threads=chosen.threads, max_waiting=max_waiting, table=table)
