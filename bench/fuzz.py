"""schemathesis on what `edgegen serve` says of itself in /openapi.json: no answer may be a server error other than 503.

    python bench/fuzz.py [--examples 100] [--seed 7] [--checks not_a_server_error] [options of `st run`]

Installs schemathesis into an environment of its own the first time. `--checks all` looks at shapes and statuses too. The
exit code is schemathesis's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from served import servers

PACKAGE = "schemathesis>=4.10,<5"
CONFIG = """[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
"""


def environment(work: Path) -> Path:
    """The program, in an environment of its own; made once."""
    folder = work.absolute() / "fuzz"
    program = folder / "bin" / "st"
    if not program.exists():
        print(f"installing {PACKAGE} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGE], check=True)  # noqa: S603
    return program


def main() -> None:
    """Start a server and fuzz it."""
    servers.stoppable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/upstream"), help="folder that is kept; default: %(default)s")
    parser.add_argument("--examples", type=int, default=100, help="of each operation; default: %(default)s")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--checks", default="not_a_server_error", help="default: %(default)s")
    args, more = parser.parse_known_args()
    program = environment(args.work)
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "schemathesis.toml"
        config.write_text(CONFIG, "utf-8")
        with servers.started(servers.pack("bundled"), Path(name) / "log") as running:
            command = [str(program), "--config-file", str(config), "run", f"http://127.0.0.1:{running.port}/openapi.json"]
            command += ["--checks", args.checks, "--max-examples", str(args.examples), "--seed", str(args.seed), *more]
            code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own command
            status, _ = servers.ask(running.port, "/health")
            print(f"after all of it /health answers {status}; the end of the log: {servers.last(Path(name) / 'log')}")
    sys.exit(code or status != 200)


if __name__ == "__main__":
    main()
