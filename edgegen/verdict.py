"""What a check of a text answers: the violations found and the claims made. Shared by grounding and safety."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """Something wrong with a text: the rule broken, the words that break it, and why."""

    rule: str
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Something a text says, and the facts behind it: index of the section in the request, and key."""

    text: str
    evidence: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a check."""

    violations: tuple[Violation, ...]
    claims: tuple[Claim, ...]

    @property
    def ok(self) -> bool:
        """Whether the text may be shown."""
        return not self.violations
