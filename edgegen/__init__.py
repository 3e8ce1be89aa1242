"""edgegen: short, true explanations of product recommendations, with no network."""

__version__ = "0.1.0"
