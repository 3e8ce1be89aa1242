"""LoRA: a tiny base learns its pairs, the merged model is base plus adapter, and a foreign base gets edgegen's tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from convert import gpt2
from convert.checkpoint import open_checkpoint
from convert.merge import merge, open_adapted
from edgegen import pack
from edgegen.commands import _shared
from edgegen.domain import Fact, Kind, Request, Section
from edgegen.engine import ngrams
from edgegen.errors import ConvertError, DataError, NotFoundError, OptionError, UsageError
from edgegen.evaluation import report
from edgegen.slots import SPECIALS
from edgegen.train import kinds, lora
from edgegen.train.dataset import Encoder, PairDataset, collate
from edgegen.train.fit import FitOptions
from edgegen.train.lora import LoraOptions
from edgegen.train.losses import TextLoss
from edgegen.train.pairs import Pair
from tests.fakes.checkpoints import build, make_checkpoint

# PEFT asks transformers under the older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
QUICK = LoraOptions(rank=4, dropout=0.0, fit=FitOptions(steps=12, batch=4, rate=2e-2, warmup=1, save_every=12, log_every=4))


def pairs(count: int = 8) -> list[Pair]:
    """Requests with one text pattern."""
    prices = [Fact("price", Decimal(100 + i), Kind.MONEY, currency="USD") for i in range(count)]
    items = [Section("item", (Fact("name", "Oak desk", Kind.TEXT), price)) for price in prices]
    return [Pair(Request("reason", "en", (item,)), "<|v1|> for <|v4|>.") for item in items]


def logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Logits after every token."""
    with torch.inference_mode():
        result: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return result


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with edgegen's tokens."""
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base")


def test_tuning_learns_and_merges(base: Path, tmp_path: Path) -> None:
    """The loss falls, and the merged checkpoint computes what base and adapter compute together."""
    tuned = lora.tune(str(base), pairs(), pairs(2), tmp_path, QUICK)
    losses = [entry["loss"] for entry in tuned.log if "loss" in entry]
    assert losses[-1] < losses[0] / 2
    drawn = report.curves(_shared.provenance(tuned.merged or tmp_path))  # what an evaluation draws
    assert [loss for _, loss in drawn["loss"]] == losses
    assert tuned.base == base
    assert tuned.merged is not None
    opened, merged = open_checkpoint(base), open_checkpoint(tuned.merged)
    ids = opened.tokenizer.encode("the walnut desk is quiet")
    plain = logits(opened.model, ids)
    together = PeftModel.from_pretrained(opened.model, str(tuned.adapter)).eval()
    assert torch.allclose(logits(merged.model, ids), logits(together, ids), atol=1e-4)
    assert not torch.allclose(logits(merged.model, ids), plain, atol=1e-1)
    assert merged.model.config.activation_function == "gelu_new"
    assert ngrams.from_bytes((tuned.merged / pack.DRAFT).read_bytes()).n_vocab == len(merged.tokenizer)
    with pytest.raises(UsageError, match="another base, other pairs or options"):
        lora.tune(str(base), pairs(7), (), tmp_path, QUICK)
    again = open_checkpoint(merge(tuned.adapter, tmp_path / "again"))  # the adapter names its base
    assert torch.equal(logits(again.model, ids), logits(merged.model, ids))


