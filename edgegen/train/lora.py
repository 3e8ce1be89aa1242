"""LoRA fine-tuning of a GPT-2 on a retailer's pairs: adapter and merged checkpoint from the bundled pack, a folder or the hub.

W' = W + alpha/r * B A; only A and B are trained, and the embeddings of edgegen's tokens where the base lacked them. The
loss is on the text only (`fit`). Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from tokenizers import AddedToken
from transformers import AutoConfig, GPT2LMHeadModel, PreTrainedTokenizerFast

from convert import config as configs
from convert.checkpoint import find, open_checkpoint, open_words
from convert.config import Config
from convert.merge import merge
from convert.output import whole
from convert.restore import restore
from edgegen import pack, tasks
from edgegen.engine.gguf import read_header
from edgegen.errors import ConvertError, DataError, NotFoundError, OptionError, UsageError
from edgegen.pack.manifest import PROVENANCE
from edgegen.progress import Progress, plain
from edgegen.slots import SLOT_TOKENS
from edgegen.train import augment, kinds, memory, tokenizer
from edgegen.train.dataset import Encoder, PairDataset, draft_table
from edgegen.train.fit import FitOptions, curve, fit, processes
from edgegen.train.kinds import KINDS, Kind
from edgegen.train.pairs import Pair

BUNDLED = "bundled"
TARGETS = ("c_attn", "c_proj", "c_fc")
_KEYS = ("context_length", "embedding_length", "block_count")


def _default_fit() -> FitOptions:
    return FitOptions(steps=200, batch=16, warmup=10, save_every=20)


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """How an adapter is shaped and trained."""

    kind: Kind = "lora"
    """What kind of adapter; see `kinds`. A prefix cannot be merged or converted: it is for comparison."""
    rank: int = 8
    """Columns of A and rows of B; at least 1. Of a prefix, its length."""
    alpha: float = 16.0
    """The adapter's weight is alpha / rank; above 0."""
    dropout: float = 0.05
    """Share of the adapter's inputs left out while training; in [0, 1)."""
    targets: tuple[str, ...] = TARGETS
    """The matrices that get an adapter, of c_attn, c_proj and c_fc."""
    augment: tuple[str, ...] = ()
    """In which ways copies of the pairs are changed; see `augment`. Empty makes none."""
    copies: int = 1
    """Copies of a pair at most; at least 1."""
    fit: FitOptions = field(default_factory=_default_fit)
    """Steps, batches, rate."""

    def __post_init__(self) -> None:
        """Check every range. Raises OptionError."""
        if self.kind not in KINDS:
            raise OptionError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.kind == "prefix" and self.fit.adversarial != "none":
            raise OptionError("A prefix is trained with the plain loss only. Set adversarial to none.")
        if self.rank < 1:
            raise OptionError(f"rank must be at least 1, got {self.rank}")
        if self.alpha <= 0:
            raise OptionError(f"alpha must be above 0, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout must be in [0, 1), got {self.dropout}")
        if not self.targets or not set(self.targets) <= set(TARGETS):
            raise OptionError(f"targets must be some of {', '.join(TARGETS)}, got {', '.join(self.targets) or 'none'}")
        augment.check_names(self.augment)
        if self.copies < 1:
            raise OptionError(f"copies must be at least 1, got {self.copies}")


def from_json(path: Path) -> LoraOptions:
    """The options that a search found. Raises NotFoundError, DataError."""
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}. `edgegen train search` writes best.json into its folder.")
    try:
        found = json.loads(path.read_text("utf-8"))["options"]
        lists = {name: tuple(found[name]) for name in ("targets", "augment") if name in found}
        return LoraOptions(**found | lists | {"fit": FitOptions(**found["fit"])})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no options: {error}. `edgegen train search` writes such a file.") from None


@dataclass(frozen=True, slots=True)
class Tuned:
    """The folders that a tuning wrote, and its log of losses."""

    adapter: Path
    merged: Path | None
    """None for a prefix, which cannot be merged."""
    base: Path
    log: list[dict[str, float]]


