"""Compares a GGUF model in llama.cpp with the PyTorch checkpoint it came from: tokens, logits, greedy text.

KL divergence of a position: sum P log(P / Q) in nats, P the checkpoint's distribution, Q the GGUF's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from convert import plain, torture, wordpiece
from convert.checkpoint import Checkpoint
from edgegen import slots, tasks
from edgegen.engine.backend import Batch, Logits
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import encode
from edgegen.errors import ConvertError
from edgegen.hardware import default_setting
from edgegen.slots import SPECIALS, Control
from edgegen.train.dataset import Encoder, Example
from edgegen.train.pairs import Pair

TOLERANCE = 0.1
"""The largest difference of logits that rounding explains, as a share of their standard deviation: llama.cpp keeps keys,
values and GELU in half precision even where the weights are F32."""
_GREEDY_TOKENS = 32
Each = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Equality:
    """How alike the two models are, over `positions` tokens of real prompts and texts.

    `logit_spread` is the standard deviation of the checkpoint's logits at a position, the measure of the errors.
    `perplexity` is the checkpoint's on the texts, `perplexity_change` the GGUF's beside it as a share. `texts` counts the pieces
    of text that were tokenised by both sides; they gave the same tokens, or there would be no figures.
    """

    positions: int
    max_logit_error: float
    logit_spread: float
    mean_kl: float
    top1_agreement: float
    perplexity: float
    perplexity_change: float
    greedy_equal: int
    greedy_prompts: int
    parameters: int
    texts: int = 0


def compare(
    checkpoint: Checkpoint, path: Path, pairs: Sequence[Pair], adapter: Path | None = None, each: Each = lambda *_: None,
    parity: Sequence[Pair] = (),
) -> Equality:  # fmt: skip
    """Measure a GGUF, with a GGUF adapter on top if there is one, against its checkpoint; `each` is told how many of how many
    texts are done. Of the pairs in `parity` the tokens alone are compared.

    Raises ConvertError where it tokenises differently or gives no numbers.
    """
    encoder = plain.encoder(checkpoint.tokenizer)
    context = checkpoint.config.n_positions
    examples = [e for e in map(encoder.pair, pairs) if 1 < len(e.ids) <= context]
    if not examples:
        raise ConvertError(
            f"None of the {len(pairs)} sample texts fits the {context} positions of {checkpoint.folder}. Train a longer context."
        )
    backend = LlamaBackend(path, LlamaOptions(max_sequences=1, adapter=adapter, threads=default_setting().threads))
    try:
        texts = _same_tokens(backend, encoder, [*pairs, *parity], hard_texts(checkpoint))
        rows = []
        for done, example in enumerate(examples, 1):
            rows.append(_row(example, _reference(checkpoint, example.ids), _logits(backend, example.ids)))
            each(done, len(examples))
        greedy = [_greedy_equal(checkpoint, backend, e) for e in examples[:8]]
    finally:
        backend.close()
    return replace(_summary(rows, greedy, checkpoint.model.num_parameters()), texts=texts)


def require_equal(found: Equality, path: Path) -> None:
    """Raise ConvertError where an unquantized GGUF differs by more than rounding."""
    limit = TOLERANCE * found.logit_spread
    if not found.max_logit_error <= limit:
        raise ConvertError(
            f"{path.name} does not compute what the checkpoint computes: logits differ by {found.max_logit_error:.3g}, "
            f"rounding explains {limit:.3g}. Nothing was written; please report the checkpoint's config.json."
        )


def hard_texts(checkpoint: Checkpoint) -> list[str]:
    """The texts of `torture` that llama.cpp can tokenise alike: all, but for a WordPiece some that it is known not to."""
    words = checkpoint.words
    known = wordpiece.different(words) if wordpiece.follows(words) else {}
    return [text for text in torture.TEXTS if text not in known]


def _same_tokens(
    backend: LlamaBackend, encoder: Encoder | plain.PlainEncoder, pairs: Sequence[Pair], hard: Sequence[str]
) -> int:
    """How many pieces of text both sides split alike: those of prompts and texts, and the hard ones. Raises ConvertError."""
    prompts = [tasks.get(pair.request.task).prompt(pair.request) for pair in pairs]
    segments = [piece for pair, prompt in zip(pairs, prompts, strict=True) for piece in slots.parse(pair.text, prompt)]
    texts = dict.fromkeys(p for p in [*(p for prompt in prompts for p in prompt.pieces), *segments, *hard] if isinstance(p, str))
    for text in texts:
        if encode(backend, [text]) != encoder.text_ids(text):
            raise ConvertError(f"llama.cpp splits {text!r} into other tokens than the tokenizer does. Use another tokenizer.")
    if isinstance(encoder, Encoder):
        encode(backend, [Control(token) for token in SPECIALS])
    return len(texts)


@torch.inference_mode()
def _reference(checkpoint: Checkpoint, ids: npt.NDArray[np.int32]) -> Logits:
    """Logits after every token of one sequence, float32 [len(ids), n_vocab]."""
    logits: Logits = checkpoint.model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].float().numpy()
    return logits


def _logits(backend: LlamaBackend, ids: npt.NDArray[np.int32]) -> Logits:
    """Logits after every token of one sequence, float32 [len(ids), n_vocab]."""
    batch = Batch()
    for pos, token in enumerate(ids):
        batch.add(int(token), pos, (0,), wanted=True)
    rows = backend.decode(batch).copy()
    backend.drop(0)
    return rows


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence: its positions, sums over them, and its largest error."""

    positions: int
    error: float
    spread: float
    kl: float
    top1: int
    tokens: int
    loss: float
    got_loss: float


