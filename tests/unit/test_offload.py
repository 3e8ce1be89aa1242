"""Layers on a GPU: fewer where it has not room for all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from edgegen.engine import native, open_engine
from edgegen.engine.backend import Backend
from edgegen.engine.llama import LlamaOptions
from edgegen.engine.loop import Engine
from edgegen.errors import EngineError, NotFoundError, PackError
from edgegen.hardware import Setting
from tests.fakes.backend import FakeBackend
from tests.fakes.tiny_gguf import LAYERS, write_tiny_gguf


@dataclass
class Gpu:
    """A loader for a GPU with room for so many layers."""

    room: int
    error: type[Exception] = PackError
    asked: list[int] = field(default_factory=list)

    def __call__(self, model: Path, options: LlamaOptions) -> Backend:
        """Load, or have no room."""
        self.asked.append(options.gpu_layers)
        if options.gpu_layers > self.room:
            raise self.error("cudaMalloc failed: out of memory")
        return FakeBackend()


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU."""
    monkeypatch.setattr(native, "offloads", lambda: True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny GGUF."""
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def opened(model: Path, layers: int, gpu: Gpu) -> Engine:
    return open_engine(model, setting=Setting(gpu_layers=layers), load=gpu)


@pytest.mark.parametrize("error", [PackError, EngineError])
@pytest.mark.parametrize(
    ("layers", "room", "asked"), [(-1, 9, [LAYERS + 1]), (-1, 1, [3, 1]), (2, 1, [2, 1]), (-1, 0, [3, 1, 0]), (0, 0, [0])]
)
def test_fewer_layers_where_all_do_not_fit(
    model: Path, caplog: pytest.LogCaptureFixture, layers: int, room: int, asked: list[int], error: type[Exception]
) -> None:
    """All, half, a quarter, none; each step down is one line of the log."""
    gpu = Gpu(room, error)
    with opened(model, layers, gpu) as engine:
        assert engine.limits.n_ctx
    assert gpu.asked == asked
    assert len([record for record in caplog.records if "do not fit on the GPU" in record.message]) == len(asked) - 1


def test_what_fails_without_a_gpu_too_is_told(model: Path) -> None:
    """The last error is the caller's; what has nothing to do with memory comes at once."""
    with pytest.raises(PackError, match="out of memory"):
        opened(model, -1, Gpu(-1))
    with pytest.raises(NotFoundError):
        opened(model.with_name("none.gguf"), -1, Gpu(9))


def test_the_whole_setting_reaches_the_backend(model: Path) -> None:
    """Each field of Setting is an option of the backend."""
    seen = list[LlamaOptions]()

    def load(path: Path, options: LlamaOptions) -> Backend:
        del path
        seen.append(options)
        return FakeBackend()

    setting = Setting(3, repacked=True, gpu_layers=2, batch=64)
    open_engine(model, setting=setting, load=load).close()
    assert {name: getattr(seen[0], name) for name in asdict(setting)} == asdict(setting)


def test_a_gpu_that_is_gone_is_not_asked_for(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept answer may be of another day, or of another user who may see it."""
    monkeypatch.setattr(native, "offloads", lambda: False)
    gpu = Gpu(9)
    opened(model, -1, gpu).close()
    assert gpu.asked == [0]
