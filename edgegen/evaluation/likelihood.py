"""Perplexity of reference texts: what the engine's own model thinks of each token when the text is forced on it.

    exp(-1/N sum log P(token | facts, tokens before))

over the tokens of all texts, the end token of each among them; the prompt shows the facts that the reference tells, as in
training. Perplexities of models with different vocabularies cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from edgegen import decode, slots
from edgegen.engine.job import Job
from edgegen.engine.loop import Engine
from edgegen.engine.options import SamplingOptions
from edgegen.engine.worker import Generation
from edgegen.errors import EngineError, PromptTooLongError
from edgegen.evaluation.cases import Case, prompted
from edgegen.slots import END

_AT_ONCE = 16  # jobs in the engine: it decodes them together


def losses(engine: Engine, cases: Sequence[Case]) -> list[tuple[float, int]]:
    """For the first reference of each case, -log P of it in nats and its tokens; 0 and 0 where it does not fit the context."""
    found: list[tuple[float, int]] = []
    for at in range(0, len(cases), _AT_ONCE):
        jobs = [_submitted(engine, case) for case in cases[at : at + _AT_ONCE]]
        found += [(0.0, 0) if future is None else _loss(future.result(), n) for future, n in jobs]
    return found


def _submitted(engine: Engine, case: Case) -> tuple[Future[Generation] | None, int]:
    prompt, segments = prompted(case.request, case.references[0].text)
    head, tail = engine.encode(prompt.pieces), engine.encode(slots.to_pieces(segments))
    end = engine.encode([slots.Control(END)])[0]
    # The constraint leaves one token at each step; its log-probability is that among all tokens.
    options = SamplingOptions(temperature=0, max_new_tokens=len(tail) + 1)
    try:
        job = Job(head, 1, options, None, frozenset({end}), decode.along([tail], end), logprobs=0, draft=False)
        return engine.submit(job), len(tail) + 1
    except PromptTooLongError:
        return None, 0


def _loss(generation: Generation, tokens: int) -> tuple[float, int]:
    text = next(iter(generation))
    if text.finish != "stop" or len(text.tokens) + 1 != tokens:
        raise EngineError("The engine did not follow a reference text to its end. Please report this.")
    return -text.logprob, tokens
