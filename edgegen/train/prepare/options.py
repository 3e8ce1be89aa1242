"""What `edgegen train prepare` can be told. Every default of the preparation lives here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgegen import tasks
from edgegen.domain import LANGS
from edgegen.errors import OptionError, UsageError

KINDS = ("pairs", "mr", "attributes", "columns", "lines")
UNSUPPORTED = ("cut", "aside", "keep")
BY = ("auto", "product", "facts")


@dataclass(frozen=True)
class PrepareOptions:
    """How texts become pairs, and which are kept."""

    kind: str | None = None
    """What a row holds: one of KINDS; None looks at the file."""
    task: str | None = None
    """The task the texts are of; None: `product` where a product's name is known, else `tell`."""
    lang: str | None = None
    """The texts' language; None looks at each text."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Key -> column: `text`, `facts`, `id`, or a fact's key."""
    catalogue: Path | None = None
    """Products whose facts go with texts that name them (kind lines), or have their id or name (kind columns)."""
    unsupported: str = "cut"
    """A sentence that claims what no fact bears out: `cut` it, set the text `aside`, or `keep` it (wrong numbers never)."""
    by: str = "auto"
    """What must not be in two splits: `product` (name or id), `facts` (meaning representation); `auto`: by the kind."""
    valid: float = 0.05
    """Share of the groups that measure during training, where no file is given for it. 0 to 0.5."""
    test: float = 0.05
    """Share of the groups that measure at the end, where no file is given for it. 0 to 0.5."""
    seed: int = 0
    """Another number makes other splits. At least 0."""
    alike: float = 0.9
    """Two texts on the same facts that share so much of their runs of three words are one. Above 0, at most 1."""
    shortest: int = 3
    """Words (Chinese: characters) that a text must have. At least 1."""
    longest: int = 200
    """Words (Chinese: characters) that a text may have. At least `shortest`."""
    currency: str | None = None
    """ISO code of bare prices; None: USD for en, CNY for zh."""

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError, or UsageError for an unknown name."""
        _known("kind", self.kind, KINDS)
        _known("task", self.task, tasks.every())
        _known("lang", self.lang, LANGS)
        _known("unsupported", self.unsupported, UNSUPPORTED)
        _known("by", self.by, BY)
        for name in ("valid", "test"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise OptionError(f"{name} must be in [0, 0.5], got {getattr(self, name)}")
        if self.seed < 0:
            raise OptionError(f"seed must be at least 0, got {self.seed}")
        if not 0 < self.alike <= 1:
            raise OptionError(f"alike must be in (0, 1], got {self.alike}")
        if not 1 <= self.shortest <= self.longest:
            raise OptionError(f"shortest must be in [1, longest], got {self.shortest} with longest {self.longest}")


def _known(name: str, value: str | None, values: tuple[str, ...]) -> None:
    if value is not None and value not in values:
        raise UsageError(f"Unknown {name} {value!r}. Known: {', '.join(values)}.")
