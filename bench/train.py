"""`edgegen train lora` beside the plain loop of the field's tutorials: the same pairs, the same machine, in turn, in one run.

    python bench/train.py --data pairs.jsonl [--models bundled,gpt2] [--rounds 3] [--minutes 3] [--gpt2 FOLDER_OR_NAME]

The plain loop fine-tunes all weights in fp32 on batches of 16 pairs, each padded to 256 tokens, with AdamW at 2e-5, over the
loss of facts and text. Ours is what the command does by default, with the same batch. Tokens are those of the pairs, no padding.
After the same wall time for each, the loss of the texts alone is measured on pairs that neither has seen. Without --gpt2, GPT-2
124M has random weights and the bundled tokenizer: its rates say what any weights would, its losses little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback

from convert.checkpoint import find, open_checkpoint
from edgegen.train import fuse, lora, pairs
from edgegen.train.dataset import IGNORE, Encoder, PairDataset
from edgegen.train.fit import FitOptions, fit
from edgegen.train.lora import LoraOptions

BAR = 6.0
_LENGTH, _BATCH, _RATE = 256, 16, 2e-5  # the tutorials'
_HELD = 200  # pairs that only measure


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its tokenizer, and pairs to learn from and to measure with."""

    name: str
    folder: Path
    """Of the checkpoint that the tokenizer is from."""
    model: GPT2LMHeadModel
    words: Any
    train: PairDataset
    held: PairDataset

    @property
    def mean_tokens(self) -> float:
        """Tokens of a pair."""
        return statistics.fmean(self.train.lengths)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Stamps the steps, and ends a training after some seconds."""

    def __init__(self, limit_s: float = float("inf")) -> None:
        self.began, self.limit_s, self.stamps = time.perf_counter(), limit_s, list[float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each step."""
        del args, state
        self.stamps.append(time.perf_counter())
        if self.stamps[-1] - self.began > self.limit_s:
            control.should_training_stop = True


def plain(subject: Subject, steps: int, limit_s: float = float("inf")) -> tuple[GPT2LMHeadModel, list[float]]:
    """The tutorials' loop on a copy of the model; seconds of its steps."""
    model, found = deepcopy(subject.model).train(), list[float]()
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    began = time.perf_counter()
    for _, batch in zip(range(steps), _padded(subject), strict=False):
        at = time.perf_counter()
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(time.perf_counter() - at)
        if time.perf_counter() - began > limit_s:
            break
    return model, found


def _padded(subject: Subject) -> Iterator[dict[str, torch.Tensor]]:
    random, pad = Random(0), int(subject.words.pad_token_id or 0)
    while True:
        order = list(range(len(subject.train)))
        random.shuffle(order)
        for at in range(0, len(order) - _BATCH + 1, _BATCH):
            ids = torch.full((_BATCH, _LENGTH), pad)
            mask = torch.zeros((_BATCH, _LENGTH), dtype=torch.int64)
            for row, index in enumerate(order[at : at + _BATCH]):
                tokens = torch.from_numpy(subject.train[index].ids[:_LENGTH].astype("int64"))
                ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
            yield {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORE)}


def ours(subject: Subject, folder: Path, steps: int, limit_s: float = float("inf")) -> tuple[Any, list[float]]:
    """The command's way on a copy of the model; seconds of its steps."""
    options = LoraOptions()
    options = replace(options, fit=replace(options.fit, steps=steps, batch=_BATCH, save_every=steps, log_every=steps))
    rows = lora.trained_ids(subject.folder, subject.words, options.kind, subject.train)
    model = lora.adapted(deepcopy(subject.model), subject.folder, options, rows)
    clock = Clock(limit_s)
    with tempfile.TemporaryDirectory(dir=folder) as room:
        fit(model, subject.words, subject.train, None, Path(room), _few(options.fit), [clock])
    return model, [after - before for before, after in zip([clock.began, *clock.stamps], clock.stamps, strict=False)]


