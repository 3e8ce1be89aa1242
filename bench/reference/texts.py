"""Greedy text of a converted file: by edgegen and by PyTorch, in child processes, and by llama.cpp's own program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import measure

PLAIN = ("The walnut desk is", "Shoppers like it because", "It's a 4.8 out of 5,", "这张木桌很结实，")
END = b" [end of text]\n"


@dataclass(frozen=True, slots=True)
class Written:
    """What follows a prompt: token ids of edgegen and of PyTorch, and the bytes of edgegen's, control tokens as their names."""

    prompt: str
    ours: list[int]
    torch: list[int]
    text: bytes
    ended: bool


def pack_prompts(folder: Path) -> list[str]:
    """Prompts of the corpus as texts with control tokens, those that come back as the same ids."""
    from convert.checkpoint import open_checkpoint
    from edgegen.domain import LANGS
    from edgegen.train.corpus import generate
    from edgegen.train.dataset import Encoder

    words = open_checkpoint(folder).tokenizer
    encoder, parsing = Encoder(words), open_checkpoint(folder).tokenizer
    found = list[str]()
    for task in ("reason", "summary", "personal", "guide"):
        for lang in LANGS:
            example = next(encoder.pair(pair) for pair in generate.pairs(task, lang, "test", 1, 1))
            ids = example.ids[: example.start].tolist()
            text = parsing.decode(ids)
            if parsing(text, add_special_tokens=False)["input_ids"] == ids:
                found.append(text)
    return found


def write(folder: Path, file: Path, prompts: list[str], count: int) -> list[Written]:
    """Greedy tokens after each prompt in a file with edgegen's loop, and in the checkpoint with PyTorch."""
    from convert.checkpoint import open_checkpoint
    from edgegen.engine.llama import LlamaBackend, LlamaOptions

    checkpoint = open_checkpoint(folder)
    backend = LlamaBackend(file, LlamaOptions(max_sequences=1))
    try:
        return [_written(checkpoint, backend, prompt, count) for prompt in prompts]
    finally:
        backend.close()


def _written(checkpoint: Any, backend: Any, prompt: str, count: int) -> Written:
    from convert import reference, verify

    ids, end = backend.tokenize(prompt, special=True), checkpoint.tokenizer.eos_token_id
    ours = verify.greedy(backend, ids, count, end)
    theirs = reference.greedy(checkpoint, ids, count)
    return Written(prompt, ours, theirs, b"".join(map(backend.token_bytes, ours)), ours[-1] == end)


def completed(program: Path, file: Path, prompt: str, count: int) -> bytes:
    """What llama.cpp's program writes after a prompt, greedy, with the names of control tokens. Raises RuntimeError."""
    import subprocess

    options = ["--temp", "0", "-n", str(count), "-t", "1", "-no-cnv", "--no-escape", "--no-display-prompt", "--special"]
    command = [str(program), "-m", str(file), "-p", prompt, *options, "--no-warmup", "--simple-io"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - the reference that was built
    if done.returncode:
        last = measure.Done(measure.Cost(0, 0, 0), done.returncode, done.stderr.decode("utf-8", "replace")).last
        raise RuntimeError(f"{program.name} ended with {done.returncode}: {last}")
    return done.stdout
