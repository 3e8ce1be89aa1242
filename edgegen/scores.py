"""Scores of texts, not of running programs. Pure.

USR (unique sentence ratio, PETER) is the share of distinct texts. `repeated_4grams` is the share of a text's 4-grams
that it has had before (Chinese counts characters), averaged. BLEU and ROUGE-L come from sacrebleu and rouge-score.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgegen.decode import has_digit
from edgegen.domain import Lang

_WORDS = re.compile(r"[^\W_一-鿿]+|[一-鿿]|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Words of English, characters of Chinese, punctuation."""
    return _WORDS.findall(text.lower())


def usr(texts: Sequence[str]) -> float:
    """Share of distinct texts."""
    return len(set(texts)) / len(texts) if texts else 0.0


def repeated_4grams(texts: Iterable[str]) -> float:
    """Mean share of 4-grams that stand in the same text already."""
    shares = []
    for text in texts:
        words = tokens(text)
        grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return sum(shares) / len(shares) if shares else 0.0


def wrong_values(text: str, values: Iterable[str]) -> bool:
    """Whether a text has a digit that is left when every value it may show is taken out, the longest first."""
    for value in sorted(set(values), key=len, reverse=True):
        text = re.sub(re.escape(value), " ", text, flags=re.IGNORECASE)
    return has_digit(text)


def bleu(texts: Sequence[str], references: Sequence[str], lang: Lang) -> float:
    """Corpus BLEU, 0 to 100; Chinese by characters."""
    import sacrebleu

    return float(
        sacrebleu.corpus_bleu(list(texts), [list(references)], tokenize="zh" if lang == "zh" else "13a", lowercase=True).score
    )


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F1, 0 to 100, over `tokens`."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Split())
    found = [scorer.score(ref, text)["rougeL"].fmeasure for text, ref in zip(texts, references, strict=True)]
    return 100 * sum(found) / len(found) if found else 0.0


class _Split:
    def tokenize(self, text: str) -> list[str]:
        """The interface that rouge-score expects."""
        return tokens(text)
