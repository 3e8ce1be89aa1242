"""Stages in a folder: each is done once, a failed one is done again, and the folder is one run's."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from edgegen.errors import DataError, UsageError
from edgegen.progress import Display, Progress
from edgegen.train import pipeline
from edgegen.train.pipeline import Stage


class Runs:
    """Three stages, `a`, `b` and `c`, each a file in a folder of its own; what was done, and what was told."""

    def __init__(self, out: Path) -> None:
        self.out, self.done, self.keys, self.told = out, list[str](), dict[str, str](), ""
        self.failing: str | None = None

    def stages(self) -> list[Stage]:
        """The stages, keyed by their name unless `keys` says otherwise."""
        return [Stage(name, self.keys.get(name, name), [self.out / name / "made"], self._work(name)) for name in "abc"]

    def _work(self, name: str) -> Callable[[Progress], str]:
        def work(progress: Progress) -> str:
            progress(f"work on {name}", 1, 1)
            (self.out / name).mkdir(exist_ok=True)
            if name == self.failing:
                (self.out / name / "half").touch()
                raise DataError("no")
            self.done.append(name)
            (self.out / name / "made").write_text(name)
            return f"{name} is there"

        return work

    def run(self, start: str | None = None) -> str:
        """Run; gives the names of the stages that worked."""
        self.done, file = [], io.StringIO()
        try:
            pipeline.run(self.stages(), self.out, Display(Console(file=file)), start)
        finally:
            self.told = file.getvalue()
        return "".join(self.done)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """A run whose folder is not there yet."""
    return Runs(tmp_path / "deep" / "out")


def test_each_stage_is_done_once(runs: Runs) -> None:
    """And says how far it is, and that it was done."""
    assert runs.run() == "abc"
    assert runs.told.splitlines()[:3] == ["[1/3] a: work on a", "[1/3] a: a is there", "[2/3] b: work on b"]
    assert runs.run() == ""
    assert runs.told.splitlines() == [f"[{i}/3] {name}: done before" for i, name in enumerate("abc", 1)]


def test_a_stage_that_failed_is_done_again(runs: Runs) -> None:
    """What was done before it stays done."""
    runs.failing = "b"
    with pytest.raises(DataError):
        runs.run()
    assert runs.done == ["a"]
    runs.failing = None
    assert runs.run() == "bc"


def test_lost_output_is_made_again_with_what_was_made_of_it(runs: Runs) -> None:
    """A mark without its output does not count."""
    runs.run()
    (runs.out / "b" / "made").unlink()
    assert runs.run() == "bc"


def test_another_run_is_refused(runs: Runs) -> None:
    """By the stage that differs, and what is there stays; where nothing was made yet anything may change."""
    runs.failing = "b"
    with pytest.raises(DataError):
        runs.run()
    runs.keys["c"] = "other"
    runs.keys["b"] = "other"
    with pytest.raises(UsageError, match=r"another recipe: the options or the files of \[b\].*--from b"):
        runs.run()
    assert (runs.out / "a" / "made").is_file() and (runs.out / "b" / "half").is_file()
    (runs.out / "b" / "half").unlink()
    runs.failing = None
    assert runs.run() == "bc"
    runs.keys["a"] = "other"
    with pytest.raises(UsageError, match=r"\[a\]"):
        runs.run("b")


def test_from_a_stage_on_all_is_made_anew(runs: Runs) -> None:
    """With other options too; what it had made before is gone, what was before it is kept."""
    runs.run()
    (runs.out / "b" / "old").touch()
    runs.keys["b"] = "other"
    assert runs.run("b") == "bc"
    assert not (runs.out / "b" / "old").exists()
    assert runs.run() == ""


def test_a_folder_with_other_things_is_left_alone(runs: Runs) -> None:
    """So is one whose note is damaged."""
    runs.out.mkdir(parents=True)
    (runs.out / "thesis.txt").touch()
    with pytest.raises(UsageError, match="no run of a recipe"):
        runs.run()
    (runs.out / pipeline.NOTE).write_text('{"a": 1}')
    with pytest.raises(UsageError, match="is damaged"):
        runs.run()
    assert runs.done == [] and (runs.out / "thesis.txt").is_file()
