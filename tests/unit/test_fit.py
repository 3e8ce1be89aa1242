"""The training loss: on text tokens only, the same as the model's own, with gradients to match."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from edgegen.errors import OptionError
from edgegen.train.batches import MixedBatches
from edgegen.train.dataset import IGNORE
from edgegen.train.fit import FitOptions
from edgegen.train.losses import TextLoss


def model(layers: int) -> GPT2LMHeadModel:
    """A tiny GPT-2 without dropout."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=60, n_positions=32, n_embd=16, n_layer=layers, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        initializer_range=0.2, loss_type="ForCausalLM",
    )  # fmt: skip
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize("layers", [1, 3])
def test_loss_and_gradients_are_the_models_own(layers: int) -> None:
    """Leaving out what no labelled position needs changes neither."""
    net = model(layers)
    ids = torch.randint(0, 60, (3, 20), generator=torch.Generator().manual_seed(2))
    labels = ids.clone()
    labels[:, :9] = IGNORE  # prompts
    labels[1, 15:] = IGNORE  # padding
    ours, theirs = TextLoss(net, ids, labels).plain(), net(input_ids=ids, labels=labels).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    weights = list(net.parameters())
    for mine, its in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights), strict=True):
        assert torch.allclose(mine, its, atol=1e-5)


def test_prompt_tokens_do_not_count() -> None:
    """Other prompt labels, the same loss."""
    net, ids = model(2), torch.arange(20)[None]
    labels = torch.full_like(ids, IGNORE)
    labels[:, 12:] = ids[:, 12:]
    assert TextLoss(net, ids, labels).plain().item() > 0
    with torch.no_grad():
        rows = net(input_ids=ids).logits[0, 11:-1].log_softmax(-1)
    by_hand = -rows[torch.arange(8), ids[0, 12:]].mean()
    assert TextLoss(net, ids, labels).plain().item() == pytest.approx(by_hand.item(), abs=1e-5)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": 1.0}, {"decay": 1.5}])
def test_options_check_themselves(wrong: dict[str, float]) -> None:
    """A value that cannot work is refused with its name."""
    with pytest.raises(OptionError, match=next(iter(wrong))):
        FitOptions(**wrong)  # type: ignore[arg-type]


def test_batches_are_of_like_length_and_mixed() -> None:
    """Each pair once; a batch holds like lengths; long and short batches come in no order; epochs differ, a repeat does not."""
    lengths = [int(n) for n in torch.randint(10, 200, (4000,), generator=torch.Generator().manual_seed(5))]
    sampler = MixedBatches(16, lengths, seed=3)
    first, again = list(sampler), list(sampler)
    assert first == again and sorted(first) == list(range(4000))
    batches = [[lengths[i] for i in first[at : at + 16]] for at in range(0, 4000, 16)]
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 10
    means = torch.tensor([sum(batch) / len(batch) for batch in batches])
    assert abs(float(torch.corrcoef(torch.stack([means[:-1], means[1:]]))[0, 1])) < 0.2
    sampler.set_epoch(1)
    assert list(sampler) != first
