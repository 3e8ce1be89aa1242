"""A pytest plugin for llama-server's tests: skips the start of every preset of theirs, and keeps how each test ended.

Runs in the tests' own environment, without edgegen.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

RESULTS = "CONFORMANCE_RESULTS"


def pytest_collection_modifyitems() -> None:
    """Their session fixture starts each model of the hub once, to fill its cache. There is no hub here."""
    import utils  # type: ignore[import-not-found] # llama-server's own, beside its conftest

    utils.ServerPreset.load_all = staticmethod(lambda: None)


def pytest_runtest_logreport(report: Any) -> None:
    """One line of JSON for each test: how it ended, and the last line of why."""
    if report.when != "call" and report.outcome == "passed":
        return
    if report.when == "teardown":
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    why = crash.message if crash else str(report.longrepr or "")
    line = {"test": report.nodeid, "outcome": report.outcome, "why": why[:2000]}
    with Path(os.environ[RESULTS]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
