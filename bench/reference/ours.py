"""edgegen's conversion without the comparison with PyTorch, in a process to measure.

python ours.py CHECKPOINT OUT TYPE
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(checkpoint: Path, out: Path, kind: str) -> None:
    """Write a checkpoint as GGUF of a type, by way of F32 as `edgegen convert` does."""
    from convert import gpt2, quantize
    from convert.checkpoint import open_checkpoint

    exact = out if kind == "f32" else out.with_name(f"{out.name}.exact")
    gpt2.write(open_checkpoint(checkpoint), exact)
    if exact != out:
        quantize.quantize(exact, out, kind)
        exact.unlink()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
