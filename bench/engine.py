"""The engine without HTTP: what a step costs beside llama.cpp's own part, threads beside busy processes, texts with drafts.

    python bench/engine.py [--only steps,busy,drafts,seeds] [--models gpt2,bundled] [--work runs/upstream] [--sdist FILE]

`steps` counts the processor time of the engine's thread, on one thread, which other processes hardly change: a step of so many
sequences, sampled (top-k 40, top-p 0.95), beside the same `llama_decode` calls and nothing else, in turn. `bench/serve.py --only
engine` compares rates with llama-batched-bench, for which the machine has to be idle. `busy` counts tokens a second beside
processes that do nothing but use a core, with threads that adapt and with fixed ones. `drafts` writes 200 greedy texts of the
bundled pack with and without drafts, alone and eight at a time. `seeds` samples 60 texts twice, alone, with others between.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from reference import source
from serve import burning, gpt2, words

from edgegen import catalog, pack, requests, selection, tasks
from edgegen.domain import LANGS
from edgegen.engine.backend import Backend, Batch
from edgegen.engine.job import Job
from edgegen.engine.llama import LlamaBackend, LlamaOptions
from edgegen.engine.loop import Engine
from edgegen.engine.ngrams import NGrams
from edgegen.engine.options import SamplingOptions

PARTS = ("steps", "busy", "drafts", "seeds")
SEQUENCES = (1, 8, 16)
COUNTERS = ("steps_total", "tokens_drafted_total", "tokens_accepted_total")
SAMPLED = SamplingOptions(temperature=0.8, max_new_tokens=96)
GREEDY = SamplingOptions(temperature=0, max_new_tokens=64)
_PROMPT, _TEXTS, _AGAIN = 16, 200, 60
_SETTLE_S, _MEASURE_S = 3.0, 8.0


def opened(model: Path, threads: int, table: NGrams | None = None, *, flash: bool = True) -> Engine:
    """An engine with repacked buffers, as llama.cpp's own programs use them, but with AMX, where they crash."""
    info = Path("/proc/cpuinfo")
    amx = info.exists() and "amx_tile" in info.read_text("utf-8", "replace")
    options = LlamaOptions(threads=threads, repacked=not amx, flash=flash)
    return Engine(lambda: LlamaBackend(model, options), threads=threads, max_waiting=_TEXTS, table=table)


def prompt(i: int) -> list[int]:
    """A short prompt of its own."""
    return [(31 * i + 7 * k) % 1000 + 10 for k in range(_PROMPT)]


def bare(backend: Backend, n: int) -> float:
    """Processor seconds of the calls that as many tokens of `n` sequences need, without anything chosen."""
    began = time.thread_time()
    first = Batch()
    for seq in range(n):
        first.extend(prompt(seq), 0, (seq,))
    backend.decode(first)
    for pos in range(_PROMPT, _PROMPT + SAMPLED.max_new_tokens - 1):
        batch = Batch()
        for seq in range(n):
            batch.add(pos, pos, (seq,), wanted=True)
        backend.decode(batch)
    spent = time.thread_time() - began
    for seq in range(n):
        backend.drop(seq)
    return spent


def whole(engine: Engine, n: int) -> float:
    """Processor seconds of the engine's thread for `n` jobs."""
    began = engine.ask(lambda _: time.thread_time())
    jobs = [engine.submit(Job(prompt(i), 1, SAMPLED, draft=False)) for i in range(n)]
    for job in jobs:
        job.result()
    return engine.ask(lambda _: time.thread_time()) - began


def steps(model: Path, rounds: int) -> None:
    """The table of processor time."""
    print("| sequences | llama.cpp alone, ms a step | engine, ms a step | llama.cpp's part |\n|---|---|---|---|")
    for n in SEQUENCES:
        with opened(model, 1) as engine, opened(model, 1) as other:
            found = [(other.ask(lambda backend: bare(backend, n)), whole(engine, n)) for _ in range(rounds + 1)][1:]  # noqa: B023
        a, b = (1000 * statistics.median(row[side] for row in found) / SAMPLED.max_new_tokens for side in (0, 1))
        ratio = statistics.median(alone / all_ for alone, all_ in found)
        print(f"| {n} | {a:.2f} | {b:.2f} | {ratio:.2f} |", flush=True)


