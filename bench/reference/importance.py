"""One importance matrix for both sides: edgegen's, and the same as the GGUF file that llama.cpp's quantizer reads."""

from __future__ import annotations

from pathlib import Path

_TEXTS = 1  # of each task and language
_CHUNK = 512  # tokens; only told, never used


def measure(checkpoint: Path, ours: Path, theirs: Path) -> None:
    """Write a checkpoint's matrix to `ours` (safetensors) and `theirs` (GGUF). Runs in a child process: it loads PyTorch."""
    import gguf
    import numpy as np
    from safetensors.numpy import save_file

    from convert import calibrate, plain
    from convert.checkpoint import open_checkpoint
    from convert.samples import of_corpus

    opened = open_checkpoint(checkpoint)
    encoder = plain.encoder(opened.tokenizer)
    texts = [encoder.pair(pair) for pair in of_corpus("train", _TEXTS)]
    found = calibrate.importance(opened, [text for text in texts if len(text.ids) <= opened.config.n_positions])
    save_file(dict(found), ours)
    writer = gguf.GGUFWriter(theirs, "imatrix")
    writer.add_type(gguf.GGUFType.IMATRIX)
    writer.add_array(gguf.Keys.IMatrix.DATASETS, ["corpus"])
    writer.add_uint32(gguf.Keys.IMatrix.CHUNK_COUNT, 1)
    writer.add_uint32(gguf.Keys.IMatrix.CHUNK_SIZE, _CHUNK)
    for name, values in found.items():
        writer.add_tensor(f"{name}.in_sum2", values[None])
        writer.add_tensor(f"{name}.counts", np.ones((1, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(exact: Path, out: Path, kind: str, matrix: Path) -> None:
    """Edgegen's quantizer with that matrix."""
    from safetensors.numpy import load_file

    from convert import quantize as ours

    ours.quantize(exact, out, kind, load_file(matrix))
