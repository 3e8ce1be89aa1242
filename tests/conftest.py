"""What every test stands on: the user's own folders are out of its sight, and no example is timed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no clock", deadline=None)  # a busy machine is no fault
settings.load_profile("no clock")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes the packs, keys and probes of who runs it; child processes neither."""
    own: Path = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("EDGEGEN_HOME", str(own / "home"))
    monkeypatch.setenv("EDGEGEN_CACHE", str(own / "cache"))
