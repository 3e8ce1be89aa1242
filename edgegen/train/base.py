"""The bundled base model: a corpus, a tokenizer, a small GPT-2 from scratch, by a recipe. Every stage is kept and resumed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from convert.checkpoint import open_checkpoint
from convert.config import Config
from edgegen import lexicon, licensing, pack, tasks
from edgegen.domain import LANGS, Lang
from edgegen.errors import DataError, NotFoundError
from edgegen.pack.manifest import PROVENANCE
from edgegen.train import augment, lora, memory, pairs, tokenizer
from edgegen.train.corpus import generate
from edgegen.train.corpus.world import Split
from edgegen.train.dataset import Encoder, PairDataset, draft_table, licensing_table
from edgegen.train.fit import SAVED, FitOptions, curve, fit
from edgegen.train.pairs import Pair

Say = Callable[[str], None]
Texts = Callable[[Split], Iterable[Pair]]
"""The pairs of a split; of `valid` they only measure."""
Own = tuple[Sequence[Pair], Sequence[Pair]]
"""A retailer's pairs: those to learn from and those that only measure."""
_OF_CORPUS, _OF_PAIRS = ("pairs", "valid", "test", "weights"), ("augment", "copies")
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What `models/recipes/*.toml` says: sizes of the corpus and the model, and how to train.

    `pairs` is the number of training pairs of each task and language, `weights` multiplies it for some tasks.
    """

    name: str
    pairs: int = 6000
    valid: int = 40
    test: int = 200
    seed: int = 0
    weights: dict[str, float] = field(default_factory=dict)
    vocab_size: int = 8352
    width: int = 512
    layers: int = 4
    heads: int = 8
    context: int = 512
    dropout: float = 0.0
    augment: tuple[str, ...] = ()
    """In which ways copies of a retailer's own pairs are changed; see `augment`."""
    copies: int = 1
    """Changed copies of a pair, at most."""
    fit: FitOptions = field(default_factory=FitOptions)


def read(path: Path) -> Recipe:
    """The recipe of a TOML file. Raises NotFoundError, or DataError for what it does not know."""
    if not path.is_file():
        raise NotFoundError(f"There is no recipe {path}. The bundled ones are in models/recipes/.")
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        told = {**raw, "fit": FitOptions(**raw.get("fit", {})), "augment": tuple(raw.get("augment", ()))}
        read = Recipe(name=path.stem, **told)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        known = ", ".join(f.name for f in fields(Recipe))
        raise DataError(f"{path}: {error}. A recipe may set: {known}.") from None
    augment.check_names(read.augment)
    return read


def corpus(recipe: Recipe, folder: Path, say: Say, splits: Sequence[Split] = SPLITS) -> None:
    """Write splits of the corpus as JSONL, one file a task, language and split; files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [which for which in _files() if which[0] in splits and not _path(folder, *which).exists()]
    # Started anew and not forked: a fork of a process that holds native threads may hang.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_write, recipe, folder, *which) for which in missing]):
            say(done.result())


def _write(recipe: Recipe, folder: Path, split: Split, task: str, lang: Lang) -> str:
    path, count = _path(folder, split, task, lang), _count(recipe, split, task)
    part = path.with_suffix(".partial")
    pairs.write(part, generate.pairs(task, lang, split, count, recipe.seed))
    part.replace(path)
    return f"corpus: {path.name}, {count} pairs"


def _files() -> Iterator[tuple[Split, str, Lang]]:
    return ((split, task, lang) for split in SPLITS for task in tasks.names() for lang in LANGS)


def _path(folder: Path, split: Split, task: str, lang: Lang) -> Path:
    return folder / f"{split}.{task}.{lang}.jsonl"


def _count(recipe: Recipe, split: Split, task: str) -> int:
    if split == "train":
        return round(recipe.pairs * recipe.weights.get(task, 1.0))
    return recipe.valid if split == "valid" else recipe.test


def load(folder: Path, split: Split) -> Iterator[Pair]:
    """The pairs of a split, all tasks and languages."""
    for which, task, lang in _files():
        if which == split:
            yield from pairs.read(_path(folder, split, task, lang))


def vocabulary(recipe: Recipe, texts: Texts, folder: Path, say: Say) -> PreTrainedTokenizerFast:
    """The tokenizer, trained on the texts and on what prompts show of read facts."""
    if not (folder / "tokenizer.json").exists():
        say("tokenizer: training")
        made = tokenizer.train(_words(texts), recipe.vocab_size)
        made.save_pretrained(folder)
    return tokenizer.load(folder)


def _words(texts: Texts) -> Iterator[str]:
    for pair in texts("train"):
        yield pair.text
        for section in pair.request.sections:
            yield section.label
            for fact in section:
                yield from (fact.key, fact.label or "", str(fact.value) if fact.policy == "read" else "")
    for lang in LANGS:
        yield from lexicon.translations(lang).values()


def model(recipe: Recipe, words: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A fresh model of the recipe's size for a tokenizer."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=len(words), n_positions=recipe.context, n_embd=recipe.width, n_layer=recipe.layers, n_head=recipe.heads,
        resid_pdrop=recipe.dropout, embd_pdrop=recipe.dropout, attn_pdrop=recipe.dropout, activation_function=SAVED,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _first(
    recipe: Recipe, folder: Path, start: str | None, texts: Texts, say: Say
) -> tuple[PreTrainedTokenizerFast, GPT2LMHeadModel]:
    """The tokenizer and the model to begin with: made, or those of `start`."""
    if start is None:
        words = vocabulary(recipe, texts, folder / "checkpoint", say)
        return words, model(recipe, words)
    opened = open_checkpoint(lora.prepare_base(start, folder / "start"))
    opened.tokenizer.save_pretrained(folder / "checkpoint")
    _drop(opened.model, recipe.dropout)
    return opened.tokenizer, opened.model


def _drop(net: GPT2LMHeadModel, rate: float) -> None:
    """Gives all layers the recipe's dropout: a pack knows none, and a checkpoint the one it was made with."""
    net.config.resid_pdrop = net.config.embd_pdrop = net.config.attn_pdrop = rate
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = rate


