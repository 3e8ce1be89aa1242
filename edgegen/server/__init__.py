"""The local HTTP API: explanations, plain completions, and what the terminal shows. `make_app` builds it."""

from edgegen.server.app import make_app
from edgegen.server.shop import Shop, sample_shops

__all__ = ["Shop", "make_app", "sample_shops"]
