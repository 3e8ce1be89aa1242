"""Opening what a launch says: the trial before anybody relies on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgegen import hardware
from edgegen.domain import Lang
from edgegen.engine import native
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.errors import EngineError
from edgegen.hardware import Hardware, Setting
from edgegen.serving import opening
from edgegen.serving.launch import Launch
from edgegen.serving.runner import Runner
from tests.fakes.tiny_gguf import write_tiny_gguf


def test_the_trial_runs_on_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several wait for each other where the machine is busy; once it has worked they are used."""
    prove, seen = opening.prove, list[int]()

    def proving(runner: Runner, languages: Sequence[Lang]) -> None:
        prove(runner, languages)
        seen.append(runner.engine.most_threads)

    monkeypatch.setattr(opening, "prove", proving)
    monkeypatch.setattr(hardware, "known", lambda _: Hardware(Setting(4), "probed"))
    runner, state = opening.opened(Launch(model=str(write_tiny_gguf(tmp_path / "tiny.gguf"))), lambda _: None)
    with runner.engine:
        assert seen == [1] and runner.engine.most_threads == 4 and "4 threads" in state.setting
        runner.close()


def test_a_trial_that_takes_too_long_says_whose_fault_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's where it had the processor, else the machine's."""
    monkeypatch.setattr(opening, "_TRIAL_S", 0.01)
    for used_s, said in ((0.0, "machine is busy"), (1.0, "smaller model")):
        monkeypatch.setattr(time, "process_time", iter((0.0, used_s)).__next__)
        with pytest.raises(EngineError, match=said):
            opening._asked(lambda _: None)


def test_a_gpu_is_used_unasked_and_the_state_says_with_how_many_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it has room for."""

    class Small(LlamaBackend):
        def __init__(self, path: Path, options: LlamaOptions | None = None) -> None:
            if options is None or options.gpu_layers > 1:
                raise EngineError("cudaMalloc failed: out of memory")
            super().__init__(path, options)

    monkeypatch.setattr(native, "offloads", lambda: True)
    monkeypatch.setattr(opening, "LlamaBackend", Small)
    runner, state = opening.opened(Launch(model=str(write_tiny_gguf(tmp_path / "tiny.gguf"))), lambda _: None)
    with runner.engine:
        assert state.setting.startswith("GPU with 1 layers")
        runner.close()