class Fixed:
    """Threads that stay as they are, in the governor's place."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def observe(self, tokens: int, seconds: float) -> None:
        """Nothing is learnt."""


def rate(model: Path, others: int, fixed: int | None, sequences: int) -> tuple[float, float]:
    """Tokens a second beside so many busy processes, and the part of the time on one thread."""
    cores = len(os.sched_getaffinity(0))
    with opened(model, cores) as engine:
        if fixed is not None:
            engine.ask(lambda _: setattr(engine._worker, "_governor", Fixed(fixed)))
        endless = SamplingOptions(temperature=0.8, max_new_tokens=SAMPLED.max_new_tokens)
        with burning(others):
            before, began, ones, looks, running = 0.0, time.monotonic(), 0, 0, []
            while time.monotonic() - began < _SETTLE_S + _MEASURE_S:
                running = [job for job in running if not job.done()]
                running += [engine.submit(Job(prompt(i), 1, endless, draft=False)) for i in range(sequences - len(running))]
                time.sleep(0.05)
                if time.monotonic() - began < _SETTLE_S:
                    before = engine.figures()["tokens_written_total"]
                else:
                    looks, ones = looks + 1, ones + (engine.figures()["threads"] == 1)
            written = engine.figures()["tokens_written_total"] - before
            for job in running:
                job.cancel()
    return written / _MEASURE_S, ones / max(looks, 1)


def busy(model: Path, rounds: int, sequences: int = 8) -> None:
    """The table of rates beside busy processes."""
    cores = len(os.sched_getaffinity(0))
    print(f"| busy processes | {cores} threads, tokens/s | 1 thread | adapting | on one thread | adapting / {cores} threads |")
    print("|---|---|---|---|---|---|")
    for others in (0, 1, 2):
        rows = [[rate(model, others, fixed, sequences) for fixed in (cores, 1, None)] for _ in range(rounds)]
        many, one, ours = (statistics.median(row[at][0] for row in rows) for at in range(3))
        part = statistics.median(row[2][1] for row in rows)
        ratio = statistics.median(row[2][0] / max(row[0][0], 0.1) for row in rows)
        print(f"| {others} | {many:.0f} | {one:.0f} | {ours:.0f} | {part:.0%} | {ratio:.1f} |", flush=True)


def asked(engine: Engine) -> list[list[int]]:
    """Prompts of explanations of the sample catalogues, shuffled."""
    found = []
    for lang in LANGS:
        products = catalog.load(catalog.sample(lang), lang).products
        for name in ("reason", "product", "list", "search", "guide", "review", "joint", "summary"):
            task = tasks.get(name)
            for _, request in requests.build(name, products, requests.Context(lang)):
                bound = selection.prompt(request, selection.choose(request, task, Random(1)))
                found.append(engine.encode(bound.pieces))
    Random(3).shuffle(found)
    return found[:_TEXTS]


def drafts(threads: int, *, flash: bool) -> None:
    """The table of texts with and without drafts."""
    found = pack.load(pack.bundled())
    with opened(found.model, threads, found.drafts, flash=flash) as engine:
        rows, end = asked(engine), frozenset({engine.vocabulary.id("<|end|>") or 0})
        how = f"{threads} threads, flash attention {'on' if flash else 'off'}"
        print(f"\n### {len(rows)} greedy texts of the bundled pack, {how}\n")
        print("| at a time | drafts | steps | accepted of drafted | seconds | the same as the first |\n|---|---|---|---|---|---|")
        first: list[tuple[int, ...]] = []
        for together in (1, 8):
            for draft in (False, True, False, True):  # the first pair warms up the estimates of what a step costs
                before, began = engine.figures(), time.perf_counter()
                jobs = [Job(row, 1, GREEDY, stop_ids=end, draft=draft) for row in rows]
                texts = [text for at in range(0, len(jobs), together) for text in _texts(engine, jobs[at : at + together])]
                seconds, after = time.perf_counter() - began, engine.figures()
                first = first or texts
                count, drafted, accepted = (after[key] - before[key] for key in COUNTERS)
                same = sum(a == b for a, b in zip(texts, first, strict=True))
                told = f"{count:.0f} | {accepted:.0f} of {drafted:.0f} | {seconds:.1f} | {same}"
                print(f"| {together} | {'yes' if draft else 'no'} | {told} |", flush=True)


def seeds(threads: int) -> None:
    """The table of texts that come again with their seed."""
    found = pack.load(pack.bundled())
    print(f"\n### {_AGAIN} sampled texts of the bundled pack, written twice, {threads} threads\n")
    print("| fresh | the same |\n|---|---|")
    for fresh in (False, True):
        with opened(found.model, threads, found.drafts) as engine:
            rows, end = asked(engine), frozenset({engine.vocabulary.id("<|end|>") or 0})
            options = [SamplingOptions(temperature=1, max_new_tokens=64, seed=i) for i in range(_AGAIN)]
            how = {"stop_ids": end, "draft": not fresh, "fresh": fresh}
            jobs = [Job(row, 1, one, **how) for row, one in zip(rows, options, strict=False)]
            first = [_texts(engine, [job])[0] for job in jobs]
            _texts(engine, [Job(row, 1, GREEDY, stop_ids=end) for row in rows[_AGAIN:]])
            same = sum(_texts(engine, [job])[0] == text for job, text in zip(jobs, first, strict=True))
        print(f"| {'yes' if fresh else 'no'} | {same} |", flush=True)


def _texts(engine: Engine, jobs: Sequence[Job]) -> list[tuple[int, ...]]:
    return [future.result()[0].tokens for future in [engine.submit(job) for job in jobs]]


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words(PARTS), default=list(PARTS))
    parser.add_argument("--models", type=words(("gpt2", "bundled")), default=["gpt2", "bundled"])
    parser.add_argument("--rounds", type=int, default=5)
    source.add_arguments(parser)
    args = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    models = {"bundled": pack.bundled() / pack.MODEL}
    if "gpt2" in args.models and {"steps", "busy"} & set(args.only):
        try:
            models["gpt2"] = gpt2(source.prepare(args.work, args.sdist, os.cpu_count() or 1, source.SERVER), args.work)
        except source.UnusableError as error:
            sys.exit(f"error: {error}")
    tables = (("steps", steps, "processor time, one thread"), ("busy", busy, "8 sequences beside busy processes"))
    for part, measure, what in tables:
        for name in args.models if part in args.only else ():
            print(f"\n### {name}: {what}\n")
            measure(models[name], args.rounds)
    if "drafts" in args.only:
        for flash in (True, False):
            drafts(len(os.sched_getaffinity(0)), flash=flash)
    if "seeds" in args.only:
        seeds(len(os.sched_getaffinity(0)))
    print(f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
