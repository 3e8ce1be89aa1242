"""The probe: what it chooses, how it keeps it, and that a crash in a child is an answer like any other."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgegen import hardware
from edgegen.engine import native
from edgegen.errors import NotFoundError, StorageError
from edgegen.hardware import Hardware, Setting, Trial
from tests.fakes.tiny_gguf import LAYERS, write_tiny_gguf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("EDGEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny GGUF."""
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def test_the_fastest_that_works_is_chosen() -> None:
    """A failed trial is never chosen, and is named."""
    trials = [Trial(Setting(1), 0.8), Trial(Setting(2), 0.4), Trial(Setting(2, repacked=True), None, "crashed with SIGILL")]
    found = hardware.choose(trials)
    assert found.setting == Setting(2)
    assert found.why == "fastest of 2 that worked, 400 ms a request; failed: CPU, 2 threads, repacked buffers on, batches of 256"


def test_a_little_faster_is_not_enough() -> None:
    """More threads and repacked buffers have to earn it."""
    assert hardware.choose([Trial(Setting(1), 0.40), Trial(Setting(2), 0.39)]).setting == Setting(1)
    assert hardware.choose([Trial(Setting(2), 0.40), Trial(Setting(2, True), 0.30)]).setting.repacked


def test_without_a_working_trial_the_default_stays() -> None:
    """And says so."""
    found = hardware.choose([Trial(Setting(1), None, "crashed with SIGSEGV")])
    assert found.setting == hardware.default_setting() and "no trial worked" in found.why


def test_settings_get_safer_step_by_step(model: Path) -> None:
    """Fewer layers on the GPU by halves, then none, no repacked buffers, one thread; each step is another setting."""
    found = hardware.ladder(model, Setting(4, repacked=True, gpu_layers=-1))
    assert LAYERS == 2
    assert found == [Setting(4, True, -1), Setting(4, True, 1), Setting(4, True), Setting(4), Setting(1)]
    assert hardware.ladder(model, Setting(2)) == [Setting(2), Setting(1)] and hardware.ladder(model, Setting()) == [Setting()]


def test_a_step_that_is_avoided_is_passed_over() -> None:
    """From so many steps down; where all are avoided, the safest is taken."""
    rungs = [Setting(2, repacked=True), Setting(2), Setting(1)]
    assert [hardware.rung(rungs, (), steps) for steps in (0, 1, 9)] == [0, 1, 2]
    assert hardware.rung(rungs, [Setting(2)]) == 0 and hardware.rung(rungs, [Setting(2)], 1) == 2
    assert hardware.rung(rungs, rungs) == 2


def test_what_crashed_an_engine_is_not_taken_until_the_next_probe(model: Path, cache: Path) -> None:
    """The next safer setting that crashed none is; the probe forgets what crashed."""
    fast = Setting(2, repacked=True)
    hardware._keep(model, Hardware(fast, "probed"))
    found = hardware.avoid(model, [fast])
    assert hardware.known(model) == found and (found.setting, found.fastest) == (Setting(2), fast)
    assert "crashed with CPU, 2 threads, repacked" in found.why
    found = hardware.avoid(model, [Setting(2)])
    assert found.avoided == (fast, Setting(2)) and (found.setting, found.fastest) == (Setting(1), fast)
    probed = hardware.probe(model)
    assert hardware.known(model) == probed and probed.avoided == () and probed.fastest is None


def test_default_is_safe(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kept answer: no repacked buffers, and nothing is started or written."""
    monkeypatch.setattr(native, "offloads", lambda: False)
    found = hardware.known(model)
    assert not found.setting.repacked and found.setting.gpu_layers == 0 and found.setting.threads >= 1
    assert "safe default" in found.why


def test_a_gpu_is_used_without_a_probe(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All layers, where the installed llama.cpp has one; a kept answer has the last word, and the doctor says the same."""
    monkeypatch.setattr(native, "offloads", lambda: True)
    assert hardware.known(model).setting == replace(hardware.default_setting(), gpu_layers=-1)
    found = hardware.avoid(model, [hardware.known(model).setting])
    assert found.fastest is not None and (found.fastest.gpu_layers, found.setting.gpu_layers) == (-1, 1)
    hardware._keep(model, Hardware(Setting(), "probed"))
    assert hardware.known(model).setting == Setting()
    hardware._cache_file(model).unlink()
    child(tmp_path, monkeypatch, "import json\nprint(json.dumps({'gpu offload': 'yes'}))\n")
    assert hardware.describe(model)["setting"].startswith("GPU") and hardware.describe()["setting"].startswith("GPU")


def test_probe_keeps_its_answer(model: Path, cache: Path) -> None:
    """Real trials in children; the answer holds until the model changes."""
    found = hardware.probe(model)
    assert all(trial.seconds for trial in found.trials) and len(found.trials) >= 2
    assert hardware.known(model) == found
    assert [path.suffix for path in cache.iterdir()] == [".json"]
    os.utime(model, (1, 1))
    assert hardware.known(model) != found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"setting": {"nope": 1}, "why": "", "trials": []}', '{"why": 1}'])
def test_a_damaged_answer_is_ignored(model: Path, text: str) -> None:
    """The default takes its place."""
    path = hardware._cache_file(model)
    path.parent.mkdir()
    path.write_text(text)
    assert hardware.known(model).setting == hardware.default_setting()


