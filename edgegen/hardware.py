"""Finds the fastest setting of llama.cpp that works on this machine, and says what the machine is.

Trials run in child processes, because native code can crash there; answers are kept in the user's cache folder. Without
one, a safe default is used, so starting never waits. Knows llama.cpp only by the child it starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgegen import folders
from edgegen.engine.gguf import read_header
from edgegen.engine.offload import fewer
from edgegen.engine.options import BATCH
from edgegen.errors import MissingExtraError, NotFoundError, StorageError

_CHILD = "edgegen.engine.trial"
_GAIN = 0.93  # a riskier or larger setting must take less than this part of the time
_BATCHES = (64, 128, 256)  # the last one holds the trial's prompt whole: a larger one could be faster by chance only
_BATCH_GAIN = 0.95  # a larger batch takes more memory, and must take less than this part of the time
_MOST_DEFAULT_THREADS = 4


@dataclass(frozen=True, slots=True)
class Setting:
    """How the engine uses the machine. The defaults of a machine that was not probed: see `default_setting`."""

    threads: int = 1
    """Threads for decoding."""
    repacked: bool = False
    """Repacked weight buffers: faster on some processors, a crash on others."""
    gpu_layers: int = 0
    """Layers on a GPU; -1 for all."""
    batch: int = BATCH
    """Tokens of a prompt that are decoded at once."""

    def __str__(self) -> str:
        """In words."""
        where = {-1: "GPU", 0: "CPU"}.get(self.gpu_layers, f"GPU with {self.gpu_layers} layers")
        threads, repacked = f"{self.threads} thread{'s' * (self.threads != 1)}", "on" if self.repacked else "off"
        return f"{where}, {threads}, repacked buffers {repacked}, batches of {self.batch}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and the seconds it took, or why it failed."""

    setting: Setting
    seconds: float | None
    error: str = ""
    busy: str = ""
    """Why it is no fault of the setting's or the model's, where that is so; see `starved`."""
    prompt_s: float | None = None
    """The part of the seconds that its prompt took."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The chosen setting, why, and every trial behind it."""

    setting: Setting
    why: str
    trials: tuple[Trial, ...] = ()
    avoided: tuple[Setting, ...] = ()
    """Settings with which an engine crashed; they are not taken again until the next probe."""
    fastest: Setting | None = None
    """What `setting` would be if no engine had crashed."""


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def starved(took_s: float, used_s: float) -> str:
    """What to say of work on one thread that took too long because others had the processor; nothing where it had it itself."""
    if used_s >= took_s / 2:
        return ""
    return (
        f"The machine is busy: of {took_s:.0f} s the trial had the processor for {used_s:.1f} s. "
        "Try again when less is running; the model is not at fault."
    )


def default_setting(*, gpu: bool = False) -> Setting:
    """What is safe without a probe: no repacked buffers, a few threads, and the whole model on a GPU where there is one.

    The engine drops to one thread where more are slow, and to fewer layers where all do not fit.
    """
    return Setting(threads=min(usable_cores(), _MOST_DEFAULT_THREADS), gpu_layers=-1 if gpu else 0)


