"""The report of a conversion: what each quantization weighs and loses, as JSON for programs and as a table for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convert import quantize
from convert.quantize import Fallback
from convert.verify import Equality
from edgegen.errors import ConvertError

JSON, TABLE = "report.json", "REPORT.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One quantization: the file's bytes, how alike it is, what its tensors became."""

    kind: str
    size: int
    equality: Equality
    types: dict[str, int]
    fallbacks: list[Fallback]
    calibrated: bool

    @property
    def within(self) -> bool:
        """Whether it loses no more than its type may."""
        return self.equality.mean_kl <= quantize.BOUNDS[self.kind]


def require_within(row: Row) -> None:
    """Raise ConvertError for a quantization beyond its bound."""
    if not row.within:
        raise ConvertError(
            f"{row.kind} loses too much: mean KL divergence {row.equality.mean_kl:.3g}, the bound is "
            f"{quantize.BOUNDS[row.kind]:g}. Nothing was written. Use a wider type, or --force to have it all the same."
        )


def to_json(rows: Sequence[Row], source: str, versions: dict[str, str]) -> str:
    """The whole report, with the bounds that were set."""
    entries = [asdict(row) | {"kl_bound": quantize.BOUNDS[row.kind], "within": row.within} for row in rows]
    report: dict[str, Any] = {"format": 1, "source": source, "versions": versions, "quantizations": entries}
    return json.dumps(report, ensure_ascii=False, indent=2) + "\n"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "type",
        "MB",
        "bits/weight",
        "mean KL",
        "bound",
        "logit error / spread",
        "same token",
        "perplexity",
        "same greedy text",
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *map(_cells, rows))) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    e = row.equality
    return (
        row.kind, f"{row.size / 1e6:.1f}", f"{8 * row.size / e.parameters:.2f}", f"{e.mean_kl:.2g}",
        f"{quantize.BOUNDS[row.kind]:g}", f"{e.max_logit_error:.3g} / {e.logit_spread:.3g}", f"{e.top1_agreement:.1%}",
        f"{e.perplexity_change:+.2%}", f"{e.greedy_equal} of {e.greedy_prompts}",
    )  # fmt: skip


def to_text(rows: Sequence[Row], label: str, hard: int) -> str:
    """The report for people. `hard` is the number of hard texts that were compared."""
    first = rows[0].equality
    notes = [f"- {row.kind}: {note}" for row in rows for note in fallback_notes(row.fallbacks)]
    fallen = ["", "Types that rows were too short for:", *notes] if notes else []
    return "\n".join([
        f"# {label}: how alike it is to its checkpoint", "",
        f"{first.positions} tokens of texts that the model was not trained on; the checkpoint's perplexity on them is "
        f"{first.perplexity:.3f}. Tokens: 0 differences from the checkpoint's tokenizer in {first.texts} pieces of text, {hard} "
        "hard ones among them.", "",
        table(rows).rstrip(), *fallen, "",
    ])  # fmt: skip


def fallback_notes(found: Sequence[Fallback]) -> list[str]:
    """Fallbacks in words, those of a kind together."""
    counts = Counter((f.row, f.block, f.type) for f in found)
    return [
        f"{count} {'matrices have' if count > 1 else 'matrix has'} rows of {row} values, which do not divide by {block}, "
        f"and {'become' if count > 1 else 'becomes'} {type_}"
        for (row, block, type_), count in counts.items()
    ]  # fmt: skip