def tune(
    base: str, train: Iterable[Pair], valid: Iterable[Pair], out: Path, options: LoraOptions | None = None,
    progress: Progress = plain,
) -> Tuned:  # fmt: skip
    """Fine-tune `base` ("bundled", a folder or a hub name) and write `out/adapter` and, but for a prefix, `out/merged`.

    An interrupted run goes on from `out/steps`. Raises UsageError (for a base that does not fit in memory too), NotFoundError,
    DataError, ConvertError, PackError, StorageError.
    """
    options = options or LoraOptions()
    check(base, options)
    train, valid = list(train), list(valid)
    together = PartialState(cpu=not torch.cuda.is_available())  # alone but where `torchrun` has started several processes
    with together.main_process_first():
        claim(out, base, train, options)
        folder = prepare_base(base, out / "base")
    checkpoint = open_checkpoint(folder)
    encoder, context = Encoder(checkpoint.tokenizer), checkpoint.model.config.n_positions
    more = augment.augmented(train, options.augment, options.copies, options.fit.seed, valid)
    sets = PairDataset(encoder, more, context), PairDataset(encoder, valid, context)
    if not len(sets[0]):
        raise DataError(
            f"None of the pairs fits the {context} tokens of {base} ({sets[0].too_long} are too long). Give shorter pairs."
        )
    torch.manual_seed(options.fit.seed)
    model = adapted(checkpoint.model, folder, options, trained_ids(folder, checkpoint.tokenizer, options.kind, sets[0]))
    extra, held = kinds.callbacks(options.kind, model), sets[1] if len(sets[1]) else None
    log = fit(model, checkpoint.tokenizer, sets[0], held, out / "steps", options.fit, extra, progress)
    tuned = Tuned(out / "adapter", None if options.kind == "prefix" else out / "merged", folder, log)
    if together.is_main_process:
        made = {
            "base": Path(base).name, "pairs": len(sets[0]), "copies": len(more) - len(train), "options": asdict(options),
            "log": curve(log),
        }  # fmt: skip
        (out / PROVENANCE).write_text(json.dumps(made, indent=1) + "\n", "utf-8")
        save(model, checkpoint.tokenizer, tuned.adapter)
        if tuned.merged is not None:
            merge(tuned.adapter, tuned.merged, folder)
            (tuned.merged / pack.DRAFT).write_bytes(draft_table(sets[0], checkpoint.model.config.vocab_size).to_bytes())
    together.wait_for_everyone()
    return tuned


