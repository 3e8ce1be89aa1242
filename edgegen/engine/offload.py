"""How many layers of a model go to a GPU: as many as asked for, or as many as it can take."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.engine.gguf import read_header
from edgegen.errors import EngineError, PackError

if TYPE_CHECKING:
    from edgegen.engine.backend import Backend
    from edgegen.engine.llama import LlamaOptions

LOG = logging.getLogger("edgegen.engine")


def load_what_fits(model: Path, options: LlamaOptions, load: Callable[[Path, LlamaOptions], Backend]) -> Backend:
    """The backend with as many layers on the GPU as it takes: all that are asked for, half, a quarter, and so on to none.

    Each step down is logged. Raises what `load` raises without a GPU.
    """
    for layers in fewer(model, options.gpu_layers):
        try:
            return load(model, replace(options, gpu_layers=layers))
        except (EngineError, PackError) as error:
            LOG.warning("%d layers of %s do not fit on the GPU, trying with fewer: %s", layers, model.name, error)
    return load(model, replace(options, gpu_layers=0))


def fewer(model: Path, asked: int) -> Iterator[int]:
    """Numbers of layers to try before none: what is asked for (-1 is all), half of it, and so on."""
    if asked == 0:
        return
    meta = read_header(model).meta
    most = int(meta.get(f"{meta.get('general.architecture')}.block_count", 0)) + 1  # the output counts as a layer
    layers = most if asked < 0 else min(asked, most)
    while layers:
        yield layers
        layers //= 2
