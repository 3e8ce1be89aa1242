"""Executes calls on an engine and an explainer, in their threads, and tells the outcome by callbacks from any thread.

Knows no event loop and no process: `local` and `child` stand around it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from edgegen.engine.backend import Backend, Mask
from edgegen.engine.loop import Engine, Generation, Job
from edgegen.engine.sampling import Token as Chosen
from edgegen.engine.worker import CALLER_ERRORS
from edgegen.errors import EdgegenError, EngineError, OptionError, PromptTooLongError
from edgegen.explain import Explainer
from edgegen.serving.calls import Complete, Ended, Explain, Explained, Finish, Part, State, Token
from edgegen.serving.pool import Pool
from edgegen.serving.texts import Text
from edgegen.slots import END

Tell = Callable[[Any], None]
"""Is given an answer, or the EdgegenError in its place; a completion's last item is Ended or an error. Must be quick."""
Leave = Callable[[], None]
"""Drops a call's work; nothing is told of it afterwards."""

_THREADS = 8  # explanations under way; the engine runs four at once, the others are being checked or made ready
_MOST_WAITING = 64
_INSTANT_S = 1e-3
_FINISHES: Mapping[str, Finish] = {"stop": "stop", "length": "length"}


class Runner:
    """The calls of `calls.Service` on an engine of this process."""

    def __init__(self, explainer: Explainer, engine: Engine, label: str | None = None, max_waiting: int = _MOST_WAITING) -> None:
        """`label` is what answers name as their pack. At most `max_waiting` explanations wait."""
        self.engine, self.label = engine, label
        self._explainer = explainer
        self._pool = Pool(_THREADS, max_waiting)
        self.counts = Counter[str](explanations_from_model_total=0, explanations_from_template_total=0)

    def explain(self, call: Explain, tell: Tell) -> Leave:
        """Tells Explained. Its deadline counts from here."""
        one = _Explaining(self, self._explainer, call, tell)
        self._pool.submit(one.work, call.priority)
        return one.leave

    def complete(self, call: Complete, tell: Tell) -> Leave:
        """Tells Written as it comes, then Ended."""
        one = _Completing(self, call, tell)
        self.engine.post(one.start)
        return one.leave

    def tokenize(self, text: str, special: bool, tell: Tell) -> Leave:
        """Tells the id and the text of each token."""
        return self._post(lambda backend: [(id_, self.text(id_)) for id_ in backend.tokenize(text, special=special)], tell)

    def detokenize(self, ids: Sequence[int], tell: Tell) -> Leave:
        """Tells the text."""
        return self._post(lambda _: self.engine.vocabulary.text(self.checked(ids)), tell)

    def figures(self) -> dict[str, float]:
        """Counters and gauges, without waiting for the engine."""
        own = {"explanations_waiting": self._pool.waiting, "explanations_running": self._pool.running}
        return {**self.engine.figures(), **own, **self.counts}

    def close(self) -> None:
        """End the threads; the engine is its owner's to close."""
        self._pool.close()

    def text(self, token: int) -> str:
        """The text of a token as `calls.Token` has it."""
        return self.engine.vocabulary.pieces[token].decode("utf-8", "surrogateescape")

    def checked(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids, all of which the model has. Raises OptionError."""
        most = len(self.engine.vocabulary.pieces)
        if strange := [id_ for id_ in ids if not 0 <= id_ < most]:
            raise OptionError(f"There is no token {strange[0]}: the model has tokens 0 to {most - 1}.", "tokens")
        return ids

    def _post(self, question: Callable[[Backend], Any], tell: Tell) -> Leave:
        future = self.engine.post(question)
        future.add_done_callback(lambda done: tell(_told(error) if (error := done.exception()) else done.result()))
        return _nothing

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end a text."""
        vocabulary = self.engine.vocabulary
        return vocabulary.ends | {id_ for id_ in (vocabulary.eos, vocabulary.id(END)) if id_ is not None}

    def allow(self, call: Complete) -> Mask | None:
        """Which tokens a completion may write: no control tokens, and no end where it is to be ignored; None for all."""
        return None if call.write_controls and not call.ignore_end else self._masks[call.write_controls, call.ignore_end]

    @cached_property
    def _masks(self) -> Mapping[tuple[bool, bool], Mask]:
        controls = self.engine.vocabulary.controls

        def all_but(ids: frozenset[int]) -> Mask:
            mask = np.ones(len(self.engine.vocabulary.pieces), dtype=np.bool_)
            mask[list(ids)] = False
            return mask

        return {
            (False, False): all_but(controls - self.ends),
            (False, True): all_but(controls | self.ends),
            (True, True): all_but(self.ends),
        }


def describe(engine: Engine, pack: Mapping[str, Any] | None = None, **more: Any) -> State:
    """What is known of an engine's model; `more` are further fields of State."""
    limits, known = engine.limits, {"label": pack["name"], **pack} if pack else None
    return State(
        True, pack=known, n_ctx=limits.n_ctx, n_cells=limits.n_cells, n_vocab=limits.n_vocab, most_texts=limits.sequences, **more
    )


class _Explaining:
    """An explanation: waits for a thread of the pool, then for the engine."""

    def __init__(self, runner: Runner, explainer: Explainer, call: Explain, tell: Tell) -> None:
        self._runner, self._explainer, self._call, self._tell = runner, explainer, call, tell
        self._began, self._left = time.perf_counter(), threading.Event()
        self._future: Future[Generation] | None = None

    def work(self) -> None:
        """Make it; in a thread of the pool."""
        if self._left.is_set():
            return
        call = self._call
        left_s = call.options.deadline_s - (time.perf_counter() - self._began)
        options = replace(call.options, deadline_s=max(left_s, _INSTANT_S))
        try:
            made = self._explainer.explain(call.request, options, self._submit)
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for the answer
            self._tell(_told(error))
            return
        self._runner.counts[f"explanations_from_{made.source}_total"] += 1
        read = made.prompt_tokens, made.reused_tokens
        self._tell(Explained(made.to_json(), list(made.pieces()), self._runner.label, made.slotted(), *read))

    def _submit(self, job: Job) -> Future[Generation]:
        future = self._future = self._runner.engine.submit(replace(job, priority=self._call.priority))
        if self._left.is_set():
            future.cancel()
        return future

    def leave(self) -> None:
        """Drop the job that runs, and make no other."""
        self._left.set()
        if self._future is not None:
            self._future.cancel()


class _Completing:
    """A completion: encoded and submitted in the engine's thread, which then tells each token."""

    def __init__(self, runner: Runner, call: Complete, tell: Tell) -> None:
        self._runner, self._call, self._tell = runner, call, tell
        self._texts = [Text(i, call.stops, whole=call.whole) for i in range(call.n)]
        self._pieces = runner.engine.vocabulary.pieces
        self._prompt, self._left = 0, threading.Event()
        self._future: Future[Generation] | None = None

    def start(self, backend: Backend) -> None:
        """Encode the prompt and submit the job."""
        if self._left.is_set():
            return
        try:
            ids = [id_ for part in self._call.prompt for id_ in self._encoded(part, backend)]
            self._prompt = len(ids)
            future = self._future = self._runner.engine.submit(self._job(ids))
        except CALLER_ERRORS as error:
            self._tell(_told(error))
            return
        future.add_done_callback(self._end)
        if self._left.is_set():
            future.cancel()

    def leave(self) -> None:
        """Drop the job."""
        self._left.set()
        if self._future is not None:
            self._future.cancel()

    def _encoded(self, part: Part, backend: Backend) -> Sequence[int]:
        return [*self._runner.checked(part.ids), *(backend.tokenize(part.text, special=part.special) if part.text else ())]

    def _job(self, ids: Sequence[int]) -> Job:
        call, limits = self._call, self._runner.engine.limits
        holds = min(limits.n_ctx, limits.n_cells)
        room = holds - len(ids)
        if ids and room < 1:
            raise PromptTooLongError(f"The prompt has {len(ids)} tokens, but the context holds {holds}. Shorten it.")
        most = min(room, limits.fair(len(ids), call.n)) if call.fair else room
        options = replace(call.options, max_new_tokens=min(call.options.max_new_tokens, max(most, 1)))
        stop_ids = frozenset[int]() if call.ignore_end else self._runner.ends
        return Job(
            ids, call.n, options, self._runner.allow(call), stop_ids, on_token=self._on_token, deadline_s=call.deadline_s,
            logprobs=call.logprobs, bias=call.bias, grammar=call.grammar, priority=call.priority,
            draft=not call.fresh, fresh=call.fresh,
        )  # fmt: skip

    def _on_token(self, candidate: int, token: Chosen) -> bool:
        text, named = self._texts[candidate], self._runner.text
        top = tuple((id_, named(id_), logprob) for id_, logprob in token.top)
        written = text.feed(Token(token.id, named(token.id), token.logprob, top), self._pieces[token.id])
        if written is not None:
            self._tell(written)
        return text.stop is not None

    def _end(self, future: Future[Generation]) -> None:
        if future.cancelled():
            return
        try:
            ended = self._ended(future.result())
            for text in self._texts:
                if (written := text.close()) is not None:
                    self._tell(written)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for the end
            self._tell(_told(error))
        else:
            self._tell(ended)

    def _ended(self, done: Generation) -> Ended:
        times = done.timings
        timings = {"queue_s": times.queue_s, "prompt_s": times.prompt_s, "total_s": times.total_s}
        if times.first_token_s is not None:
            timings["first_token_s"] = times.first_token_s
        return Ended(
            tuple(_FINISHES.get(completion.finish, "deadline") for completion in done), self._prompt,
            sum(len(completion.tokens) for completion in done), times.reused_tokens, tuple(text.stop for text in self._texts),
            timings, self._runner.label,
        )  # fmt: skip


def _told(error: BaseException) -> EdgegenError:
    """An error as the caller may see it: one of ours, or that one of ours is due."""
    if isinstance(error, EdgegenError):
        return error
    return EngineError(f"The call failed inside edgegen: {type(error).__name__}. Try again; if it stays so, report it.")


def _nothing() -> None:
    """A call that is over before it could be left."""
