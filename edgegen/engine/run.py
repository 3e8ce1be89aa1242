"""A job that has sequences: how far its prompt is decoded, how far each text is written, and what a step's logits mean for it.

Pure: no clock, no thread, no backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgegen.engine.backend import Grammar, Logits
from edgegen.engine.drafting import MOST, Draft, Drafter
from edgegen.engine.job import Completion, Finish, Job
from edgegen.engine.sampling import Outlook, Sampler, Token


@dataclass(slots=True)
class Candidate:
    """One text in the making."""

    seq: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None
    setbacks: int = 0
    draws: int = 0  # tokens chosen so far, also those that were set back
    stale: bool = False  # its cache holds more than its text: it was set back, or a draft was wrong

    def completion(self) -> Completion:
        """What is there; unfinished means that the deadline came first."""
        finish = self.finish or "deadline"
        return Completion(tuple(self.tokens), finish, sum(self.logprobs), min(self.logprobs, default=0.0), self.setbacks)

    def set_back(self, length: int, patience: int) -> None:
        """Forget all but the first tokens; the last of them (or of the prompt) is decoded again."""
        del self.tokens[length:], self.logprobs[length:]
        self.setbacks += 1
        self.stale = True
        self.finish = "setbacks" if self.setbacks >= patience else None


@dataclass(frozen=True, slots=True)
class Part:
    """A candidate's tokens in a step: its last one, and after it those of a draft. `row` is the first one's row of the share."""

    candidate: int
    row: int
    draft: Sequence[int] = ()


class Run:
    """A job with sequences."""

    def __init__(
        self,
        job: Job,
        seqs: Sequence[int],
        decoded: int = 0,
        *,
        grammar: Grammar | None = None,
        drafters: Sequence[Drafter] = (),
    ) -> None:
        """`decoded` tokens of the prompt are in the cache of `seqs` already; `grammar` is the job's, at its beginning.

        `drafters` has one for each candidate, or none where nothing is to be drafted.
        """
        self.job, self.decoded = job, decoded
        self.candidates = [Candidate(seq) for seq in seqs]
        self.live = list(range(job.n))
        """Indices of the candidates that are not finished."""
        self._drafters = drafters
        wanted = 0 if job.logprobs is None and job.keep is not None else job.logprobs  # `keep` judges by them
        self.sampler = Sampler(job.options, job.n, job.allow, logprobs=wanted, bias=job.bias, grammar=grammar, veto=job.veto)
        self.common = None if job.constraint is not None else self.sampler.common
        """Runs with an equal value can have their logits looked at together; None where a run's own text decides."""

    @property
    def seqs(self) -> tuple[int, ...]:
        """Ids of its sequences."""
        return tuple(candidate.seq for candidate in self.candidates)

    @property
    def writing(self) -> bool:
        """Whether the prompt is decoded."""
        return self.decoded == len(self.job.prompt)

    def ends_at(self, pos: int) -> bool:
        """Whether the prompt ends there."""
        return pos == len(self.job.prompt)

    def ends(self) -> list[tuple[int, int]]:
        """Each sequence in use with the position where its cache ends before the next step."""
        return [(c.seq, self.end(c) if c.tokens or c.stale else self.decoded) for c in self.candidates if c.finish is None]

    def end(self, candidate: Candidate) -> int:
        """The position of the token that a candidate decodes next: its last, or the prompt's."""
        return self.decoded + len(candidate.tokens) - 1

    def draft(self, i: int, least: float) -> Draft:
        """Tokens that may follow candidate `i` with at least this chance, never more than it has room for."""
        tokens = self.candidates[i].tokens
        room = self.job.options.max_new_tokens - len(tokens) - 1
        return self._drafters[i].propose(tokens, min(MOST, room), least) if self._drafters and room > 0 else Draft()

    @property
    def worth_keeping(self) -> Sequence[int]:
        """What is in each of its sequences that another prompt may begin with: the prompt as far as it is decoded.

        Where there is one text, it too: the next prompt of a talk goes on after it.
        """
        if self.job.n > 1 or not self.writing:
            return self.job.prompt[: self.decoded]
        return (*self.job.prompt, *self.candidates[0].tokens[:-1])

    def feed(self, tokens: int) -> None:
        """So many more tokens of the prompt are decoded."""
        self.decoded += tokens

    def absorb(self, parts: Sequence[Part], logits: Logits, outlook: Outlook | None = None, first: int = 0) -> tuple[int, int]:
        """Choose tokens from the rows of a share; where the rows were looked at already, they are in `outlook` from `first` on.

        Returns how many tokens were written, and how many were accepted of those drafted.
        """
        if outlook is None and self._at_once(parts):
            texts = {part.row: self.candidates[part.candidate].tokens for part in parts}
            outlook, first = self.sampler.look(logits, list(texts.values())), 0
        written = accepted = 0
        for part in parts:
            grown, right = self._write(part, logits, outlook, first)
            written, accepted = written + grown, accepted + right
        if self.job.enough is not None:
            self._settle(self.job.enough)
        self.live = [i for i in self.live if self.candidates[i].finish is None]
        return written, accepted

    def _settle(self, enough: int) -> None:
        """End those that need not be waited for. Who is first is counted in tokens: drafts must not change it."""
        ends = sorted(c.draws for c in self.candidates if c.finish == "stop")
        if len(ends) < enough:
            return
        last = ends[enough - 1]
        behind = any(c.finish is None and c.draws < last for c in self.candidates)
        for c in self.candidates:
            if (c.finish is None and c.draws >= last) or (c.finish == "stop" and c.draws > last and not behind):
                c.finish = "spare"

    def _at_once(self, parts: Sequence[Part]) -> bool:
        """Whether no row depends on what is chosen in another one."""
        looks_back = self.job.options.looks_back and any(part.draft for part in parts)
        return self.job.constraint is None and not looks_back

    def _write(self, part: Part, logits: Logits, outlook: Outlook | None, first: int) -> tuple[int, int]:
        """Tokens for one candidate until one is not as drafted; each is chosen as if nothing had been drafted."""
        i, candidate, grown = part.candidate, self.candidates[part.candidate], 0
        for at in range(len(part.draft) + 1):
            row = part.row + at
            if outlook is None:
                token = self._alone(i, logits[row : row + 1].copy())
            else:
                token = self.sampler.draw(outlook, first + row, i, candidate.tokens)
            stays = self._append(i, token)
            grown += stays
            if not stays or candidate.finish is not None:
                return grown, at
            if at == len(part.draft) or candidate.tokens[-1] != part.draft[at]:
                break
        candidate.stale = at < len(part.draft)
        return grown, at

    def _alone(self, i: int, row: Logits) -> Token | None:
        tokens, allowed = self.candidates[i].tokens, None
        if self.job.constraint is not None:
            offer = self.job.constraint(tuple(tokens))
            if not offer:
                return None
            allowed = [offer]
        return self.sampler.draw(self.sampler.look(row, [tokens], allowed), 0, i, tokens)

    def _append(self, i: int, token: Token | None) -> bool:
        candidate, job = self.candidates[i], self.job
        candidate.stale = False
        candidate.draws += 1
        if token is None:  # the grammar or the constraint lets nothing follow
            candidate.finish = "stop"
            return False
        candidate.logprobs.append(token.logprob or 0.0)
        stays = job.keep(candidate.tokens, token.id, candidate.logprobs) if job.keep else len(candidate.tokens) + 1
        if stays <= len(candidate.tokens):
            candidate.set_back(stays, job.patience)
            return False
        if token.id in job.stop_ids:
            candidate.finish = "stop"
            return False
        candidate.tokens.append(token.id)
        if len(candidate.tokens) == job.options.max_new_tokens:
            candidate.finish = "length"
        if job.on_token is not None and job.on_token(i, token):
            candidate.finish = "stop"
        return True