@pytest.mark.parametrize("kind", ["rslora", "dora", "adalora"])
def test_every_kind_learns_and_merges(base: Path, tmp_path: Path, kind: kinds.Kind) -> None:
    """The loss falls; AdaLoRA has taken ranks away."""
    tuned = lora.tune(str(base), pairs(), (), tmp_path, replace(QUICK, kind=kind, fit=replace(QUICK.fit, steps=30)))
    losses = [entry["loss"] for entry in tuned.log if "loss" in entry]
    assert tuned.merged is not None and losses[-1] < losses[0] / 2
    config = json.loads((tuned.adapter / "adapter_config.json").read_text("utf-8"))
    assert (config["use_rslora"], config["use_dora"]) == (kind == "rslora", kind == "dora")
    merged = open_checkpoint(tuned.merged)
    batch = collate(PairDataset(Encoder(merged.tokenizer), pairs(), 256).examples, 0)
    assert TextLoss(merged.model, batch["input_ids"], batch["labels"]).plain() < 1.3 * losses[-1] + 0.05
    ranks = [sum(row) for row in (config.get("rank_pattern") or {}).values()]
    assert (kind == "adalora") == bool(ranks) and (not ranks or 0 < sum(ranks) < 6 * len(ranks))
    if kind == "adalora":  # no checkpoint of shrunk ranks fits a fresh adapter: the same command begins anew
        again = lora.tune(str(base), pairs(), (), tmp_path, replace(QUICK, kind=kind, fit=replace(QUICK.fit, steps=30)))
        assert [entry["loss"] for entry in again.log if "loss" in entry] == losses


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")  # PEFT's own
def test_a_prefix_is_for_comparison(base: Path, tmp_path: Path) -> None:
    """It learns, is saved, and is refused by name where it would have to be merged."""
    tuned = lora.tune(str(base), pairs(), pairs(2), tmp_path, replace(QUICK, kind="prefix"))
    losses = [entry["loss"] for entry in tuned.log if "loss" in entry]
    assert tuned.merged is None and losses[-1] < losses[0]
    with pytest.raises(ConvertError, match=r"PREFIX_TUNING.*cannot be merged"):
        merge(tuned.adapter, tmp_path / "again", base)
    with pytest.raises(OptionError, match="plain loss only"):
        LoraOptions(kind="prefix", fit=FitOptions(adversarial="fgm"))
    with pytest.raises(OptionError, match="kind must be one of"):
        LoraOptions(kind="ia3")  # type: ignore[arg-type]


