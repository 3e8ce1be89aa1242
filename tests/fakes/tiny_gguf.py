"""Writes a tiny random GPT-2 as GGUF: two layers, byte vocabulary, edgegen's control tokens. Needs the gguf package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from edgegen.slots import END, SPECIALS

WIDTH, LAYERS, HEADS, CONTEXT = 64, 2, 4, 256
_NORMAL, _CONTROL = 1, 3  # llama.cpp's token types


def byte_characters() -> list[str]:
    """The printable character that GPT-2's byte-level BPE writes for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def write_tiny_gguf(
    path: Path, *, seed: int = 0, context: int = CONTEXT, width: int = WIDTH, chat_template: str | None = None
) -> Path:
    """Write the model and return its path. The same arguments give the same weights."""
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(4 * width)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer)
    if chat_template:
        writer.add_chat_template(chat_template)
    _add_weights(writer, np.random.default_rng(seed), context, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    characters = byte_characters()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    # One merge, of "t" and "h", because an empty list of merges is not written.
    writer.add_token_list([*characters, "th", *SPECIALS])
    writer.add_token_types([_NORMAL] * 257 + [_CONTROL] * len(SPECIALS))
    writer.add_token_merges(["t h"])
    end = 257 + SPECIALS.index(END)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)


def _add_weights(writer: gguf.GGUFWriter, rng: np.random.Generator, context: int, width: int) -> None:
    def random(*shape: int) -> npt.NDArray[np.float32]:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, dtype=np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, dtype=np.float32))

    writer.add_tensor("token_embd.weight", random(257 + len(SPECIALS), width))
    writer.add_tensor("position_embd.weight", random(context, width))
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_qkv", 3 * width, width), ("attn_output", width, width),
            ("ffn_up", 4 * width, width), ("ffn_down", width, 4 * width),
        ):  # fmt: skip
            writer.add_tensor(f"blk.{layer}.{name}.weight", random(rows, columns))
            writer.add_tensor(f"blk.{layer}.{name}.bias", random(rows))
        norm(f"blk.{layer}.attn_norm")
        norm(f"blk.{layer}.ffn_norm")
    norm("output_norm")
