"""Prompts as token ids: those of real explanation requests, and plain text about the same products.

    python prompts.py MODEL pack|text|brief|pieces|ends COUNT

Runs in a process of its own and prints JSON: it loads the model.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

TASKS = ("reason", "product", "personal", "list", "guide")
_SEED = 7
_DRAWS = 20  # for each prompt that is wanted; there may be fewer different ones


def made(model: Path, kind: str, count: int) -> list[list[int]]:
    """So many different prompts for a model, each as token ids."""
    found: list[list[int]] = _asked(model, kind, str(count))
    return found


def pieces(model: Path) -> list[bytes]:
    """The bytes of each token of a model, so that a prompt can be given as text to a server that takes nothing else."""
    return [piece.encode("latin-1") for piece in _asked(model, "pieces", "0")]


def ends(model: Path) -> list[int]:
    """The tokens that end a text."""
    found: list[int] = _asked(model, "ends", "0")
    return found


def _asked(model: Path, *what: str) -> Any:
    command = [sys.executable, __file__, str(model), *what]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - our own file
    if done.returncode:
        raise RuntimeError(f"no prompts: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def _requests() -> Iterator[tuple[str, Any]]:
    """Requests of several tasks in both languages over the sample catalogue, in turn."""
    from edgegen import catalog, requests

    ways = []
    for lang in ("en", "zh"):
        products = catalog.load(catalog.sample(lang), lang).products
        shopper = next(iter(catalog.shoppers(None, lang).values()))
        for task in TASKS:
            context = requests.Context(lang, shopper, catalogue=products)
            ways.append([(task, request) for _, request in requests.build(task, products, context)])
    for row in itertools.zip_longest(*ways):
        yield from (one for one in row if one is not None)


def _pack_prompts(backend: Any) -> Iterator[list[int]]:
    """What `Explainer` feeds the model: each request with the facts that a seed chose."""
    from edgegen import selection, tasks
    from edgegen.errors import DataError

    found = list(_requests())
    for seed in itertools.count(_SEED):
        for name, request in found:
            try:
                prompt = selection.prompt(request, selection.choose(request, tasks.get(name), Random(f"{seed}")))
            except DataError:
                continue
            pieces = [(piece, False) if isinstance(piece, str) else (piece.token, True) for piece in prompt.pieces]
            yield [token for text, special in pieces for token in backend.tokenize(text, special=special)]


def _text_prompts(backend: Any, facts: int = 12) -> Iterator[list[int]]:
    """Facts in words and what is asked for at the end, so that no two begin alike for long."""
    from edgegen import catalog, locale

    products = catalog.load(catalog.sample("en"), "en").products
    rng = Random(_SEED)
    while True:
        product = rng.choice(products)
        lines = [f"{fact.label or fact.key}: {locale.value_text(fact, 'en')}" for fact in product.section]
        rng.shuffle(lines)
        text = "\n".join(lines[:facts]) + "\nIn one or two sentences, say why this product is recommended:\n"
        yield backend.tokenize(text, special=False)


def main() -> None:
    """Print the prompts."""
    from edgegen.engine.llama import LlamaBackend

    model, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    backend = LlamaBackend(model)
    if kind == "pieces":
        print(json.dumps([backend.token_bytes(token).decode("latin-1") for token in range(backend.n_vocab)]))
        return
    if kind == "ends":
        print(json.dumps([token for token in range(backend.n_vocab) if backend.is_end(token)]))
        return
    unique: dict[tuple[int, ...], None] = {}
    for drawn, ids in enumerate(
        {"pack": _pack_prompts, "text": _text_prompts, "brief": partial(_text_prompts, facts=3)}[kind](backend)
    ):
        unique[tuple(ids)] = None
        if len(unique) == count or drawn > _DRAWS * count:
            break
    print(json.dumps([list(ids) for ids in unique]))


if __name__ == "__main__":
    main()
