"""Runs llama-server's own tests on `edgegen serve`, and on llama-server itself as the control; prints what passes and why not.

    python -m tests.conformance.run --model stories260K.gguf [--work runs/upstream] [--sdist FILE_OR_FOLDER] [--files basic,...]

The tests come from the sdist of the installed llama-cpp-python and ask for models of llama.cpp's hub. Whatever they ask for,
--model is served: with stories260K (their own: ggml-org/test-model-stories260K) their assertions on texts and counts hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.reference import source
from tests.conformance import flags, plugin, reasons, start

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = ("tokenize", "basic", "completion", "ignore_eos", "metrics", "chat_completion", "security")
PACKAGES = ("filelock", "openai", "pytest", "pytest-timeout", "requests", "wget")
"""What llama-server's tests need."""
AIM = 100


def environment(work: Path) -> Path:
    """The interpreter that runs the tests, in an environment of its own; made once."""
    folder = work.absolute() / "conformance"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PACKAGES)} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def tested(
    python: Path, tests: Path, files: Sequence[str], model: Path, results: Path, binary: Path | None
) -> dict[str, dict[str, str]]:
    """How each test ended, on llama-server itself where its `binary` is given."""
    results.unlink(missing_ok=True)
    env = {
        **os.environ, flags.MODEL: str(model.absolute()), plugin.RESULTS: str(results), "PYTHONPATH": str(ROOT),
        "PORT": str(start.free_port()),
        "LLAMA_CACHE": str(results.parent / "cache"), "LLAMA_SERVER_BIN_PATH": str(HERE / "llama-server"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **({flags.SERVER: str(binary)} if binary else {}),
    }  # fmt: skip
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conformance.plugin", "--timeout", "180"]
    command += [f"unit/test_{name}.py" for name in files]
    with results.with_suffix(".log").open("wb") as log:
        subprocess.run(command, cwd=tests, env=env, stdout=log, stderr=log, check=False)
    if not results.exists():
        raise SystemExit(f"no test ran; see {results.with_suffix('.log')}")
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    return {line["test"]: line for line in lines}


def report(ours: Mapping[str, Mapping[str, str]], control: Mapping[str, Mapping[str, str]]) -> int:
    """Print the lists; how many pass."""
    print("| file | tests | edgegen passes | llama-server itself passes here |\n|---|---|---|---|")
    names = list(dict.fromkeys(name.split("::")[0] for name in ours))
    for name in [*names, ""]:
        of = [[line["outcome"] for test, line in found.items() if test.startswith(name)] for found in (ours, control)]
        passed = [sum(outcome == "passed" for outcome in outcomes) for outcomes in of]
        told = f"{passed[1]} of {len(of[1])}" if control else "not run"
        print(f"| {Path(name).stem or 'all'} | {len(of[0])} | {passed[0]} | {told} |")
    print("\nWhat does not pass, and why:\n")
    groups: dict[str, list[str]] = {}
    for test, line in ours.items():
        if line["outcome"] != "passed":
            also = control.get(test, {}).get("outcome") not in ("passed", None)
            why = reasons.of(test) or f"NOT EXPECTED: {' '.join(line['why'].split())[:160]}"
            groups.setdefault(why + (" (llama-server itself does not pass either)" if also else ""), []).append(
                test.split("::")[1]
            )
    for why, found in sorted(groups.items(), key=lambda group: -len(group[1])):
        print(f"- {why}: {len(found)}\n  " + ", ".join(found))
    return Counter(line["outcome"] for line in ours.values())["passed"]


def main() -> None:
    """Run both and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    source.add_arguments(parser)
    parser.add_argument("--files", default=",".join(FILES), help="with commas; default: %(default)s")
    parser.add_argument("--no-control", action="store_true", help="do not run llama-server itself")
    args = parser.parse_args()
    files = args.files.split(",")
    try:
        reference = source.prepare(args.work, args.sdist, args.jobs, source.SERVER)
    except source.UnusableError as error:
        raise SystemExit(f"error: {error}") from None
    if not args.model.is_file():
        raise SystemExit(f"error: There is no model {args.model}. Give a GGUF, best stories260K.")
    python, tests = environment(args.work), reference.tree / "tools" / "server" / "tests"
    work = args.work.absolute()
    control = (
        {}
        if args.no_control
        else tested(python, tests, files, args.model, work / "control.jsonl", reference.binary("llama-server"))
    )
    passed = report(tested(python, tests, files, args.model, work / "conformance.jsonl", None), control)
    raise SystemExit(files == list(FILES) and passed < AIM)


if __name__ == "__main__":
    main()
