"""Scores of texts, not of running programs. Pure.

`repeated_4grams` is the share of a text's 4-grams that it has had before (Chinese counts characters), averaged. Against
references, any number for each text:

- BLEU: Papineni et al., 2002, as sacrebleu computes it (Post, 2018), lower-cased; Chinese by characters, and by words.
- chrF: Popović, 2015: the F2 of character 1- to 6-grams, by sacrebleu.
- ROUGE-1, -2, -L: Lin, 2004: F1 over `tokens`, the best reference of each text, averaged; by rouge-score.
- distinct-1, distinct-2: Li et al., "A Diversity-Promoting Objective Function", 2016: distinct n-grams over all n-grams.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgegen.decode import has_digit
from edgegen.domain import Lang
from edgegen.errors import extra
from edgegen.evaluation import measures
from edgegen.evaluation.measures import Floats, Measure

TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""How BLEU may split texts: sacrebleu's names; `none` takes words as they stand, for texts that are tokenised already."""
_WORDS = re.compile(r"[^\W_一-鿿]+|[一-鿿]|[^\w\s]")
_ROUGE = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}


def tokens(text: str) -> list[str]:
    """Words of English, characters of Chinese, punctuation."""
    return _WORDS.findall(text.lower())


def repeated_4grams(texts: Iterable[str]) -> float:
    """Mean share of 4-grams that stand in the same text already."""
    shares = [repeated_share(text) for text in texts]
    return sum(shares) / len(shares) if shares else 0.0


def repeated_share(text: str) -> float:
    """Share of a text's 4-grams that stand in it already."""
    grams = _grams(text, 4)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Iterable[str], n: int) -> float:
    """Distinct n-grams over all n-grams of all texts."""
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = tokens(text)
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def wrong_values(text: str, values: Iterable[str]) -> bool:
    """Whether a text has a digit that is left when every value it may show is taken out, the longest first."""
    for value in sorted(set(values), key=len, reverse=True):
        text = re.sub(re.escape(value), " ", text, flags=re.IGNORECASE)
    return has_digit(text)


class References:
    """The references that texts are scored against; finds once what all systems need."""

    def __init__(self, references: Sequence[Sequence[str]], lang: Lang, tokenize: str | None = None) -> None:
        """One text at least for each case. `tokenize` is one of TOKENIZERS; None takes `zh` for Chinese, else `13a`.

        Raises MissingExtraError where the libraries are not installed.
        """
        with extra("Scoring against references"):
            from rouge_score import rouge_scorer
            from sacrebleu.metrics import BLEU, CHRF
        self._references, self._lang = references, lang
        self._bleu = BLEU(lowercase=True, tokenize=tokenize or ("zh" if lang == "zh" else "13a"), force=True)
        self._words = BLEU(lowercase=True, tokenize="none", force=True)
        self._chrf = CHRF()
        self._rouge = rouge_scorer.RougeScorer(list(_ROUGE), tokenizer=_Split())

    def measures(self, texts: Sequence[str]) -> dict[str, Measure]:
        """Each score of the texts of one system, 0 to 100: bleu, bleu_words (Chinese), chrf, rouge_1, rouge_2, rouge_l."""
        found = {"bleu": _counted(self._bleu, texts, self._references)}
        if self._lang == "zh":
            split = _splitter()
            found["bleu_words"] = _counted(
                self._words, list(map(split, texts)), [list(map(split, several)) for several in self._references]
            )
        found["chrf"] = _counted(self._chrf, texts, self._references)
        rouge = [self._rouge.score_multi(several, text) for several, text in zip(self._references, texts, strict=True)]
        for key, name in _ROUGE.items():
            found[name] = measures.mean([scores[key].fmeasure for scores in rouge], 100)
        return found


def _counted(metric: Any, texts: Sequence[str], references: Sequence[Sequence[str]]) -> Measure:
    """A score of sacrebleu by the counts of each text, as sacrebleu's own tests of significance use them."""
    most = max(map(len, references))
    streams = [[several[i] if i < len(several) else None for several in references] for i in range(most)]
    stats = np.array(metric._extract_corpus_statistics(texts, streams), dtype=np.float64)

    def score(sums: Floats) -> Floats:
        return np.array([metric._compute_score_from_stats(row).score for row in sums.round().astype(np.int64).tolist()])

    return Measure(stats, score)


def _splitter() -> Callable[[str], str]:
    """Splits Chinese into words."""
    with extra("BLEU by Chinese words"):
        import rjieba
    return lambda text: " ".join(word for word in rjieba.cut(text) if word.strip())


class _Split:
    def tokenize(self, text: str) -> list[str]:
        """The interface that rouge-score expects."""
        return tokens(text)
