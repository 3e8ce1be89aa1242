"""A small run of `bench/tamper.py`: nothing that was tampered with is accepted, and nothing crashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_nothing_tampered_with_is_accepted() -> None:
    """Flipped bits, false headers and malformed manifests: each is refused, and the unchanged pack is not."""
    command = [sys.executable, "bench/tamper.py", "--flips", "200", "--mutations", "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    tampered = [row for row in rows if not row[0].startswith("for comparison")]
    assert sum(int(row[1]) for row in tampered) == 240
    assert all(row[1] == row[2] and row[4:7] == ["0", "0", "0"] for row in tampered)
    assert rows[-1][:5] == ["for comparison: unchanged", "1", "0", "0", "1"]
