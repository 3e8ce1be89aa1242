"""The inference engine: one thread owns the native context, everyone else submits jobs to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgegen.engine.loop import Engine
    from edgegen.hardware import Setting


def open_engine(
    model: Path, *, setting: Setting | None = None, max_waiting: int = 32, adapter: Path | None = None,
    n_ctx: int | None = None, n_cells: int | None = None,
) -> Engine:  # fmt: skip
    """An engine on a GGUF model, with the setting that is known to be best here, and with a GGUF adapter on top if there is one.

    `n_ctx` and `n_cells` as in LlamaOptions. Raises NotFoundError, PackError, MissingExtraError, EngineError, OptionError.
    """
    from edgegen import hardware
    from edgegen.engine.llama import LlamaBackend, LlamaOptions
    from edgegen.engine.loop import Engine

    chosen = setting or hardware.known(model).setting
    options = LlamaOptions(
        n_ctx=n_ctx, n_cells=n_cells, adapter=adapter,
        threads=chosen.threads, repacked=chosen.repacked, gpu_layers=chosen.gpu_layers,
    )  # fmt: skip
    return Engine(lambda: LlamaBackend(model, options), threads=chosen.threads, max_waiting=max_waiting)
