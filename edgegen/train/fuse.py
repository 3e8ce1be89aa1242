"""One adapter of several on the same base: a weighted sum of what each changes, for shops that share a base.

`cat` is exact: W' = W + sum of w_i x alpha_i/r_i B_i A_i, at the sum of the ranks. `svd` is its best approximation of a given
rank. TIES (Yadav et al. 2023, https://arxiv.org/abs/2306.01708) and DARE (Yu et al. 2024, https://arxiv.org/abs/2311.03099)
leave out part of each first, so that they disturb each other less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import PeftModel

from convert import adapter_config
from convert.checkpoint import find, open_checkpoint
from convert.merge import base_of, merge
from edgegen import pack
from edgegen.errors import ConvertError, DataError, OptionError
from edgegen.train import lora
from edgegen.train.dataset import Encoder, PairDataset, draft_table
from edgegen.train.losses import measured
from edgegen.train.pairs import Pair

How = Literal["cat", "svd", "ties_svd", "dare_linear_svd", "dare_ties_svd"]
HOWS: tuple[How, ...] = get_args(How)
_PARTIAL: tuple[How, ...] = ("ties_svd", "dare_linear_svd", "dare_ties_svd")


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """How adapters are added up."""

    weights: tuple[float, ...] = ()
    """One for each adapter; none takes equal ones that add up to 1. A negative one takes away what an adapter learnt."""
    how: How = "cat"
    rank: int | None = None
    """Of the result where `how` is not `cat`; None takes the highest of the adapters' ranks."""
    density: float = 0.5
    """Share of each adapter's values that TIES and DARE keep; in (0, 1]."""
    seed: int = 0
    """Of DARE's choice."""

    def __post_init__(self) -> None:
        """Check every range. Raises OptionError."""
        if self.how not in HOWS:
            raise OptionError(f"how must be one of {', '.join(HOWS)}, got {self.how!r}")
        if not all(map(isfinite, self.weights)):
            raise OptionError("weights must be finite numbers")
        if self.rank is not None and (self.rank < 1 or self.how == "cat"):
            raise OptionError("rank must be at least 1, and goes with another how than cat, whose rank is the sum of the ranks")
        if not 0 < self.density <= 1:
            raise OptionError(f"density must be in (0, 1], got {self.density}")


@dataclass(frozen=True, slots=True)
class Fused:
    """The folders that were written, and the losses on given pairs: of the base, of each adapter alone, of all together."""

    adapter: Path
    merged: Path
    losses: dict[str, float]


def fuse(adapters: Sequence[Path], out: Path, options: FuseOptions, pairs: Sequence[Pair] = ()) -> Fused:
    """Write `out/adapter` and `out/merged`. With `pairs`, losses are measured on them and the draft table is made of them.

    Raises OptionError, NotFoundError, ConvertError where adapters do not go together, DataError.
    """
    weights = _weights(adapters, options)
    if (out / "adapter").resolve() in [path.resolve() for path in adapters]:
        raise OptionError(f"{out} holds one of the adapters, which would be written over. Choose another --out.")
    base = _one_base(adapters)
    opened = open_checkpoint(base)
    data = PairDataset(Encoder(opened.tokenizer), pairs, opened.model.config.n_positions)
    if pairs and not len(data):
        raise DataError(f"None of the pairs fits the {opened.model.config.n_positions} tokens of the base. Give shorter pairs.")
    names = [f"adapter{i}" for i in range(len(adapters))]
    model = PeftModel.from_pretrained(opened.model, str(adapters[0]), adapter_name=names[0])
    for name, folder in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(str(folder), adapter_name=name)
    losses = _losses(model, names, adapters, data) if pairs else {}
    _add_up(model, names, weights, options)
    model.set_adapter("default")
    if pairs:
        losses["together"] = loss(model, data)
    for name in names:
        model.delete_adapter(name)
    model.peft_config["default"].base_model_name_or_path = str(base)
    fused = Fused(lora.save(model, opened.tokenizer, out / "adapter"), out / "merged", losses)
    merge(fused.adapter, fused.merged, base)
    if pairs:
        (fused.merged / pack.DRAFT).write_bytes(draft_table(data, opened.model.config.vocab_size).to_bytes())
    return fused


def _weights(adapters: Sequence[Path], options: FuseOptions) -> list[float]:
    if len(adapters) < 2:
        raise OptionError("Give two adapters or more.")
    if options.weights and len(options.weights) != len(adapters):
        raise OptionError(f"There are {len(adapters)} adapters and {len(options.weights)} weights. Give one for each, or none.")
    return list(options.weights) or [1 / len(adapters)] * len(adapters)


def _one_base(adapters: Sequence[Path]) -> Path:
    """The base that all were trained on, by its weights and not by its place."""
    bases = [base_of(adapter) for adapter in adapters]
    for adapter in adapters:
        adapter_config.check(adapter, "Only lora and rslora adapters of a base that has edgegen's tokens can be added up.")
    digests = [_digest(find(str(base))) for base in bases]
    for adapter, digest in zip(adapters, digests, strict=True):
        if digest != digests[0]:
            raise ConvertError(
                f"{adapter} was trained on another base than {adapters[0]}. Fuse adapters of one base."
            )
    return find(str(bases[0]))


def _digest(folder: Path) -> str:
    """Of a checkpoint's weights and tokenizer."""
    found = hashlib.sha256()
    for path in sorted(path for kind in ("*.safetensors", "*.bin", "tokenizer.json") for path in folder.glob(kind)):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _add_up(model: PeftModel, names: list[str], weights: list[float], options: FuseOptions) -> None:
    more: dict[str, Any] = {}
    if options.how != "cat":
        more["svd_rank"] = options.rank
    if options.how in _PARTIAL:
        more["density"] = options.density
    torch.manual_seed(options.seed)
    try:
        model.add_weighted_adapter(names, weights, "default", combination_type=options.how, **more)
    except (ValueError, RuntimeError) as error:
        raise ConvertError(f"The adapters cannot be added up: {error}. Use adapters of the same matrices.") from error


def _losses(model: PeftModel, names: list[str], adapters: Sequence[Path], data: PairDataset) -> dict[str, float]:
    with model.disable_adapter():
        found = {"base": loss(model, data)}
    for name, folder in zip(names, adapters, strict=True):
        model.set_adapter(name)
        found[str(folder)] = loss(model, data)
    return found


def loss(model: Any, data: PairDataset) -> float:
    """-1/N sum log P(text token | facts, text before), in nats."""
    sums, counts = zip(*measured(model, data.examples), strict=True)
    return float(sum(sums) / sum(counts))
