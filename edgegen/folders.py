"""Where edgegen keeps files of its own: what can be made anew, and what cannot. Makes no folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """What can be made anew: $EDGEGEN_CACHE, else the user's cache folder."""
    return _chosen("EDGEGEN_CACHE", "XDG_CACHE_HOME", ".cache")


def data() -> Path:
    """Installed packs and trusted keys: $EDGEGEN_HOME, else the user's data folder."""
    return _chosen("EDGEGEN_HOME", "XDG_DATA_HOME", ".local/share")


def _chosen(own: str, base: str, usual: str) -> Path:
    if folder := os.environ.get(own):
        return Path(folder)
    parent = os.environ.get(base) or os.environ.get("LOCALAPPDATA")
    return (Path(parent) if parent else Path.home() / usual) / "edgegen"