def _row(example: Example, expected: Logits, got: Logits) -> _Row:
    if not np.isfinite(expected).all():
        raise ConvertError("The checkpoint's own logits are not numbers: its weights are damaged. Copy or save it again.")
    if not np.isfinite(got).all():
        raise ConvertError("llama.cpp gives logits that are not numbers for this model. Use another quantization.")
    p, q = _log_softmax(expected), _log_softmax(got)
    kl = float((np.exp(p) * (p - q)).sum())
    same = int((expected.argmax(-1) == got.argmax(-1)).sum())
    text = example.ids[example.start :]
    before = np.arange(example.start - 1, len(example.ids) - 1)
    losses = (float(-log[before, text].sum()) for log in (p, q))
    return _Row(len(got), float(np.abs(expected - got).max()), float(expected.std(-1).sum()), kl, same, len(text), *losses)


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _greedy_equal(checkpoint: Checkpoint, backend: LlamaBackend, example: Example) -> bool:
    """Whether the checkpoint would choose each token of the GGUF's text: so its own text is the same."""
    prompt = [int(token) for token in example.ids[: example.start]]
    room = min(_GREEDY_TOKENS, checkpoint.config.n_positions - len(prompt))
    written = greedy(backend, prompt, room, checkpoint.words.id("eos"))
    ids = np.asarray([*prompt, *written[:-1]], dtype=np.int32)
    chosen = _reference(checkpoint, ids)[len(prompt) - 1 :].argmax(-1)
    return [int(token) for token in chosen] == written


def greedy(backend: LlamaBackend, prompt: Sequence[int], count: int, end: int | None) -> list[int]:
    """What the GGUF writes after a prompt, the end token included."""
    out, fed, pos = list[int](), list(prompt), 0
    while len(out) < count:
        batch = Batch()
        for i, token in enumerate(fed):
            batch.add(token, pos + i, (0,), wanted=i == len(fed) - 1)
        pos, fed = pos + len(fed), [int(backend.decode(batch)[0].argmax())]
        out += fed
        if fed[0] == end:
            break
    backend.drop(0)
    return out


def _summary(rows: Sequence[_Row], greedy_equal: Sequence[bool], parameters: int) -> Equality:
    positions, tokens = sum(row.positions for row in rows), sum(row.tokens for row in rows)
    loss, got_loss = sum(row.loss for row in rows) / tokens, sum(row.got_loss for row in rows) / tokens
    return Equality(
        positions,
        max_logit_error=round(max(row.error for row in rows), 6),
        logit_spread=round(sum(row.spread for row in rows) / positions, 4),
        mean_kl=round(sum(row.kl for row in rows) / positions, 8),
        top1_agreement=round(sum(row.top1 for row in rows) / positions, 5),
        perplexity=round(math.exp(loss), 4),
        perplexity_change=round(math.expm1(got_loss - loss), 6),
        greedy_equal=sum(greedy_equal),
        greedy_prompts=len(greedy_equal),
        parameters=parameters,
    )