def kept(model: Path) -> Hardware | None:
    """The kept answer for a model on this machine, where there is one that can be read. Starts and loads nothing."""
    try:
        return _from_json(json.loads(_cache_file(model).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def known(model: Path, *, gpu: bool | None = None) -> Hardware:
    """The kept answer for a model on this machine, else the safe default. Starts nothing.

    `gpu` says whether llama.cpp can use one; None loads it and asks, in this process, where that matters.
    """
    if (found := kept(model)) is not None:
        return found
    setting = default_setting(gpu=_offloads() if gpu is None else gpu)
    return Hardware(setting, "safe default; edgegen doctor --probe finds the fastest setting")


def _offloads() -> bool:
    from edgegen.engine import native

    try:
        return native.offloads()
    except MissingExtraError:
        return False  # said by who needs it


def ladder(model: Path, fastest: Setting) -> list[Setting]:
    """A setting and ever safer ones: half of its layers on the GPU, and so on to none; no repacked buffers; one thread.

    Raises what `read_header` raises where there are layers.
    """
    rungs = [fastest, *(replace(fastest, gpu_layers=layers) for layers in [*fewer(model, fastest.gpu_layers), 0][1:])]
    rungs.append(replace(rungs[-1], repacked=False))
    return list(dict.fromkeys([*rungs, replace(rungs[-1], threads=1)]))


def rung(rungs: Sequence[Setting], avoided: Sequence[Setting], steps: int = 0) -> int:
    """The first of a ladder from so many steps down that is not avoided; the safest one where all are."""
    return next((i for i, setting in enumerate(rungs) if i >= steps and setting not in avoided), len(rungs) - 1)


def avoid(model: Path, crashed: Sequence[Setting]) -> Hardware:
    """Keep in mind that an engine crashed with settings; a safer one is taken until the next probe.

    Raises StorageError where that cannot be kept.
    """
    before = known(model)
    fastest = before.fastest or before.setting
    avoided, rungs = tuple(dict.fromkeys((*before.avoided, *crashed))), ladder(model, fastest)
    why = f"an engine crashed with {', '.join(map(str, avoided))}; edgegen doctor --probe tries anew"
    found = replace(before, setting=rungs[rung(rungs, avoided)], why=why, avoided=avoided, fastest=fastest)
    _keep(model, found)
    return found


def probe(model: Path, *, timeout_s: float = 120) -> Hardware:
    """Try the settings of this machine on a model, keep the answer and return it. What was avoided is forgotten.

    Each kind of setting has `timeout_s` seconds. Raises NotFoundError without the model, StorageError where the answer
    cannot be kept.
    """
    if not model.is_file():
        raise NotFoundError(f"No model file at {model}. Check the path, or install a pack.")
    kinds = [[Setting(threads, repacked) for threads in _thread_counts()] for repacked in (False, True)]
    trials = [trial for settings in kinds for trial in _try(model, settings, timeout_s)]
    if _has_gpu(describe_native()):
        trials += _on_gpu(model, timeout_s)
    found = _with_batch(model, choose(trials), timeout_s)
    _keep(model, found)
    return found


def _on_gpu(model: Path, timeout_s: float) -> list[Trial]:
    """Trials with all layers on the GPU, or as many as it takes."""
    trials = list[Trial]()
    for layers in fewer(model, -1):
        trials += _try(model, [Setting(min(usable_cores(), 2), gpu_layers=layers)], timeout_s)
        if trials[-1].seconds is not None:
            break
    return trials


def _with_batch(model: Path, found: Hardware, timeout_s: float) -> Hardware:
    """The same setting with the size of batch in which it reads a prompt fastest."""
    if all(trial.seconds is None for trial in found.trials):
        return found
    sizes = [size for size in _BATCHES if size <= read_header(model).n_ctx_train]
    trials = _try(model, [replace(found.setting, batch=size) for size in sizes], timeout_s)
    best = choose_batch(trials)
    if best is None or best.prompt_s is None:
        return replace(found, trials=(*found.trials, *trials))
    why = f"{found.why}; it reads a prompt in {best.prompt_s * 1000:.0f} ms in batches of {best.setting.batch}"
    return replace(found, setting=best.setting, why=why, trials=(*found.trials, *trials))


def choose_batch(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the smallest batch, but for larger ones that read a prompt clearly faster; None where none worked."""
    best: Trial | None = None
    for trial in trials:
        if trial.prompt_s and (best is None or best.prompt_s is None or trial.prompt_s < _BATCH_GAIN * best.prompt_s):
            best = trial
    return best


def _keep(model: Path, found: Hardware) -> None:
    _write(_cache_file(model), json.dumps(asdict(found), indent=1))


def trial(model: Path, setting: Setting, *, timeout_s: float = 120) -> Trial:
    """Try one setting on a model in a child process; what crashes there is an answer and no crash here. Keeps nothing."""
    return _try(model, [setting], timeout_s)[0]


def choose(trials: Sequence[Trial]) -> Hardware:
    """The fastest setting that worked; a later one (more threads, repacked, GPU) must be clearly faster."""
    best: tuple[float, Setting] | None = None
    for trial in trials:
        if trial.seconds is not None and (best is None or trial.seconds < _GAIN * best[0]):
            best = trial.seconds, trial.setting
    failed = [str(trial.setting) for trial in trials if trial.seconds is None]
    crashed = f"; failed: {', '.join(failed)}" * bool(failed)
    if best is None:
        return Hardware(default_setting(), f"safe default: no trial worked{crashed}", tuple(trials))
    worked = len(trials) - len(failed)
    return Hardware(best[1], f"fastest of {worked} that worked, {best[0] * 1000:.0f} ms a request{crashed}", tuple(trials))


def _thread_counts() -> list[int]:
    cores = usable_cores()
    return sorted({1, *(2**i for i in range(1, 5) if 2**i < cores), min(cores, 16)})


def _try(model: Path, settings: list[Setting], timeout_s: float) -> list[Trial]:
    """Trials in one child. Those after a crash count as failed: what crashes with two threads is not wanted with one."""
    output, end, busy = _child([str(model), *(json.dumps(asdict(setting)) for setting in settings)], timeout_s)
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{") and line.endswith("}")]
    trials = []
    for i, setting in enumerate(settings):
        answer = answers[i] if i < len(answers) else {}
        failed = "seconds" not in answer
        error = failed * str(answer.get("error", end))
        trials.append(Trial(setting, answer.get("seconds"), error, failed * busy, answer.get("prompt_s")))
    return trials


def _child(arguments: list[str], timeout_s: float) -> tuple[str, str, str]:
    """The child's stdout and, in words, how it ended, and whether that was the machine's fault."""
    began_s = _children_s()
    command = [sys.executable, "-m", _CHILD, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own module
    except subprocess.TimeoutExpired as error:
        busy = starved(timeout_s, _children_s() - began_s)
        return (error.stdout or b"").decode("utf-8", "replace"), f"not done after {timeout_s:g} s", busy
    except OSError as error:
        return "", f"cannot start: {error}", ""
    return done.stdout.decode("utf-8", "replace"), _ending(done.returncode), ""


def _children_s() -> float:
    """The processor's time that children which have ended took."""
    times = os.times()
    return times.children_user + times.children_system


def _ending(code: int) -> str:
    if code < 0 and -code in set(signal.Signals):
        return f"crashed with {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _cache_file(model: Path) -> Path:
    about = model.stat()
    key = [processor(), usable_cores(), str(model.resolve()), about.st_size, about.st_mtime_ns, llama_version()]
    return folders.cache() / f"hardware-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"


def _from_json(data: dict[str, Any]) -> Hardware:
    trials = tuple(Trial(**{**trial, "setting": Setting(**trial["setting"])}) for trial in data["trials"])
    avoided = tuple(Setting(**setting) for setting in data.get("avoided", ()))
    fastest = Setting(**data["fastest"]) if data.get("fastest") else None
    return Hardware(Setting(**data["setting"]), data["why"], trials, avoided, fastest)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError as error:
        raise StorageError(f"Cannot keep the probe's answer at {path}: {error}. Free space, or set EDGEGEN_CACHE.") from error


def llama_version() -> str:
    """The installed llama-cpp-python, without loading it."""
    from importlib import metadata  # 3 MB, which a front that only names a Setting need not pay

    try:
        return metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        return "not installed"


def describe_native(timeout_s: float = 60) -> dict[str, str]:
    """What llama.cpp says of itself, asked in a child process."""
    output, end, _ = _child([], timeout_s)
    if not output.startswith("{"):
        return {"llama-cpp-python": llama_version(), "loading it": end}
    answer: dict[str, str] = json.loads(output)
    return answer


def _has_gpu(native: dict[str, str]) -> bool:
    return native.get("gpu offload") == "yes"


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Physical memory, where the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def describe(model: Path | None = None) -> dict[str, str]:
    """The machine, llama.cpp and the setting in use, as lines for `edgegen doctor`."""
    memory, native = memory_bytes(), describe_native()
    lines = {
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "processor": processor(),
        "cores": str(usable_cores()),
        "memory": "unknown" if memory is None else f"{memory / 2**30:.1f} GiB",
        **native,
    }
    gpu = _has_gpu(native)
    found = Hardware(default_setting(gpu=gpu), "safe default: no model given") if model is None else known(model, gpu=gpu)
    return lines | {"setting": str(found.setting), "why": found.why}
