"""How varied explanations are, and whether they speak of what they should, as PETER and PEPLER measure it. Pure.

Source: Li, Zhang, Chen: "Personalized Transformer for Explainable Recommendation" (PETER), ACL 2021, section 5.2, and
"Personalized Prompt Learning for Explainable Recommendation" (PEPLER), ACM TOIS 41(4), 2023; USR is from their NETE (CIKM 2020).
A feature there is a word (`pool`) that a reference was mined for; here it is the key of a fact that a text tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from edgegen.evaluation.measures import Measure, ratio

Features = Collection[Hashable]


def usr(texts: Sequence[Hashable]) -> float:
    """Unique sentence ratio: distinct texts over all. The higher the more varied."""
    return len(set(texts)) / len(texts) if texts else 0.0


def fmr(found: Sequence[Features], wanted: Sequence[Hashable | None]) -> Measure:
    """Feature matching ratio: the share of texts that have the feature of their reference; None where that has none."""
    hit = [feature is not None and feature in features for features, feature in zip(found, wanted, strict=True)]
    return ratio(hit, [feature is not None for feature in wanted])


def fcr(found: Sequence[Features], known: Features) -> float:
    """Feature coverage ratio: distinct features of all texts over those of all references, `known`."""
    return len({f for features in found for f in features} & set(known)) / len(known) if known else 0.0


def div(found: Sequence[Features], known: Features) -> float:
    """Feature diversity: the mean number of known features that two texts share. The lower the more varied.

    2 / (N (N - 1)) * the sum over all pairs of texts of |features of one & features of the other|; a feature that k texts have
    is shared by k (k - 1) / 2 pairs.
    """
    if len(found) < 2:
        return 0.0
    counts = Counter(feature for features in found for feature in set(features) & set(known))
    return sum(k * (k - 1) for k in counts.values()) / (len(found) * (len(found) - 1))
