"""The local HTTP API: explanations, plain completions, and what the terminal shows. `make_app` builds it."""

from edgegen.server.app import make_app
from edgegen.server.keys import Keys
from edgegen.server.settings import Access, Limits, Settings
from edgegen.server.shop import Shop, sample_shops

__all__ = ["Access", "Keys", "Limits", "Settings", "Shop", "make_app", "sample_shops"]
