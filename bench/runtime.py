"""The runtime install without extras: what it brings, how large it is on disk, and that it explains from its own pack.

    python bench/runtime.py

Builds the wheel's environment in a temporary folder (pip takes llama-cpp-python from its cache where it was built before).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
ABSENT = ("torch", "transformers", "peft", "gguf", "textual", "tokenizers")
LIST = """
import json, importlib.metadata as metadata
sizes = {}
for found in metadata.distributions():
    files = [found.locate_file(f) for f in found.files or ()]
    sizes[found.metadata["Name"]] = sum(f.stat().st_size for f in files if f.is_file())
print(json.dumps(sizes))
"""


def main() -> None:
    """Install, list, explain."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*pip, str(ROOT)], check=True)  # noqa: S603 - our own commands
        listed = subprocess.run([python, "-c", LIST], check=True, capture_output=True, text=True, cwd=folder)  # noqa: S603
        sizes: dict[str, int] = json.loads(listed.stdout)
        explain = [python, "-m", "edgegen", "explain", "--limit", "1"]
        text = subprocess.run(explain, check=True, capture_output=True, text=True, cwd=folder).stdout  # noqa: S603
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if name not in ("pip", "setuptools"):
            print(f"{name:24}{size / 1e6:8.1f} MB")
    print(f"{'all':24}{sum(size for name, size in sizes.items() if name not in ('pip', 'setuptools')) / 1e6:8.1f} MB")
    there = [name for name in ABSENT if name in {known.lower() for known in sizes}]
    print(f"of {', '.join(ABSENT)}: {', '.join(there) or 'none'}")
    print(f"it says: {text.strip()}")
    sys.exit(bool(there))


if __name__ == "__main__":
    main()
