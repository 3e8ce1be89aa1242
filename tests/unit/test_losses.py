"""Harder losses: what they are by hand, that they change what is learnt, and what goes with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback
from transformers.activations import ACT2FN

from edgegen.errors import DataError, OptionError
from edgegen.slots import SPECIALS
from edgegen.train import fit as fitting
from edgegen.train import tokenizer
from edgegen.train.batches import MixedBatches, mixed
from edgegen.train.dataset import IGNORE, Encoder, PairDataset, collate
from edgegen.train.fit import FitOptions, fit
from edgegen.train.losses import TextLoss
from tests.fakes.checkpoints import PAIRS, TEXTS

SIZES = {"n_positions": 256, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
IDS = torch.randint(0, 60, (3, 20), generator=torch.Generator().manual_seed(2))


def model(dropout: float = 0.0, rows: int = 60) -> GPT2LMHeadModel:
    """A tiny GPT-2."""
    torch.manual_seed(1)
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, loss_type="ForCausalLM", **SIZES, **drops))


def labels() -> torch.Tensor:
    """The last eleven tokens are the text."""
    found = IDS.clone()
    found[:, :9] = IGNORE
    return found


def test_fgm_is_the_loss_there_and_uphill() -> None:
    """By hand: the slope of the loss at the embeddings, one length a sequence; frozen embeddings are moved too."""
    net = model()
    for frozen in (False, True):
        net.transformer.wte.weight.requires_grad_(not frozen)
        losses = TextLoss(net, IDS, labels())
        embedded = net.transformer.wte(IDS).detach().requires_grad_()
        (slope,) = torch.autograd.grad(net(inputs_embeds=embedded, labels=labels()).loss, embedded)
        moved = embedded + 0.5 * slope / slope[:, :-1].flatten(1).norm(dim=1)[:, None, None]
        by_hand = (losses.plain() + net(inputs_embeds=moved, labels=labels()).loss) / 2
        assert losses.fgm(0.5).item() == pytest.approx(by_hand.item(), abs=1e-4)
        assert losses.fgm(0.5) > losses.plain()
    (slope,) = torch.autograd.grad(losses.fgm(0.5), net.transformer.h[0].mlp.c_fc.weight)
    assert slope.abs().sum() > 0


def test_r_drop_counts_disagreement() -> None:
    """Without dropout the two passes agree and it is the plain loss; with it the divergence is added."""
    losses = TextLoss(model().train(), IDS, labels())
    assert losses.r_drop(5.0).item() == pytest.approx(losses.plain().item(), abs=1e-6)
    net = model(0.3).train()
    torch.manual_seed(4)
    found = TextLoss(net, IDS, labels()).r_drop(2.0)
    torch.manual_seed(4)
    both = [TextLoss(net, IDS, labels()) for _ in range(2)]
    target = labels()[:, 1:][labels()[:, 1:] != IGNORE]
    logs = [functional.log_softmax(one._logits(one._embedded()), -1) for one in both]
    apart = torch.stack([(a.exp() * (a - b)).sum() for a, b in (logs, logs[::-1])]).sum() / len(target)
    by_hand = torch.stack([functional.nll_loss(log, target) for log in logs]).mean() + 2.0 / 4 * apart
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_mix_brings_small_groups_nearer() -> None:
    """At temperature 2 nine to one becomes three to one; an epoch keeps its size and repeats after a resume."""
    groups = ["big"] * 900 + ["small"] * 100
    counts = mixed(groups, 2.0)
    assert counts is not None and {group: count for group, (_, count) in counts.items()} == {"big": 750, "small": 250}
    sampler = MixedBatches(8, [10] * 1000, 3, counts)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 1000 and drawn == list(sampler)
    assert sum(index >= 900 for index in drawn) == 250
    assert {drawn.count(index) for index in range(900, 1000)} == {2, 3}
    assert mixed(groups, 1.0) is None


@pytest.fixture(scope="module")
def data() -> tuple[Any, PairDataset]:
    """A tokenizer and encoded pairs."""
    words = tokenizer.train(TEXTS, len(SPECIALS) + 300)
    return words, PairDataset(Encoder(words), PAIRS * 8, 256)


def trained(
    data: tuple[Any, PairDataset], out: Path, *, dropout: float = 0.0, valid: bool = False, watch: Any = None, **changes: Any
) -> Any:
    """Weights and log of a short training; `watch` is called with each MLP that runs, before it does."""
    words, pairs = data
    net = model(dropout, len(words))
    if watch:
        net.transformer.h[0].mlp.register_forward_pre_hook(lambda mlp, _: watch(mlp))
    options = FitOptions(**{"steps": 6, "batch": 4, "rate": 5e-3, "warmup": 1, "save_every": 2, "log_every": 1, **changes})
    log = fit(net, words, pairs, pairs if valid else None, out, options)
    return net.state_dict(), log


class Interrupt(TrainerCallback):  # type: ignore[misc]
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before it is evaluated and saved."""
        if state.global_step == self._step:
            raise KeyboardInterrupt


