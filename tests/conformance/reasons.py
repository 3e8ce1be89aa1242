"""Why a test of llama-server's cannot pass on edgegen. What fails and is not here is a fault of ours."""

from __future__ import annotations

import re

_REASONS: tuple[tuple[str, str], ...] = ()
"""Patterns of test ids, and why."""


def of(test: str) -> str | None:
    """The reason for a test, None where there is none."""
    return next((why for pattern, why in _REASONS if re.search(pattern, test)), None)
