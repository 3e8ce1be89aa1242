"""Stages one after the other in a folder that remembers which are done, so that a run goes on where it ended.

Knows no stage's work. The note is written before a stage begins and after its output is whole: what a kill leaves is begun
anew, or goes on where the stage itself can.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.output import PARTIAL, remove
from edgegen import durable
from edgegen.errors import UsageError
from edgegen.progress import Display, Progress

NOTE = "run.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run: what it is made from, as a key; where its output will be; its work, which says what came of it."""

    name: str
    made_from: str
    made: Sequence[Path]
    work: Callable[[Progress], str]


def run(stages: Sequence[Stage], out: Path, display: Display, start: str | None = None) -> None:
    """Do the stages that are not done yet, from `start` on all.

    Raises UsageError where the folder holds something else, and what the stages raise; then what is done stays done.
    """
    with durable.storing(out):
        out.mkdir(parents=True, exist_ok=True)
    with durable.locked(out):
        note = check(stages, out, start)
        for part in out.glob(f".*{PARTIAL}*"):  # what a killed run had not finished
            remove(part)
        anew = stages[_place(stages, start) :]
        _write(out, note := _before(anew, note))
        for stage in anew:
            remove(out / stage.name)
        for at, stage in enumerate(stages):
            label = f"[{at + 1}/{len(stages)}] {stage.name}"
            if _done(stage, note):
                display.say(f"{label}: done before")
                continue
            note = _before(stages[at:], note)
            _write(out, note | {stage.name: {"made_from": stage.made_from, "done": False}})
            said = stage.work(display.stage(label))
            note[stage.name] = {"made_from": stage.made_from, "done": True}
            _write(out, note)
            display.say(f"{label}: {said}")


def check(stages: Sequence[Stage], out: Path, start: str | None = None) -> dict[str, Any]:
    """What the folder says of an earlier run. Raises UsageError where it holds another run, or something that is no run."""
    path = out / NOTE
    if not path.is_file():
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise UsageError(f"{out} holds something that is no run of a recipe. Choose an empty or new folder with --out.")
        return {}
    try:
        note: dict[str, Any] = json.loads(path.read_text("utf-8"))
        keys = {name: str(entry["made_from"]) for name, entry in note.items()}
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({error}). Choose another folder with --out, or delete this one.") from None
    for stage in stages[: _place(stages, start)]:
        if keys.get(stage.name, stage.made_from) != stage.made_from and _kept(stage, note, out):
            raise UsageError(
                f"{out} holds a run of another recipe: the options or the files of [{stage.name}] were others. Choose another "
                f"folder with --out, or add --from {stage.name} to do that stage and those after it anew."
            )
    return note


def _place(stages: Sequence[Stage], start: str | None) -> int:
    return next((i for i, stage in enumerate(stages) if stage.name == start), len(stages))


def _kept(stage: Stage, note: dict[str, Any], out: Path) -> bool:
    """Whether there is something of an earlier run that another one would take for its own, or lose."""
    folder = out / stage.name
    return bool(note[stage.name].get("done")) or (folder.is_dir() and any(folder.iterdir()))


def _before(stages: Sequence[Stage], note: dict[str, Any]) -> dict[str, Any]:
    """What the note says of others: these are made anew, and what was made of their old output does not count."""
    return {name: entry for name, entry in note.items() if name not in {stage.name for stage in stages}}


def _done(stage: Stage, note: dict[str, Any]) -> bool:
    return bool(note.get(stage.name, {}).get("done")) and all(path.exists() for path in stage.made)


def _write(out: Path, note: dict[str, Any]) -> None:
    with durable.storing(out / NOTE):
        durable.replace(out / NOTE, lambda file: file.write(json.dumps(note, indent=1).encode()))