ADAPTERS: dict[str, PeftConfig] = {
    "rsLoRA": LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, use_rslora=True),
    "DoRA": LoraConfig(r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, use_dora=True),
    "AdaLoRA": AdaLoraConfig(init_r=6, target_r=4, total_step=100, target_modules=["c_attn"], fan_in_fan_out=True),
    "modules_to_save": LoraConfig(r=4, target_modules=["c_proj"], fan_in_fan_out=True, modules_to_save=["ln_f"]),
    "token rows": LoraConfig(
        r=4, target_modules=["c_attn"], fan_in_fan_out=True, trainable_token_indices={"wte": [3, 5]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_kind_of_adapter_is_merged(base: Path, tmp_path: Path, kind: str) -> None:
    """The merged model computes what base and adapter do, and not what the base does."""
    torch.manual_seed(4)
    model = get_peft_model(open_checkpoint(base).model, ADAPTERS[kind])
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.05 * torch.randn_like(value))
    model.eval().save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    ids = list(range(2, 30))
    opened = open_adapted(tmp_path / "adapter", base)
    assert torch.allclose(logits(opened.model, ids), logits(model, ids), atol=1e-4)
    assert not torch.allclose(logits(opened.model, ids), logits(open_checkpoint(base).model, ids), atol=1e-2)


def test_a_sum_that_differs_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PEFT merges is not taken on trust."""
    get_peft_model(open_checkpoint(base).model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)).save_pretrained(
        str(tmp_path / "adapter"), save_embedding_layers=False
    )

    def wrong(self: PeftModel, **_: object) -> object:
        with torch.no_grad():
            self.base_model.model.transformer.ln_f.bias.add_(0.01)
        return self.base_model.unload()

    monkeypatch.setattr(PeftModel, "merge_and_unload", wrong, raising=False)
    with pytest.raises(ConvertError, match=r"logits differ by .* is rounding"):
        open_adapted(tmp_path / "adapter", base)


def test_a_foreign_base_gets_the_tokens(tmp_path: Path) -> None:
    """A GPT-2 without edgegen's tokens is extended, its own tokens keep their embeddings, the new ones learn."""
    foreign = make_checkpoint(tmp_path / "whole")
    _strip(foreign)
    assert "<|v1|>" not in open_checkpoint(foreign).tokenizer.get_vocab()
    tuned = lora.tune(str(foreign), pairs(), (), tmp_path / "out", QUICK)
    assert tuned.merged is not None
    merged, extended = open_checkpoint(tuned.merged), open_checkpoint(tuned.base)
    first = len(merged.tokenizer) - len(SPECIALS)
    before, after = (c.model.get_input_embeddings().weight for c in (extended, merged))
    assert torch.equal(before[:first], after[:first])
    assert not torch.equal(before[first:], after[first:])
    assert merged.model.lm_head.weight.data_ptr() == merged.model.transformer.wte.weight.data_ptr()


def test_slots_of_a_shops_own_keys_learn(base: Path, tmp_path: Path) -> None:
    """The base's corpus hardly has them; the rows of others stay, and so do all where nothing has keys of its own."""
    own = [replace(pair, request=replace(pair.request, task="tell")) for pair in pairs()]
    tuned = lora.tune(str(base), own, (), tmp_path / "own", QUICK)
    assert tuned.merged is not None
    before, after = (open_checkpoint(f) for f in (base, tuned.merged))
    changed = (before.model.transformer.wte.weight != after.model.transformer.wte.weight).any(1).nonzero().flatten().tolist()
    slots = before.tokenizer.convert_tokens_to_ids(["<|v1|>", "<|v4|>"])
    assert changed == sorted(slots)
    learnt = PairDataset(Encoder(before.tokenizer), [*own, *pairs()], 256)
    assert lora.trained_ids(base, before.tokenizer, "lora", learnt) == sorted(slots)
    assert lora.trained_ids(base, before.tokenizer, "adalora", learnt) == []
    assert lora.trained_ids(base, before.tokenizer, "lora", PairDataset(Encoder(before.tokenizer), pairs(), 256)) == []


@pytest.mark.parametrize("spare", [20, 400])
def test_a_padded_base_gets_the_tokens(tmp_path: Path, spare: int) -> None:
    """Spare rows that become those of edgegen's tokens are new as the others are, and what is left of them goes."""
    foreign = make_checkpoint(tmp_path / "whole")
    _strip(foreign)
    opened = open_checkpoint(foreign)
    first = len(opened.words)
    opened.model.resize_token_embeddings(first + spare, mean_resizing=False)
    opened.model.save_pretrained(foreign)
    extended = open_checkpoint(lora.prepare_base(str(foreign), tmp_path / "out"))
    count = first + len(SPECIALS)
    assert (len(extended.words), extended.config.vocab_size) == (count, count)
    assert lora.fresh_ids(extended.folder, extended.tokenizer) == list(range(first, count))
    rows = extended.model.get_input_embeddings().weight.detach()
    assert float((rows[first:] - rows[:first].mean(0)).abs().max()) < 0.2


def _strip(folder: Path) -> None:
    """Take edgegen's tokens out of a checkpoint."""
    opened = open_checkpoint(folder)
    words = opened.tokenizer
    tokens = gpt2.vocabulary(opened.words, len(words))
    kept = {t: i for i, t in enumerate(tokens.tokens[: -len(SPECIALS)])}
    merges = [(left, right) for left, right in (m.split(" ") for m in tokens.merges)]
    plain = Tokenizer(models.BPE(vocab=kept, merges=merges))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    opened.model.resize_token_embeddings(len(kept))
    opened.model.config.bos_token_id = opened.model.config.eos_token_id = opened.model.config.pad_token_id = None
    opened.model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(folder)


def test_the_bundled_pack_is_a_base(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bundled` is restored from the pack."""
    folder = build(base, tmp_path / "pack")
    monkeypatch.setattr(pack, "bundled", lambda: folder)
    prepared = open_checkpoint(lora.prepare_base("bundled", tmp_path / "base"))
    assert prepared.tokenizer.get_vocab() == open_checkpoint(base).tokenizer.get_vocab()


def test_unusable_calls_say_why(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such base, no pairs, pairs too long, an adapter that is none or does not fit."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NotFoundError, match=r"no checkpoint 'nowhere/none'.*hub"):
        lora.tune("nowhere/none", pairs(), (), tmp_path / "a", QUICK)
    with pytest.raises(DataError, match="None of the pairs"):
        lora.tune(str(base), (), (), tmp_path / "b", QUICK)
    with pytest.raises(NotFoundError, match="adapter_config"):
        merge(base, tmp_path / "c")


def test_an_adapter_of_another_size_is_refused(base: Path, tmp_path: Path) -> None:
    """Shapes are compared before anything is written."""
    model = open_checkpoint(make_checkpoint(tmp_path / "wide", n_embd=128)).model
    lora.adapted(model, tmp_path / "wide", QUICK, []).save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    with pytest.raises(ConvertError, match="does not fit its base") as found:
        merge(tmp_path / "adapter", tmp_path / "merged", base)
    assert not (tmp_path / "merged").exists()
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600


@pytest.mark.parametrize("changes", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ()}, {"targets": ("wte",)}])
def test_options_check_themselves(changes: dict[str, object]) -> None:
    """The message names the option."""
    with pytest.raises(OptionError, match=next(iter(changes))):
        LoraOptions(**changes)  # type: ignore[arg-type]
