"""How often drafts are right: the bundled pack writes explanations of held-out requests, and each text is guessed as it grew.

    edgegen train corpus --split test
    python bench/drafts.py [--pack PATH] [--corpus runs/bundled/corpus] [--each 6] [--most 12]

Says nothing of speed, which depends on what a step costs on a machine; `bench/serve.py` measures that.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path

from edgegen.commands import _shared
from edgegen.domain import LANGS
from edgegen.engine.drafting import MOST, Drafter, Odds
from edgegen.engine.loop import Generation, Job
from edgegen.engine.ngrams import NGrams
from edgegen.explain import Explainer, ExplainOptions
from edgegen.pack import Pack
from edgegen.train import pairs

Text = tuple[Job, Sequence[int]]


def written(pack: Pack, corpus: Path, each: int, temperature: float | None) -> list[Text]:
    """Jobs of explanations and the tokens of their candidates; `temperature` None takes each task's own."""
    jobs: list[tuple[Job, Future[Generation]]] = []
    with _shared.pack_engine(pack, None, None) as engine:
        submit = engine.submit

        def noted(job: Job) -> Future[Generation]:
            jobs.append((job, submit(job)))
            return jobs[-1][1]

        engine.submit = noted  # type: ignore[method-assign]
        explainer = Explainer(engine, pack.licensing)
        for task in pack.manifest.tasks:
            for lang in LANGS:
                found = pairs.read(corpus / f"test.{task}.{lang}.jsonl")
                for seed, pair in enumerate(islice(found, each)):
                    options = ExplainOptions(n=4 if temperature is None else 1, seed=seed, temperature=temperature)
                    explainer.explain(pair.request, options)
    return [(job, done.tokens) for job, future in jobs for done in future.result() if done.finish == "stop"]


class Tally:
    """How many guesses of each length were made and came true, and the steps that the texts would have taken."""

    def __init__(self) -> None:
        self.made, self.right = Counter[int](), Counter[int]()
        self.tokens = self.steps = 0

    def replay(self, text: Text, table: NGrams | None, odds: Odds, most: int) -> None:
        """Guess as an engine would: after the first wrong guess, its place has the right token and the next step begins."""
        job, tokens = text
        drafter = Drafter(job.prompt, table, odds, lambda id_: job.allow is None or bool(job.allow[id_]), job.stop_ids)
        at = 0
        while at <= len(tokens):  # the last step of a text writes its end
            guesses = drafter.propose(tokens[:at], most).tokens
            pairs = zip(guesses, tokens[at:], strict=False)
            came = next((i for i, (guess, token) in enumerate(pairs) if guess != token), min(len(guesses), len(tokens) - at))
            self.made.update(range(1, min(came + 1, len(guesses)) + 1))
            self.right.update(range(1, came + 1))
            at += came + 1
            self.steps += 1
        self.tokens += len(tokens) + 1


def main() -> None:
    """Print a table for greedy and for sampled texts: guesses from table and prompt, and from the prompt alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=Path("bundled"))
    parser.add_argument("--corpus", type=Path, default=Path("runs/bundled/corpus"))
    parser.add_argument("--each", type=int, default=6, help="requests of each task and language")
    parser.add_argument("--most", type=int, default=MOST, help="guesses at a time")
    args = parser.parse_args()
    pack = _shared.open_pack(args.pack)
    lengths = range(1, args.most + 1)
    print(f"{pack.manifest.label}: of guesses that all before were right for, the share that is right, by their number")
    print(f"{'':24}{'texts':>6}{'tokens':>8}{'a step':>8}" + "".join(f"{n:>6}" for n in lengths))
    for name, temperature in (("greedy", 0.0), ("sampled, n=4", None)):
        texts = written(pack, args.corpus, args.each, temperature)
        for source, table in (("table + prompt", pack.drafts), ("prompt", None)):
            tally, odds = Tally(), Odds()
            for text in texts:
                tally.replay(text, table, odds, args.most)
            shares = "".join(f"{tally.right[n] / tally.made[n]:6.0%}" if tally.made[n] else f"{'-':>6}" for n in lengths)
            row = f"{name + ', ' + source:24.24}{len(texts):6}{tally.tokens:8}{tally.tokens / tally.steps:8.2f}{shares}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
