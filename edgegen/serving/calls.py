"""What a front asks of the engine's process and what it is told: plain data. Knows no process, no HTTP and no llama.cpp."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgegen.domain import Request
from edgegen.engine.options import Priority, SamplingOptions
from edgegen.explain import ExplainOptions


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt: token ids as they are, or text, in which control tokens are parsed only where it is `special`."""

    text: str = ""
    special: bool = False
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Explain:
    """Make a checked text for a request."""

    request: Request
    options: ExplainOptions = field(default_factory=ExplainOptions)
    priority: Priority = "shopper"


@dataclass(frozen=True, slots=True)
class Explained:
    """The record of an explanation, as `Explanation.to_json` gives it, and its text bit by bit."""

    record: Mapping[str, Any]
    pieces: Sequence[str]
    pack: str | None = None
    """The pack whose model was asked, as name@version; None where templates alone answer."""
    slotted: str | None = None
    """The text with its slots as `<|vN|>`, to learn from; see `Explanation.slotted`."""
    prompt_tokens: int = 0
    """Tokens of the prompts that were read; `reused_tokens` of them were in the cache already."""
    reused_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Complete:
    """Continue a prompt `n` times; nothing is checked or filled in."""

    prompt: tuple[Part, ...]
    n: int = 1
    options: SamplingOptions = field(default_factory=SamplingOptions)
    stops: tuple[str, ...] = ()
    """Texts that end a candidate; they are not part of it."""
    logprobs: int | None = None
    """So many of the likeliest tokens are told beside each token, with log-probabilities; None tells none. 0 to 20."""
    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of tokens; -100 and less forbids."""
    grammar: str | None = None
    """GBNF that every text must follow."""
    ignore_end: bool = False
    """Go on where the model would end."""
    write_controls: bool = False
    """Let control tokens that do not end the text be written."""
    whole: bool = False
    """Nobody reads along: each text comes in one piece, at the end, which costs both processes far less."""
    deadline_s: float | None = None
    """Seconds after which the texts end with what they have."""
    priority: Priority = "shopper"
    fresh: bool = False
    """Write the very same texts again where nothing else is written meanwhile: no drafts, nothing of the cache."""
    fair: bool = False
    """`options.max_new_tokens` is nobody's wish: fewer where the texts would take more than `Limits.fair` of the cache."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was written: its id, its text, and its log-probabilities where they were asked for."""

    id: int
    text: str
    """Its bytes as UTF-8, those of a cut character as surrogate escapes: `encode("utf-8", "surrogateescape")` gives them back."""
    logprob: float | None = None
    top: tuple[tuple[int, str, float], ...] = ()
    """The likeliest tokens at its place, likeliest first: id, text and log-probability."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is new of candidate `index`: whole characters, none of which can still become a stop, and the tokens they end."""

    index: int
    text: str
    tokens: tuple[Token, ...] = ()


Finish = Literal["stop", "length", "deadline"]
"""A text ends with `length` after `max_new_tokens`, or earlier where the model's context ends."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a completion: why each candidate ended, and the count of tokens."""

    finishes: tuple[Finish, ...]
    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int = 0
    """Tokens of the prompt that were in the cache already."""
    stops: tuple[str | None, ...] = ()
    """The stop text that ended each candidate, where one did."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds: queue_s, prompt_s, first_token_s, total_s."""
    pack: str | None = None
    """The pack whose model wrote, as name@version."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the model that answers, and whether it does."""

    ready: bool
    """A real generation has worked with it, and its process lives. True as well where templates alone are wanted."""
    why: str = ""
    """Why it is not ready."""
    pack: Mapping[str, Any] | None = None
    """name, version, languages, label (name@version) and digest of the pack; name, label and digest of a bare model.

    None without a model.
    """
    explains: bool = False
    """Whether it can write explanations, or completes plain text only."""
    n_ctx: int = 0
    """Positions of a prompt and its text together."""
    n_cells: int = 0
    """Tokens that all texts and their prompts have room for together."""
    n_vocab: int = 0
    most_texts: int = 0
    """Candidates a call may ask for at most."""
    chat_template: str | None = None
    """The Jinja template that the model brings for chats."""
    specials: Mapping[str, str] = field(default_factory=dict)
    """Texts of the tokens `bos`, `eos` where the model has them."""
    starts_with_bos: bool = False
    """The model expects `bos` before a prompt; the front puts it there."""
    controls: frozenset[str] = frozenset()
    """Texts of the control tokens: what is taken for one where a chat template writes it, and never in a user's words."""
    restarts: int = 0
    """How often the engine's process was started again after it died."""
    pid: int | None = None
    """The engine's process, where it is one of its own."""
    setting: str = ""
    """The setting of llama.cpp in use, in words."""

    retry_s: float = 1.0
    """In how many seconds it may be ready, where it is not."""

    @property
    def writer(self) -> tuple[Any, ...]:
        """What decides on a text besides the call. Where it is equal, ids mean the same tokens, and a seed the same text."""
        pack = self.pack or {}
        return pack.get("label"), pack.get("digest"), self.setting

    caution: int = 0
    """So many steps of `hardware.ladder` down from the fastest one."""


class Service(Protocol):
    """The engine as a front sees it. All calls come from one event loop.

    A call that fails raises an EdgegenError: BusyError where the queue is full, UnavailableError where the engine died or
    starts, or there is no model. Leaving a call early (cancelling the task, closing the generator) drops its work within a step.
    """

    @property
    def state(self) -> State:
        """What answers at the moment."""

    async def explain(self, call: Explain) -> Explained:
        """A checked text. While there is no engine it comes from the template, and the record says so."""

    def complete(self, call: Complete) -> AsyncGenerator[Written | Ended, None]:
        """The texts as they are written; the last item is Ended. The pack that writes is settled by the call itself."""

    async def tokenize(self, text: str, *, special: bool = False) -> list[tuple[int, str]]:
        """Tokens of a text: id and text of each, cut characters as in `Token.text`."""

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of tokens. Raises UsageError for an id that the model does not have."""

    async def figures(self) -> Mapping[str, float]:
        """Counters and gauges of the engine, by the names of its metrics without `edgegen_`; counters end in `_total`."""