def _history(start: str | None) -> dict[str, Any]:
    if start is None:
        return {}
    path = pack.bundled() if start == lora.BUNDLED else Path(start)
    return {"start": pack.read_manifest(path).provenance if (path / pack.MANIFEST).is_file() else start}


def train(recipe: Recipe, folder: Path, say: Say, start: str | None = None, own: Own | None = None) -> Path:
    """Corpus, tokenizer and model in `folder`, going on where a run ended; returns the checkpoint's folder.

    `start` is a pack or checkpoint (`bundled`, a folder, a hub name) whose weights and tokenizer training goes on from; None
    begins from scratch. `own` pairs take the corpus's place. Raises UsageError where `folder` holds another run, DataError for
    a key of the recipe that would do nothing, and what `lora.check` raises.
    """
    _check(recipe, own)
    sizes = Config(recipe.vocab_size, recipe.context, recipe.width, recipe.layers) if start is None else lora.sizes(start)
    memory.require(start or recipe.name, sizes, recipe.fit, None, recipe.fit.batch)
    lora.claim(folder, start or "scratch", own[0] if own else (), recipe)
    texts = _corpus(recipe, folder, say) if own is None else _own(recipe, *own)
    checkpoint = folder / "checkpoint"
    history, (words, net) = _history(start), _first(recipe, folder, start, texts, say)
    encoder = Encoder(words)
    say("pairs: encoding")
    sets = {split: PairDataset(encoder, texts(split), net.config.n_positions) for split in ("train", "valid")}
    total = sum(sets["train"].lengths)
    say(f"training: {len(sets['train'])} pairs, {total} tokens, {sets['train'].too_long} too long")
    say(f"model: {sum(p.numel() for p in net.parameters()) / 1e6:.1f}M parameters")
    log = fit(net, words, sets["train"], sets["valid"], folder / "steps", recipe.fit)
    net.save_pretrained(checkpoint)
    if own is None:  # of a word that few texts have, few facts are known that it goes with
        say("licensing: which facts go with which words")
        table = licensing_table(encoder, texts("train"))
        (checkpoint / licensing.FILE).write_text(licensing.to_text(table), "utf-8")
    say("drafts: what mostly follows what")
    (checkpoint / pack.DRAFT).write_bytes(draft_table(sets["train"], net.config.vocab_size).to_bytes())
    made = {
        "recipe": asdict(recipe), "pairs": len(sets["train"]), "tokens": total,
        "parameters": sum(p.numel() for p in net.parameters()),
        "losses": {key: [entry[key] for entry in log if key in entry][-1:] for key in ("loss", "eval_loss")}, "log": curve(log),
        "torch": torch.__version__, "transformers": transformers.__version__, **history,
    }  # fmt: skip
    (folder / PROVENANCE).write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    return checkpoint


def _corpus(recipe: Recipe, folder: Path, say: Say) -> Texts:
    corpus(recipe, folder / "corpus", say)
    return partial(load, folder / "corpus")


def _check(recipe: Recipe, own: Own | None) -> None:
    unused, usual = _OF_CORPUS if own else _OF_PAIRS, Recipe(recipe.name)
    if named := [name for name in unused if getattr(recipe, name) != getattr(usual, name)]:
        why = "which size the corpus, and --data takes its place" if own else "which change pairs of --data, and there are none"
        raise DataError(f"The recipe {recipe.name} sets {', '.join(named)}, {why}. Take that out, or take another recipe.")


def _own(recipe: Recipe, learnt: Sequence[Pair], held: Sequence[Pair]) -> Texts:
    more = augment.augmented(learnt, recipe.augment, recipe.copies, recipe.seed, held)
    return lambda split: more if split == "train" else held
