"""What a GGUF file computes, beside the checkpoint it was made from. Runs in child processes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = (
    "It's 4 cups,  we'll say - don't\n\n wait \t now", "  leading, trailing  ", "木桌很结实。", "cafe\u0301 naïve 😀 ½",
    "a <mask> b", "DON'T 'S 12345678 x",
)  # fmt: skip
_IDS = 48
_FAULTS = ("error loading model: ", "failed to apply lora adapter: ")


def convert_ours(folder: Path, out: Path, adapter: Path | None) -> str | None:
    """Convert with edgegen as its command does before it compares; the message of a refusal, or None."""
    from convert import gpt2
    from convert.checkpoint import open_checkpoint
    from convert.merge import open_adapted
    from edgegen.errors import EdgegenError

    try:
        gpt2.write(open_adapted(adapter, folder) if adapter else open_checkpoint(folder), out)
    except EdgegenError as error:
        return str(error).replace(f"{folder}: ", "").replace(f"{folder}", folder.name)
    return None


def judge(folder: Path, adapter: Path | None, file: Path, lora: Path | None) -> str:
    """Whether a file loads, splits texts as the checkpoint's tokenizer does, and gives its logits."""
    from convert.verify import TOLERANCE

    llama, why = _load(file, lora)
    if llama is None:
        return f"writes a file that does not load: {why}"
    words = _words(folder)
    for text in TEXTS:
        expected = words(text, add_special_tokens=False)["input_ids"]
        if llama.tokenize(text.encode(), add_bos=False, special=True) != expected:
            return f"writes a file that splits {text!r} into other tokens"
    error, spread = _error(folder, adapter, llama, len(words))
    if not error <= TOLERANCE * spread:
        return f"writes a file that computes something else: logits differ by {error:.2g}, their spread is {spread:.2g}"
    return f"fine: logits differ by {error:.1g}, their spread is {spread:.2g}"


def _error(folder: Path, adapter: Path | None, llama: Any, tokens: int) -> tuple[float, float]:
    """The largest difference of logits over some random tokens, and the standard deviation of the logits."""
    import torch

    ids = np.random.default_rng(5).integers(0, tokens, _IDS)
    with torch.inference_mode():
        expected = _reference(folder, adapter)(torch.from_numpy(ids)[None]).logits[0].float().numpy()
    llama.eval([int(i) for i in ids])
    got = np.array(llama.scores[:_IDS])[:, : expected.shape[1]]
    return float(np.abs(got - expected).max()), float(expected.std(-1).mean())


def _load(file: Path, lora: Path | None) -> tuple[Any, str]:
    """A model in llama-cpp-python's own class, or None and what llama.cpp says of the file."""
    from llama_cpp import Llama

    options: dict[str, Any] = {"n_ctx": 64, "n_threads": 1, "logits_all": True, "verbose": True}
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            made, error = Llama(str(file), lora_path=str(lora) if lora else None, **options), ""
        except (ValueError, RuntimeError) as failure:
            made, error = None, str(failure)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").splitlines()
    said = [line.partition(fault)[2] for line in lines for fault in _FAULTS if fault in line]
    if said or made is None:  # an adapter that llama.cpp refuses leaves a model behind that crashes
        return None, " ".join((said or [error])[0].split())
    made.verbose = False
    return made, ""


def _words(folder: Path) -> Any:
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    return BertTokenizer.from_pretrained(folder)


def _reference(folder: Path, adapter: Path | None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(1)
    model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return (PeftModel.from_pretrained(model, str(adapter)) if adapter else model).eval()
