"""How the engine's process is started, and how more and more carefully after it died. Pure, and what both sides know.

Knows neither process nor model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """What a process of the engine is to open."""

    pack: str | None = None
    """Folder, file or name of a pack, as `--pack` takes it; None is the active one."""
    model: str | None = None
    """A bare GGUF model in place of a pack; it completes plain text."""
    adapter: str | None = None
    """A LoRA adapter in GGUF on top of the model."""
    threads: int | None = None
    """Threads in place of those that the hardware's setting says."""
    context: int | None = None
    """Positions of a text with its prompt, in place of those that the model was trained with."""
    cells: int | None = None
    """Tokens that all texts have room for together."""
    caution: int = 0
    """So many steps of `hardware.ladder` down from the setting that is known to be fastest."""
    faulted: tuple[int, ...] = ()
    """The steps on which an engine was ended by a fault of native code: they are kept in mind for later starts."""
    max_waiting: int = 32
    """Completions that wait beside those that run."""

    @property
    def what(self) -> str:
        """What is opened, in words."""
        return self.model or self.pack or "the active pack"


@dataclass(frozen=True, slots=True)
class Policy:
    """When the supervisor loses patience, and for how long it waits. Seconds."""

    start_s: float = 180.0
    """A process that is not ready by then is ended."""
    hang_s: float = 30.0
    """A process that has calls and makes no step for so long is ended."""
    stuck_s: float = 10.0
    """One that makes no step for so long is not asked for more until it does."""
    tick_s: float = 1.0
    """How often a process that has calls is asked for a sign of life."""
    first_pause_s: float = 0.25
    """Before a process is started again; doubles with each death."""
    most_pause_s: float = 10.0
    """The pause does not grow beyond."""
    good_s: float = 30.0
    """A process that served for so long has its past forgiven: the next pause is the first one again."""
    retry_s: float = 10.0
    """A completion that had nothing sent yet waits so long for a new process."""
    grace_s: float = 1.0
    """An explanation may come so much after its deadline; then the template answers."""
    retire_s: float = 300.0
    """A process that was replaced may finish its calls for so long."""

    def pause_s(self, deaths: int) -> float:
        """The pause after so many deaths in a row."""
        return min(self.first_pause_s * 2.0 ** min(deaths - 1, 32), self.most_pause_s)
