"""BLEU of the template texts that a file of meaning representations brings along, as `edgegen evaluate` counts it.

    python bench/templates.py --csv test.csv --data runs/tv/test.jsonl [--limit 1393] [--tokenize none]

RNNLG's files have a column `baseline`: what its hand-written templates say for the row. `--data` is what `edgegen train prepare`
made of the same file; a case takes the template of the row that its first reference is from.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from edgegen import scores
from edgegen.evaluation.cases import Case, Reference, merged
from edgegen.train import pairs


def _plain(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Print both scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True, help="with the columns `ref` and `baseline`")
    parser.add_argument("--data", type=Path, required=True, help="pairs that were prepared from it")
    parser.add_argument("--limit", type=int, default=200, help="cases, as of `edgegen evaluate`; default: %(default)s")
    parser.add_argument("--tokenize", default="none", choices=scores.TOKENIZERS)
    args = parser.parse_args()
    with args.csv.open(encoding="utf-8-sig", newline="") as file:
        known = {_plain(row["ref"]): row["baseline"].strip() for row in csv.DictReader(file)}
    found = pairs.read(args.data)
    cases = merged(Case(pair.request, (Reference(pair.text, pair.original),)) for pair in found)[: args.limit]
    people = [[one.original or "" for one in case.references] for case in cases]
    measured = scores.References(people, "en", args.tokenize).measures([known[_plain(several[0])] for several in people])
    print(f"{len(cases)} cases, template: BLEU {measured['bleu'].value:.1f}, ROUGE-L {measured['rouge_l'].value:.1f}")


if __name__ == "__main__":
    main()