def test_each_option_changes_what_is_learnt(data: tuple[Any, PairDataset], tmp_path: Path) -> None:
    """Adversarial losses and the schedule give other weights; half batches twice, and computing anew, the same ones."""
    plain, _ = trained(data, tmp_path / "plain")

    def apart(name: str, **changes: Any) -> float:
        other, _ = trained(data, tmp_path / name, **changes)
        return max(float((plain[key] - other[key]).abs().max()) for key in plain)

    assert apart("again") == 0
    assert apart("fgm", adversarial="fgm") > 1e-3
    assert apart("cosine", schedule="cosine") > 1e-3
    assert apart("anew", checkpointing=True) < 1e-5
    wet, _ = trained(data, tmp_path / "wet", dropout=0.2)
    dropped, _ = trained(data, tmp_path / "rdrop", dropout=0.2, adversarial="rdrop")
    assert max(float((wet[key] - dropped[key]).abs().max()) for key in wet) > 1e-3


def test_what_a_step_computes_with(data: tuple[Any, PairDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GELU that is one kernel; each block twice where activations are computed anew; bf16 where it pays."""
    anew = {"checkpointing": True}
    for name, pays, changes, passes in (("plain", False, {}, 6), ("anew", False, anew, 12), ("bf16", True, {}, 6)):
        monkeypatch.setattr(fitting, "bf16_pays", lambda pays=pays: pays)
        seen = list[tuple[Any, bool]]()
        trained(data, tmp_path / name, watch=lambda mlp, s=seen: s.append((mlp.act, torch.is_autocast_enabled("cpu"))), **changes)
        assert len(seen) == passes and {half for _, half in seen} == {pays}
        assert all(isinstance(act, type(ACT2FN[fitting.FUSED])) for act, _ in seen)


def test_mixing_reaches_the_training(data: tuple[Any, PairDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 21 texts in one language and 3 in the other an epoch takes these 3, or, mixed at temperature 2, more of them."""
    words, few = data[0], PairDataset(Encoder(data[0]), [PAIRS[0]] * 21 + [PAIRS[1]] * 3, 256)
    rare = set(map(id, few.examples[21:]))
    for mixing, counts in ((1.0, {3}), (2.0, {6, 7})):
        seen = list[int]()

        def counted(batch: Any, pad: int, seen: list[int] = seen) -> Any:
            seen.extend(id(example) for example in batch)
            return collate(batch, pad)

        monkeypatch.setattr(fitting, "collate", counted)
        trained((words, few), tmp_path / str(mixing), mixing=mixing)
        assert sum(one in rare for one in seen[:24]) in counts


def test_two_half_batches_are_one(data: tuple[Any, PairDataset], tmp_path: Path) -> None:
    """The sum over both is divided by the tokens of both: the same loss and the same gradient."""
    _, log = trained(data, tmp_path / "one", batch=16, steps=1)
    _, other = trained(data, tmp_path / "two", batch=8, accumulate=2, steps=1)
    assert log[0]["loss"] == pytest.approx(other[0]["loss"], rel=1e-3)
    assert log[0]["grad_norm"] == pytest.approx(other[0]["grad_norm"], rel=1e-2)


def test_patience_keeps_the_best(data: tuple[Any, PairDataset], tmp_path: Path) -> None:
    """A rate that is far too high makes it worse: training ends early, with the weights of the best evaluation."""
    state, log = trained(data, tmp_path / "steps", valid=True, rate=0.5, steps=40, patience=2)
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) < 20
    net = model(0.0, len(data[0]))
    net.load_state_dict(state)
    inputs = collate(data[1].examples, 0)
    with torch.no_grad():
        now = TextLoss(net.eval(), inputs["input_ids"], inputs["labels"]).plain().item()
    assert now == pytest.approx(min(losses), rel=0.05)


@pytest.mark.parametrize("patience", [0, 2])
def test_a_run_that_is_done_trains_no_further(data: tuple[Any, PairDataset], tmp_path: Path, patience: int) -> None:
    """The same command again gives the same weights and the same log."""
    (state, log), (again, other) = (trained(data, tmp_path / "steps", valid=True, patience=patience) for _ in range(2))
    assert all(torch.equal(state[name], again[name]) for name in state)
    losses, same = ([entry["loss"] for entry in one if "loss" in entry] for one in (log, other))
    assert len(losses) == 6 and losses == same


def test_a_checkpoint_that_was_cut_short_is_passed_over(data: tuple[Any, PairDataset], tmp_path: Path) -> None:
    """A kill while one is written leaves it without its state, which comes last: the one before it is whole."""
    state, _ = trained(data, tmp_path / "steps")
    last = tmp_path / "steps" / "checkpoint-6"
    state_file = last / "trainer_state.json"
    for cut in (state_file.read_text()[:40], None):
        state_file.unlink() if cut is None else state_file.write_text(cut)
        assert fitting.last_checkpoint(tmp_path / "steps") == str(tmp_path / "steps" / "checkpoint-4")
    again, _ = trained(data, tmp_path / "steps")
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert fitting.last_checkpoint(tmp_path / "steps") == str(last) and fitting.last_checkpoint(tmp_path / "none") is None


def test_patience_is_remembered(data: tuple[Any, PairDataset], tmp_path: Path) -> None:
    """An interrupted run ends where an undisturbed one does, and what patience has ended trains no further."""

    def steps(out: str, kill: int = 0) -> list[int]:
        net, pairs = model(0.0, len(data[0])), data[1]
        options = FitOptions(steps=12, batch=4, rate=1e-12, warmup=1, save_every=1, log_every=1, patience=4)  # no better, ever
        log = fit(net, data[0], pairs, pairs, tmp_path / out, options, [Interrupt(kill)])
        return [int(entry["step"]) for entry in log if "loss" in entry]

    whole = steps("whole")
    assert 4 <= len(whole) < 12 and steps("whole") == whole
    with pytest.raises(KeyboardInterrupt):
        steps("killed", len(whole) - 1)
    assert steps("killed") == whole


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"adversarial": "rdrop"}, "has none"),
        ({"patience": 2}, "held out"),
        ({"adversarial": "pgd"}, "adversarial must be one of"),
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"mixing": 0.5}, "mixing"),
        ({"accumulate": 0}, "accumulate"),
    ],
)
def test_what_cannot_work_is_refused(data: tuple[Any, PairDataset], tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    """Before anything is trained."""
    with pytest.raises(OptionError, match=what):
        trained(data, tmp_path / "steps", **changes)


def test_a_loss_that_is_no_number_ends_it(data: tuple[Any, PairDataset], tmp_path: Path) -> None:
    """With the advice to lower the rate, not after hours."""
    words, pairs = data
    net = model(0.0, len(words))
    net.transformer.ln_f.weight.data[0] = float("nan")
    with pytest.raises(DataError, match="Lower the rate"):
        fit(net, words, pairs, None, tmp_path / "steps", FitOptions(steps=4, batch=4, warmup=1, log_every=1))