def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a script in the trial's place."""
    (tmp_path / "fake_trial.py").write_text(body)
    monkeypatch.setattr(hardware, "_CHILD", "fake_trial")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_crash_loses_only_what_came_after(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child printed before it died counts; repacked buffers that crash are not chosen."""
    body = """
        import json, os, signal, sys
        for text in sys.argv[2:]:
            setting = json.loads(text)
            if setting["repacked"] and setting["threads"] > 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            print(json.dumps(setting | {"seconds": 1 / setting["threads"]}), flush=True)
    """
    child(tmp_path, monkeypatch, "\n".join(line[8:] for line in body.splitlines()))
    monkeypatch.setattr(hardware, "usable_cores", lambda: 2)
    found = hardware.probe(model)
    assert found.setting == Setting(2)
    assert [trial.error for trial in found.trials[:4]] == ["", "", "", "crashed with SIGSEGV"]


def test_the_smallest_batch_that_reads_a_prompt_about_as_fast_is_chosen() -> None:
    """Each larger one has to gain five in a hundred."""
    times = {64: 1.0, 128: 0.96, 256: 0.90, 512: 0.87}
    found = hardware.choose_batch([Trial(Setting(batch=size), 2.0, prompt_s=seconds) for size, seconds in times.items()])
    assert found is not None and found.setting.batch == 256
    assert hardware.choose_batch([Trial(Setting(), None, "ended with code 6")]) is None


def test_the_batch_is_probed_with_the_chosen_setting_and_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the model's context allows; an answer that was kept without one still holds."""
    body = """
        import json, sys
        for text in sys.argv[2:]:
            setting = json.loads(text)
            seconds = 1 / setting["threads"] + setting["repacked"]
            print(json.dumps(setting | {"seconds": seconds, "prompt_s": 0.1 if setting["batch"] == 128 else 0.2}), flush=True)
    """
    child(tmp_path, monkeypatch, "\n".join(line[8:] for line in body.splitlines()))
    monkeypatch.setattr(hardware, "usable_cores", lambda: 2)
    found = hardware.probe(model)
    assert found.setting == Setting(2, batch=128) == hardware.known(model).setting
    assert [trial.setting for trial in found.trials[4:]] == [Setting(2, batch=size) for size in (64, 128, 256)]
    assert "reads a prompt in 100 ms in batches of 128" in found.why and "batches of 128" in hardware.describe(model)["setting"]
    path = hardware._cache_file(model)
    old = json.loads(path.read_text())
    for setting in (old["setting"], *(trial["setting"] for trial in old["trials"])):
        del setting["batch"]
    for trial in old["trials"]:
        del trial["busy"], trial["prompt_s"]
    path.write_text(json.dumps(old))
    assert hardware.known(model).setting == Setting(2)


def test_a_gpu_is_tried_with_as_many_layers_as_it_takes(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them run out of its memory, half of them fit and are fastest."""
    body = """
        import json, sys
        if len(sys.argv) == 1:
            print(json.dumps({"gpu offload": "yes"}))
        for text in sys.argv[2:]:
            setting = json.loads(text)
            layers = setting["gpu_layers"]
            answer = {"error": "out of memory"} if layers > 1 else {"seconds": 0.1 if layers else 1.0}
            print(json.dumps(setting | answer), flush=True)
    """
    child(tmp_path, monkeypatch, "\n".join(line[8:] for line in body.splitlines()))
    found = hardware.probe(model)
    assert found.setting.gpu_layers == 1
    assert [trial.setting.gpu_layers for trial in found.trials if trial.setting.gpu_layers][:3] == [3, 1, 1]  # then batches


def test_a_child_that_hangs_is_ended(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is up, the default stays."""
    child(tmp_path, monkeypatch, "import sys, time\nif len(sys.argv) > 1: time.sleep(60)\n")
    found = hardware.probe(model, timeout_s=0.5)
    assert {trial.error for trial in found.trials} == {"not done after 0.5 s"}


def test_a_busy_machine_is_no_fault_of_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that had the processor for far less than it took says so; one that had it, or ended in time, does not."""
    assert "The machine is busy: of 90 s the trial had the processor for 4.0 s" in hardware.starved(90, 4)
    assert hardware.starved(90, 80) == ""
    child(tmp_path, monkeypatch, "import time\ntime.sleep(60)\n")
    assert "machine is busy" in hardware.trial(model, Setting(), timeout_s=0.5).busy
    monkeypatch.setattr(hardware, "_children_s", iter((0.0, 0.5)).__next__)
    assert hardware.trial(model, Setting(), timeout_s=0.5).busy == ""
    child(tmp_path, monkeypatch, "import sys\nsys.exit(3)\n")
    monkeypatch.setattr(hardware, "_children_s", lambda: 0.0)
    assert hardware.trial(model, Setting()) == Trial(Setting(), None, "ended with code 3")


def test_errors_of_a_trial_are_kept(tmp_path: Path) -> None:
    """A model that cannot be loaded fails every trial with its reason."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"x" * 100)
    found = hardware.probe(bad)
    assert all("not a GGUF" in trial.error or "ended" in trial.error for trial in found.trials)


def test_missing_model(tmp_path: Path) -> None:
    """Said before any child is started."""
    with pytest.raises(NotFoundError):
        hardware.probe(tmp_path / "none.gguf")
    assert hardware.known(tmp_path / "none.gguf").setting == hardware.default_setting()


def test_an_answer_that_cannot_be_kept(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in the folder's place, or a full disk, is one clear error."""
    child(tmp_path, monkeypatch, "")
    cache.write_text("a file")
    with pytest.raises(StorageError, match="EDGEGEN_CACHE"):
        hardware.probe(model)


def test_describe_says_what_and_why(model: Path) -> None:
    """The lines of `edgegen doctor`."""
    lines = hardware.describe(model)
    assert {"system", "processor", "cores", "memory", "llama-cpp-python", "setting", "why"} <= lines.keys()
    assert json.dumps(lines) and all(isinstance(line, str) for line in lines.values())
    assert f"Python {sys.version_info.major}" in lines["system"]