def _few(options: FitOptions) -> FitOptions:
    """With fewer steps of warm-up where there are few steps."""
    return replace(options, warmup=min(options.warmup, max(1, options.steps // 10)))


def rates(subject: Subject, folder: Path, rounds: int) -> tuple[float, float]:
    """Print tokens a second of both; gives the ratio, the median of the rounds', and the seconds of our step."""
    few = 2 if subject.name == "gpt2" else 8
    rows = list[tuple[float, float]]()
    for _ in range(rounds):
        # Each pair counts with its mean length on both sides; the first step is left out, it allocates.
        slow = statistics.median(plain(subject, few + 1)[1][1:])
        fast = statistics.fmean(ours(subject, folder, 8 * few + 1)[1][1:])
        rows.append((slow, fast))
    a, b = (statistics.median(row[side] for row in rows) for side in (0, 1))
    ratio = statistics.median(slow / fast for slow, fast in rows)
    epoch = len(subject.train) / _BATCH
    print("| side | tokens/s | s a step | s an epoch |\n|---|---|---|---|")
    for name, took in (("plain loop", a), ("edgegen", b)):
        print(f"| {name} | {_BATCH * subject.mean_tokens / took:.0f} | {took:.3f} | {epoch * took:.0f} |")
    widest = [max(subject.train.lengths[i : i + _BATCH]) for i in range(0, len(subject.train) - _BATCH, _BATCH)]
    padded, unsorted = (1 - subject.mean_tokens / width for width in (_LENGTH, statistics.fmean(widest)))
    print(f"\n{subject.mean_tokens:.0f} tokens a pair; padding: {padded:.0%} in the plain loop, {unsorted:.0%} in", end=" ")
    print(f"batches as pairs come, {padding(subject):.0%} of ours")
    print(f"ratio {ratio:.1f}, bar >= {BAR:g}: {'met' if ratio >= BAR else 'NOT MET'}", flush=True)
    return ratio, b


def padding(subject: Subject) -> float:
    """Share of padding in an epoch of our batches."""
    from edgegen.train.batches import MixedBatches

    lengths = subject.train.lengths
    order = [lengths[i] for i in MixedBatches(_BATCH, lengths, 0)]
    batches = [order[at : at + _BATCH] for at in range(0, len(order), _BATCH)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


def losses(subject: Subject, folder: Path, seconds: float, step_s: float) -> bool:
    """Print the loss on held-out texts after the same time of each, ours with steps of `step_s`; whether ours is not higher."""
    before = fuse.loss(subject.model, subject.held)
    sides: dict[str, Callable[[], tuple[Any, list[float]]]] = {
        "plain loop": lambda: plain(subject, sys.maxsize, seconds),
        "edgegen": lambda: ours(subject, folder, max(2, int(0.9 * seconds / step_s)), seconds),
    }
    print(f"\n| side | steps | seconds | loss of held-out texts, {before:.3f} before |\n|---|---|---|---|")
    after = {}
    for name, train in sides.items():
        model, took = train()
        after[name] = fuse.loss(model, subject.held)
        print(f"| {name} | {len(took)} | {sum(took):.0f} | {after[name]:.3f} |", flush=True)
    return after["edgegen"] <= after["plain loop"]


def subjects(args: argparse.Namespace, folder: Path) -> Iterator[Subject]:
    """The models that are wanted."""
    found = list(pairs.read(args.data))
    Random(0).shuffle(found)
    bundled = lora.prepare_base(lora.BUNDLED, folder / "base")
    for name in args.models.split(","):
        source = lora.prepare_base(args.gpt2, folder / "gpt2") if name == "gpt2" and args.gpt2 else bundled
        opened = open_checkpoint(source)
        words, model = opened.tokenizer, opened.model
        if name == "gpt2" and not args.gpt2:
            torch.manual_seed(0)
            model = GPT2LMHeadModel(GPT2Config())
        sets = [PairDataset(Encoder(words), some, _LENGTH) for some in (found[_HELD:], found[:_HELD])]
        yield Subject(name, source, model, words, *sets)


def main() -> None:
    """Print the tables asked for. Exit code 1 where the bar is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pairs (JSONL), some thousands")
    parser.add_argument("--models", default="bundled,gpt2")
    parser.add_argument("--gpt2", help="folder or hub name of a GPT-2 124M; default: random weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each side for the losses; 0 leaves them out")
    args = parser.parse_args()
    if args.gpt2:
        find(args.gpt2)
    met = True
    with tempfile.TemporaryDirectory() as name:
        for subject in subjects(args, Path(name)):
            print(f"\n### {subject.name}, {len(subject.train)} pairs\n")
            ratio, step_s = rates(subject, Path(name), args.rounds)
            met &= ratio >= BAR
            if args.minutes:
                met &= losses(subject, Path(name), 60 * args.minutes, step_s)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"\n{where}, load average {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")
    sys.exit(not met)


if __name__ == "__main__":
    main()
