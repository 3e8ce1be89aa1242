"""What training minimises: the text's cross-entropy, and two ways to make it harder so that the model generalises.

-1/N sum log P(text token | facts, text before), over the N text tokens of a batch.
FGM: the loss also where each token's embedding is moved a little in the direction that raises it. Miyato et al. 2017,
https://arxiv.org/abs/1605.07725. R-Drop: two passes with different dropout must agree. Liang et al. 2021,
https://arxiv.org/abs/2106.14448.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from edgegen.train import kinds
from edgegen.train.dataset import IGNORE, Example, collate


class TextLoss:
    """The losses of one batch; ids and labels int64 [batch, length]. Dropout follows the model's mode."""

    def __init__(self, model: Any, ids: torch.Tensor, labels: torch.Tensor, items: torch.Tensor | int | None = None) -> None:
        """`items` divides the sum over the tokens; None takes the mean, which is right without accumulation."""
        self._gpt2 = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._ids, self._items = ids[:, :-1], items
        self._chosen = labels[:, 1:] != IGNORE
        self._target = labels[:, 1:][self._chosen]

    def plain(self) -> torch.Tensor:
        """Cross-entropy of the text."""
        return self._entropy(self._logits(self._embedded()))

    def fgm(self, epsilon: float) -> torch.Tensor:
        """The mean of the loss and of the loss with each sequence's embeddings moved by `epsilon` in all."""
        embedded = self._embedded()
        if not embedded.requires_grad:
            embedded.requires_grad_()
        loss = self._entropy(self._logits(embedded))
        (slope,) = torch.autograd.grad(loss, embedded, retain_graph=True)
        length = slope.flatten(1).norm(dim=1).clamp_min(torch.finfo(slope.dtype).tiny)
        return (loss + self._entropy(self._logits(embedded + epsilon * slope / length[:, None, None]))) / 2

    def r_drop(self, weight: float) -> torch.Tensor:
        """The mean loss of two passes, and `weight` times half the mean of their divergences from each other."""
        first, second = (functional.log_softmax(self._logits(self._embedded()), -1) for _ in range(2))
        entropy = (self._nll(first) + self._nll(second)) / 2
        apart = [functional.kl_div(a, b, log_target=True, reduction="sum") for a, b in ((first, second), (second, first))]
        return entropy + weight / 4 * self._mean(apart[0] + apart[1])

    def _embedded(self) -> torch.Tensor:
        gpt2 = self._gpt2.transformer
        embedded: torch.Tensor = gpt2.wte(self._ids) + gpt2.wpe.weight[: self._ids.shape[1]]
        return embedded

    def _logits(self, embedded: torch.Tensor) -> torch.Tensor:
        """Of the text's positions alone; the last layer's MLP, of use to no other position, runs on these alone."""
        gpt2 = self._gpt2.transformer
        hidden = gpt2.drop(embedded)
        for block in gpt2.h[:-1]:
            hidden = block(hidden)
        last = gpt2.h[-1]
        hidden = (hidden + last.attn(last.ln_1(hidden))[0])[self._chosen]
        logits: torch.Tensor = self._gpt2.lm_head(gpt2.ln_f(hidden + last.mlp(last.ln_2(hidden))))
        return logits.float()

    def _entropy(self, logits: torch.Tensor) -> torch.Tensor:
        return self._mean(functional.cross_entropy(logits, self._target, reduction="sum"))

    def _nll(self, logs: torch.Tensor) -> torch.Tensor:
        return self._mean(functional.nll_loss(logs, self._target, reduction="sum"))

    def _mean(self, total: torch.Tensor) -> torch.Tensor:
        return total / (len(self._target) if self._items is None else self._items)


@torch.no_grad()
def measured(model: Any, examples: Sequence[Example]) -> list[tuple[float, int]]:
    """The summed loss in nats and the number of text tokens of each example."""
    model.eval()
    found = []
    for example in examples:
        batch, count = collate([example], 0), len(example.ids) - example.start
        ids, labels = (batch[key].to(model.device) for key in ("input_ids", "labels"))
        if kinds.prompts(model):
            loss = float(model(input_ids=ids, labels=labels).loss) * count
        else:
            loss = float(TextLoss(model, ids, labels, 1).plain())
        found.append((loss, count))
    return found
