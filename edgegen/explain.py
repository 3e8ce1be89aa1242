"""The use case: a request becomes a text that has been checked, and the record of where each claim comes from.

Every front end (command, HTTP, evaluation) goes through `Explainer`. A text is shown only after its check; when no
candidate of the model passes, the task's template text is used, and the answer says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from edgegen import grounding, licensing, safety, selection, slots, tasks
from edgegen.domain import Fact, Request, Section
from edgegen.engine.options import SamplingOptions
from edgegen.errors import BusyError, DataError, EngineError, OptionError, PromptTooLongError
from edgegen.grounding import Claim, Violation
from edgegen.licensing import Scopes, Table
from edgegen.slots import Prompt, Segment
from edgegen.tasks import Task

if TYPE_CHECKING:  # templates alone need no numpy
    from edgegen.decode import Decoder
    from edgegen.engine.loop import Engine, Generation, Job

_INSTANT_S = 1e-3
_PLANS = 4
"""Choices of facts to try before the template is used."""
_WARMEST = 1.0
"""Temperature that facts which are tried again do not exceed."""
_FORCED, _FORCED_SLOT = -6.0, -4.5
"""Log-probability of a token, and of a slot, that the mask forced on the model: from there on the text is off its course."""
_UNLIKELY = -1.5
"""Mean log-probability of a sentence that the model itself hardly believes in."""
Source = Literal["model", "template"]
Submit = Callable[["Job"], "Future[Generation]"]
"""Hands a job to the engine. Cancelling what it gives ends the explanation with CancelledError."""


@dataclass(frozen=True)
class ExplainOptions:
    """How a text is made. Every default of an explanation lives here."""

    n: int = 4
    """Candidates that the model writes as one batch, fewer where its cache cannot hold so many. 1 to 16."""
    seed: int = 0
    """The same request with the same seed gives the same text, but where two tokens are as good as equal. At least 0."""
    temperature: float | None = None
    """Sharpness; None takes the task's own."""
    rewrite: bool = True
    """Check each sentence as it ends and write one that fails anew; off, only whole texts are checked."""
    deadline_s: float = 10.0
    """After so many seconds the template is used. Above 0."""
    enough: int = 2
    """Finished candidates to choose from; the slowest are not worth a shopper's wait. At least 1."""

    def __post_init__(self) -> None:
        """Check the ranges. Raises OptionError."""
        if not 1 <= self.n <= 16:
            raise OptionError(f"n must be in [1, 16], got {self.n}")
        if self.seed < 0:
            raise OptionError(f"seed must be at least 0, got {self.seed}")
        if self.enough < 1:
            raise OptionError(f"enough must be at least 1, got {self.enough}")
        if self.deadline_s <= 0:
            raise OptionError(f"deadline_s must be above 0, got {self.deadline_s}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that was not shown, and why."""

    text: str
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `withheld` are facts that were kept from the text; `timings` are seconds.

    `prompt` is what the model was told to tell, its `request` all that was known; `candidates` is all that the model wrote,
    likeliest first, before any check, None where it is not text.
    """

    task: str
    lang: str
    text: str
    source: Source
    claims: tuple[Claim, ...]
    segments: tuple[Segment, ...]
    prompt: Prompt
    candidates: tuple[list[Segment] | None, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    withheld: tuple[str, ...] = ()
    note: str | None = None
    tokens: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    """Of all prompts that the model read; `reused_tokens` of them were in the cache already."""
    reused_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "task": self.task,
            "lang": self.lang,
            "text": self.text,
            "source": self.source,
            "claims": [{"text": c.text, "facts": [{"section": s, "key": k} for s, k in c.evidence]} for c in self.claims],
            "withheld": list(self.withheld),
            "rejected": len(self.rejected),
            "note": self.note,
            "tokens": self.tokens,
            "timings": {name: round(seconds, 4) for name, seconds in self.timings.items()},
        }

    def slotted(self) -> str | None:
        """The text as a pair of the training has it: slots as `<|vN|>`, numbered as in the prompt of all facts, if it can be."""
        request = self.prompt.request
        task = tasks.get(self.task)
        try:
            segments = self.segments if task.choices else selection.moved(self.segments, task.prompt(request))
        except KeyError:  # a value that the prompt of all facts shows otherwise
            return None
        return "".join(s if isinstance(s, str) else s.control.token for s in segments)

    def pieces(self) -> Iterator[str]:
        """The checked text bit by bit, as a streaming client gets it."""
        renderer = slots.Renderer((), "zh" if self.lang == "zh" else "en")
        for segment in self.segments:
            for piece in [segment] if not isinstance(segment, str) else _bits(segment):
                if out := renderer.feed(piece):
                    yield out
        if out := renderer.close():
            yield out


def _bits(text: str) -> list[str]:
    parts = text.split(" ")
    return [part + " " for part in parts[:-1]] + parts[-1:] if len(parts) > 1 else list(text)


class Explainer:
    """Explains requests with an engine, or from templates alone where there is none."""

    def __init__(self, engine: Engine | None, table: Table | None = None, without: str = "No model is loaded") -> None:
        """`table` says which facts license which words of the engine's model; `without` says why there is no engine.

        Raises EngineError where the engine's model does not know edgegen's slots.
        """
        self._engine, self._without = engine, without
        self._decoder = _decoder(engine, table) if engine else None
        if self._decoder and not self._decoder.knows_slots:
            raise EngineError("The model does not know edgegen's slot tokens. Use a pack that edgegen built.")

    @property
    def has_model(self) -> bool:
        """Whether a model writes, or templates alone."""
        return self._engine is not None

    def explain(self, request: Request, options: ExplainOptions | None = None, submit: Submit | None = None) -> Explanation:
        """A checked text for a request. Raises UsageError or DataError for a request that no text can be made of."""
        options = options or ExplainOptions()
        started = time.perf_counter()
        task = tasks.get(request.task)
        request, withheld = safe(request)
        note, rejected, timings, counts = None, list[Rejected](), dict[str, float](), Counter[str]()
        found: list[list[Segment] | None] = []
        chosen: tuple[list[Segment], Source, tuple[Claim, ...]] | None = None
        for prompt, own in _prompts(request, task, options):
            if _bare(request):
                note = "Only a name is known, and no text of the training tells of so little; the text comes from the template."
                break
            left = max(options.deadline_s - (time.perf_counter() - started), _INSTANT_S)
            try:
                found, spent, counted = self._candidates(prompt, task, replace(own, deadline_s=left), submit)
            except (BusyError, PromptTooLongError, EngineError) as error:
                note = str(error)
                break
            timings = {**spent, **timings, "model_s": timings.get("model_s", 0.0) + spent["model_s"]}
            counts.update(counted)
            chosen, refused = _choose(found, prompt, task)
            rejected += refused
            if chosen is not None:
                break
            if time.perf_counter() - started >= options.deadline_s:
                note = "The deadline passed before a text was whole; it comes from the template."
                break
        segments, source, claims = chosen or _template(task.prompt(request), task)
        timings["total_s"] = time.perf_counter() - started
        text = slots.render(segments, request.lang)
        return Explanation(
            task.name, request.lang, text, source, claims, tuple(segments), prompt, tuple(found), tuple(rejected), withheld,
            note, counts["tokens"], timings, counts["prompt_tokens"], counts["reused_tokens"],
        )  # fmt: skip

    def _candidates(
        self, prompt: Prompt, task: Task, options: ExplainOptions, submit: Submit | None
    ) -> tuple[list[list[Segment] | None], dict[str, float], dict[str, int]]:
        if self._engine is None or self._decoder is None:
            raise EngineError(f"{self._without}; the text comes from the template.")
        job = self._job(self._engine, self._decoder, prompt, task, options)
        generation = (submit or self._engine.submit)(job).result()
        timings = {"first_token_s": generation.timings.first_token_s or 0.0, "model_s": generation.timings.total_s}
        done = [c for c in generation if c.finish != "spare"]
        ranked = sorted(done, key=lambda c: -c.logprob / (len(c.tokens) + 1))
        found = [self._decoder.segments(c.tokens, prompt) if c.finish == "stop" else None for c in ranked]
        read = len(job.prompt) if generation.timings.first_token_s is not None else 0
        counts = {"tokens": sum(len(c.tokens) for c in generation), "prompt_tokens": read}
        return found, timings, {**counts, "reused_tokens": min(generation.timings.reused_tokens, read)}

    @staticmethod
    def _job(engine: Engine, decoder: Decoder, prompt: Prompt, task: Task, options: ExplainOptions) -> Job:
        from edgegen import decode
        from edgegen.engine.job import Job

        end = decoder.end
        assert end is not None  # noqa: S101 - checked when the explainer was made
        ids = engine.encode(prompt.pieces)
        if task.choices:
            paths = [engine.encode([choice]) for choice in tasks.likely(prompt.request)]
            sampling = SamplingOptions(temperature=0, max_new_tokens=max(map(len, paths)) + 1)
            return Job(ids, 1, sampling, None, frozenset({end}), decode.along(paths, end), deadline_s=options.deadline_s)
        sampling = SamplingOptions(
            temperature=task.temperature if options.temperature is None else options.temperature,
            max_new_tokens=task.max_new_tokens,
            seed=options.seed,
        )
        n = min(options.n, max(1, (engine.limits.n_cells - len(ids)) // sampling.max_new_tokens), engine.limits.sequences)
        veto = partial(_misplaced, decoder, prompt, task, licensing.scopes(prompt))
        keep = partial(_keep, decoder, prompt, task) if options.rewrite and sampling.temperature else None
        return Job(
            ids, n, sampling, decoder.mask(prompt, task.given), frozenset({end}), veto=veto, keep=keep,
            enough=options.enough, deadline_s=options.deadline_s, logprobs=0,
        )  # fmt: skip


def _decoder(engine: Engine, table: Table | None) -> Decoder:
    from edgegen.decode import Decoder

    return Decoder(engine.vocabulary, table)


def _bare(request: Request) -> bool:
    return all(fact.key == "name" for section in request.sections for fact in section)


def _prompts(request: Request, task: Task, options: ExplainOptions) -> Iterator[tuple[Prompt, ExplainOptions]]:
    """The prompts for a request, one after the other, each with the options of its candidates: all of it for a task that
    chooses, else this seed's choices of facts.

    Some choices no text of the training tells, and the model cannot either; another will do. One that comes again gets another
    seed and is drawn more freely: what failed once would fail again.
    """
    if task.choices:
        yield task.prompt(request), options
        return
    task.check(request)
    usual = task.temperature if options.temperature is None else options.temperature
    rng, tried = Random(f"{options.seed}/{request}"), Counter[selection.Plan]()
    for _ in range(_PLANS if options.rewrite else 1):
        plan = selection.choose(request, task, rng)
        warmth = max(usual, min(_WARMEST, usual * (1 + tried[plan])))
        yield selection.prompt(request, plan), replace(options, seed=options.seed + tried[plan], temperature=warmth)
        tried[plan] += 1


def _misplaced(decoder: Decoder, prompt: Prompt, task: Task, scopes: Scopes, written: Sequence[int], token: int) -> bool:
    """The mask as far as it depends on the text so far: whether a slot cannot stand there, or nothing licenses a word."""
    slot = decoder.slot(token, prompt)
    if slot is None:
        return not decoder.licensed(token, written, prompt, scopes)
    before = decoder.unstripped(written, prompt)
    return before is not None and grounding.misplaced([*before, slot], prompt, task)


def _keep(decoder: Decoder, prompt: Prompt, task: Task, written: Sequence[int], token: int, logprobs: Sequence[float]) -> int:
    """Sentence by sentence: one that says something wrong, that the mask forced, or that ends the text too early is set back."""
    start, ends = decoder.sentence_start(written), token == decoder.end
    if logprobs[-1] < (_FORCED if decoder.slot(token, prompt) is None else _FORCED_SLOT):
        return start
    if not ends and token not in decoder.sentence_ends:
        return len(written) + 1
    segments = decoder.segments(written if ends else [*written, token], prompt)
    if segments is None or fmean(logprobs[start:]) < _UNLIKELY:
        return start
    faults = {violation.rule for violation in check(segments, prompt, task)[0]}
    return start if faults - (frozenset() if ends else grounding.UNFINISHED) else len(written) + 1


def safe(request: Request) -> tuple[Request, tuple[str, ...]]:
    """The request without facts whose words must not be repeated, and the keys left out."""
    withheld: list[str] = []
    sections = []
    for section in request.sections:
        kept: list[Fact] = []
        for fact in section:
            if safety.safe_fact(fact):
                kept.append(fact)
            else:
                withheld.append(fact.key)
        sections.append(Section(section.label, tuple(kept)))
    return Request(request.task, request.lang, tuple(sections), request.choices), tuple(withheld)


def check(segments: list[Segment], prompt: Prompt, task: Task) -> tuple[tuple[Violation, ...], tuple[Claim, ...]]:
    """Grounding and safety of a text: what is wrong with it, and what it claims."""
    verdict = grounding.check(segments, prompt, task)
    literal = "".join(s for s in segments if isinstance(s, str))
    return verdict.violations + tuple(safety.check_text(literal, prompt.request.lang)), verdict.claims


def _choose(
    found: list[list[Segment] | None], prompt: Prompt, task: Task
) -> tuple[tuple[list[Segment], Source, tuple[Claim, ...]] | None, list[Rejected]]:
    rejected: list[Rejected] = []
    for segments in found:
        if segments is None:
            rejected.append(Rejected("", (Violation("form", "", "the text was cut off, or the mask forced it off its course"),)))
            continue
        if task.choices:
            return (segments, "model", ()), rejected
        violations, claims = check(segments, prompt, task)
        if not violations:
            return (segments, "model", claims), rejected
        rejected.append(Rejected(slots.render(segments, prompt.request.lang), violations))
    return None, rejected


def _template(prompt: Prompt, task: Task) -> tuple[list[Segment], Source, tuple[Claim, ...]]:
    segments = task.draft(prompt)
    if not segments:
        raise DataError(f"Task {task.name!r} has nothing to say about these facts. Give more of them.")
    return segments, "template", () if task.choices else grounding.check(segments, prompt, task).claims