def check(base: str, options: LoraOptions) -> None:
    """Raise what a base is refused for before it is loaded: NotFoundError, ConvertError, PackError; UsageError for its size."""
    memory.require(base, sizes(base), options.fit, options, max(1, options.fit.batch // processes()))


def sizes(base: str) -> Config:
    """A base's sizes, of which no weight is read."""
    source = pack.bundled() if base == BUNDLED else find(base)
    if not (source / pack.MANIFEST).is_file():
        return configs.checked(configs.read(source), str(source))
    header = read_header(source / pack.MODEL)
    positions, width, layers = (int(header.meta.get(f"{header.architecture}.{key}", 0)) for key in _KEYS)
    return Config(header.lengths.get("tokenizer.ggml.tokens", 0), positions, width, layers)


def claim(out: Path, base: str, train: Iterable[Pair], options: Any) -> None:
    """Note what runs in `out`; refuse another run there, whose base and steps would be taken for this one's.

    `options` are a dataclass that decides how it is trained.
    """
    digest = hashlib.sha256()
    for pair in train:
        digest.update(json.dumps(pair.to_json(), sort_keys=True).encode())
    run = json.dumps({"base": base, "pairs": digest.hexdigest(), "options": _shape(asdict(options))}, indent=2) + "\n"
    path = out / "run.json"
    if not path.is_file():
        with whole(path) as part:
            part.write_text(run, "utf-8")
    elif path.read_text("utf-8") != run:
        raise UsageError(f"{out} holds a run with another base, other pairs or options. Choose another folder, or delete it.")


def _shape(options: dict[str, Any]) -> dict[str, Any]:
    """What decides how it is trained: where losses go may change."""
    return {
        name: _shape(value) if isinstance(value, dict) else "none" if name == "track" else value
        for name, value in options.items()
    }


def adapted(model: GPT2LMHeadModel, folder: Path, options: LoraOptions, fresh: list[int]) -> PeftModel:
    """The model with an untrained adapter, and with `fresh` token embeddings set free to train."""
    config = kinds.config(
        options.kind, rank=options.rank, alpha=options.alpha, dropout=options.dropout, targets=options.targets,
        steps=options.fit.steps, fresh=fresh, base=str(folder),
    )  # fmt: skip
    return get_peft_model(model, config)


def save(model: PeftModel, words: PreTrainedTokenizerFast, out: Path) -> Path:
    """Write an adapter and its tokenizer; gives `out`."""
    with whole(out) as part, kinds.saving():
        # The embeddings are the base's; PEFT would look for their size on the hub.
        model.save_pretrained(str(part), save_embedding_layers=False)
        words.save_pretrained(part)
    return out


def prepare_base(base: str, out: Path) -> Path:
    """The folder of a base that has edgegen's tokens: `base` itself, else `out`, restored, downloaded or extended."""
    folder = Path(base)
    if (out / "config.json").is_file() and not open_words(out).missing:
        return out  # an interrupted run's
    if base == BUNDLED:
        return restore(pack.load(pack.bundled()).model, out)
    if (folder / pack.MANIFEST).is_file():
        return restore(pack.load(folder).model, out)
    folder = find(base)
    return folder if not open_checkpoint(folder).words.missing else _extend(folder, out)


def _extend(folder: Path, out: Path) -> Path:
    """A copy of a base with edgegen's tokens added, their embeddings at the mean of the others."""
    checkpoint = open_checkpoint(folder)
    backend, model, config = checkpoint.tokenizer.backend_tokenizer, checkpoint.model, checkpoint.model.config
    if not config.tie_word_embeddings:
        raise ConvertError(f"{folder} lacks edgegen's tokens and its embeddings are untied. Use a base with tied embeddings.")
    first = 1 + max(checkpoint.tokenizer.get_vocab().values())  # a padded base has rows above, which no training saw either
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in checkpoint.words.missing])
    words = tokenizer.wrap(backend)
    model.resize_token_embeddings(len(words), mean_resizing=False)
    _start_rows(model.get_input_embeddings().weight, first)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = words.bos_token_id, words.eos_token_id, words.pad_token_id
    config.edgegen_fresh_from = first
    with whole(out) as part:
        model.save_pretrained(part)
        words.save_pretrained(part)
    return out


def _start_rows(weight: torch.Tensor, first: int) -> None:
    """Put rows from `first` on near the mean of those before, each a little elsewhere so that they can be told apart."""
    noise = torch.randn(len(weight) - first, weight.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight[first:] = weight[:first].mean(0) + 0.02 * noise


def fresh_ids(folder: Path, words: PreTrainedTokenizerFast) -> list[int]:
    """Ids whose embeddings no training has seen: those that `_extend` added."""
    first = AutoConfig.from_pretrained(folder).to_dict().get("edgegen_fresh_from")
    return [] if first is None else list(range(int(first), len(words)))


def trained_ids(folder: Path, words: PreTrainedTokenizerFast, kind: Kind, learnt: PairDataset) -> list[int]:
    """Ids whose embeddings an adapter trains too: fresh ones and, where it can, slots that stand for a shop's own keys.

    The corpus of the bundled base hardly has these (`Task.own`); a slot with an embedding of chance is not learnt.
    """
    fresh = fresh_ids(folder, words)
    if not kinds.trains_rows(kind):
        return fresh
    slots = set(words.convert_tokens_to_ids(list(SLOT_TOKENS)))
    own = (e for e, group in zip(learnt.examples, learnt.groups, strict=True) if tasks.get(group.partition(".")[0]).own)
    return sorted({*fresh, *(id_ for example in own for id_ in example.ids.tolist() if id_ in slots)})
