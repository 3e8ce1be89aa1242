"""llama.cpp as the sdist of llama-cpp-python holds it. Owns download, unpacking and the build; knows no model."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "llama-cpp-python"
NEEDED = 3 << 30
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
)  # fmt: skip


class UnusableError(Exception):
    """The reference cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Build:
    """A way to build llama.cpp: the folder's name before the version, flags and programs."""

    folder: str
    flags: tuple[str, ...]
    targets: tuple[str, ...]


TOOLS = Build("build", ("-DGGML_NATIVE=OFF", "-DLLAMA_BUILD_SERVER=OFF"), ("llama-quantize", "llama-completion"))
"""GGML_NATIVE=OFF leaves AMX out: with it, this version crashes on quantized files as soon as a prompt is decoded."""
SERVER = Build("build-native", ("-DGGML_NATIVE=ON", "-DLLAMA_BUILD_SERVER=ON"), ("llama-server", "llama-batched-bench"))
"""For this machine's processor, as installing llama-cpp-python builds it. With AMX, `llama-server` needs --no-repack."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An unpacked llama.cpp and its binaries."""

    tree: Path
    built: Path

    @property
    def vocabulary(self) -> Path:
        """A GGUF file with GPT-2's own tokens and merges, and no weights."""
        return self.tree / "models" / "ggml-vocab-gpt-2.gguf"

    def script(self, name: str) -> Path:
        """One of llama.cpp's Python programs."""
        return self.tree / f"{name}.py"

    @property
    def root(self) -> Path:
        """llama-cpp-python itself."""
        return self.tree.parent.parent

    def binary(self, name: str) -> Path:
        """One of the targets that were built."""
        return self.built / "bin" / name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every program that needs the reference."""
    parser.add_argument("--work", type=Path, default=Path("runs/upstream"), help="folder that is kept; default: %(default)s")
    parser.add_argument("--sdist", type=Path, help="of llama-cpp-python, or its unpacked folder; default: fetched by pip")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="of the build; default: %(default)s")


def prepare(work: Path, sdist: Path | None, jobs: int, build: Build = TOOLS) -> Reference:
    """The reference in `work`, built unless it is there already. Raises UnusableError."""
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free
    if free < NEEDED:
        raise UnusableError(f"{work} has {free >> 20} MiB free, {NEEDED >> 20} MiB are needed. Choose another --work.")
    version = importlib.metadata.version(PACKAGE)
    root = _unpacked(work, sdist or _downloaded(work, version), version)
    reference = Reference(root / "vendor" / "llama.cpp", work.absolute() / f"{build.folder}-{version}")
    missing = [path for path in (reference.script("convert_hf_to_gguf"), reference.vocabulary) if not path.is_file()]
    if missing:
        raise UnusableError(f"{root} is not an sdist of {PACKAGE}: it has no {missing[0].relative_to(root)}.")
    if not all(reference.binary(name).is_file() for name in build.targets):
        _build(reference, build, work / "build.log", jobs)
    return reference


def _downloaded(work: Path, version: str) -> Path:
    name = PACKAGE.replace("-", "_")
    found = work / f"{name}-{version}.tar.gz"
    if not found.is_file() and not (work / f"src-{version}").is_dir():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(work)]
        _run([*command, f"{PACKAGE}=={version}"], work / "download.log", "Give the sdist with --sdist where there is no network.")
    return found


def _unpacked(work: Path, sdist: Path, version: str) -> Path:
    if sdist.is_dir():
        root = sdist.absolute()
    else:
        root = work.absolute() / f"src-{version}"
        if not root.is_dir():
            _unpack(sdist, root)
    info = root / "PKG-INFO"
    if not info.is_file() or f"\nVersion: {version}\n" not in info.read_text("utf-8"):
        raise UnusableError(f"{root} is not the sdist of {PACKAGE} {version}, which is what is installed. Give that one.")
    return root


def _unpack(sdist: Path, root: Path) -> None:
    if not sdist.is_file():
        raise UnusableError(f"There is no sdist {sdist}. Give the .tar.gz or its unpacked folder.")
    part = root.with_name(f"{root.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with tarfile.open(sdist) as archive:
            archive.extractall(part, filter="data")
        (inner,) = part.iterdir()
        inner.rename(root)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise UnusableError(f"{sdist} cannot be unpacked: {error}. Download it again.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _build(reference: Reference, build: Build, log: Path, jobs: int) -> None:
    if not shutil.which("cmake"):
        raise UnusableError("There is no cmake. Install cmake and a C++ compiler.")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = ["cmake", "-S", str(reference.tree), "-B", str(reference.built), *generator, *FLAGS, *build.flags]
    _run(configure, log, f"Remove {reference.built} and try again.")
    print(f"building {', '.join(build.targets)} (minutes; {log})", file=sys.stderr, flush=True)
    make = ["cmake", "--build", str(reference.built), "-j", str(jobs), "--target", *build.targets]
    _run(make, log, "A C++ compiler is needed, and 2 GB of memory for each of --jobs.")


def _run(command: list[str], log: Path, advice: str) -> None:
    with log.open("ab") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)  # noqa: S603 - our own commands
    if done.returncode:
        last = "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])
        raise UnusableError(f"{' '.join(command[:4])} ... failed; the end of {log}:\n{last}\n{advice}")
