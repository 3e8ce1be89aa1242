"""What each quantization loses, with an importance matrix and without, as a table.

    python bench/quantizations.py CHECKPOINT [--quant q8_0,q4_k_m,...]

CHECKPOINT is a folder or hub name; `bundled` takes the bundled pack's weights, which are Q8_0 already.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from convert import calibrate, gpt2, plain, quantize, verify
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.samples import of_corpus
from edgegen.engine import quantizing
from edgegen.engine.quantizing import Importance
from edgegen.errors import EngineError
from edgegen.hardware import usable_cores
from edgegen.train import lora


def measured(opened: Checkpoint, exact: Path, kind: str, importance: Importance | None) -> tuple[str, str]:
    """Mean KL and agreement of the likeliest token, or that llama.cpp refuses."""
    made = exact.with_name("made.gguf")
    try:
        quantizing.quantize(exact, made, kind, threads=usable_cores(), importance=importance)
    except EngineError:
        return "(needs one)", ""
    found = verify.compare(opened, made, of_corpus("test", 2))
    return f"{found.mean_kl:.2g}", f"{found.top1_agreement:.1%}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--quant", default=",".join(quantize.TYPES), help="types, with commas; default: all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        source = lora.prepare_base(args.checkpoint, Path(room) / "base") if args.checkpoint == lora.BUNDLED else args.checkpoint
        opened = open_checkpoint(source)
        exact = gpt2.write(opened, Path(room) / "f32.gguf")
        encoder = plain.encoder(opened.tokenizer)
        texts = [encoder.pair(pair) for pair in of_corpus("train", 8)]
        matrix = calibrate.importance(opened, texts)
        sys.stdout.write("| type | MB | mean KL | same token | with an importance matrix: mean KL | same token | bound |\n")
        sys.stdout.write("|---|---|---|---|---|---|---|\n")
        for kind in map(quantize.check_type, args.quant.split(",")):
            size = quantize.plan(exact, kind).size / 1e6
            cells = [*measured(opened, exact, kind, None), *measured(opened, exact, kind, matrix)]
            sys.stdout.write(f"| {kind} | {size:.1f} | {' | '.join(cells)} | {quantize.BOUNDS[kind]:g} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
