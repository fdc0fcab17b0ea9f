"""The scores. Labels are 1 (malignant, the positive class) or 0; probabilities are those of 1.

Every function takes labels and probabilities of the same patients in the same order. AUROC and
sensitivity are undefined without a malignant patient, AUROC and specificity without a benign one.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import fmean

Labels = Sequence[int]
Probabilities = Sequence[float]


def auroc(labels: Labels, probabilities: Probabilities) -> float:
    """Return the probability that a malignant patient is ranked above a benign one; ties half.

    This is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982).
    """
    return _share_of_wins(*_apart(labels, probabilities))


def _apart(labels: Labels, probabilities: Probabilities) -> tuple[list[float], list[float]]:
    pairs = list(zip(labels, probabilities))
    malignant = [probability for label, probability in pairs if label == 1]
    return malignant, [probability for label, probability in pairs if label == 0]


def _share_of_wins(malignant: Probabilities, benign: Probabilities) -> float:
    ranked = sorted(benign)
    # A benign patient who is ranked below counts twice, and one who ties once.
    wins = sum(bisect_left(ranked, each) + bisect_right(ranked, each) for each in malignant)
    return wins / 2 / (len(benign) * len(malignant))


def auroc_interval(
    labels: Labels, probabilities: Probabilities, resamples: int, seed: int, confidence: float
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the AUROC (Efron and Tibshirani, 1993, 13.3).

    Malignant and benign patients are drawn apart, so that each resample has as many of both.
    """
    malignant, benign = _apart(labels, probabilities)
    generator = random.Random(seed)
    values = sorted(
        _share_of_wins(
            generator.choices(malignant, k=len(malignant)),
            generator.choices(benign, k=len(benign)),
        )
        for _ in range(resamples)
    )
    tail = (1 - confidence) / 2
    return quantile(values, tail), quantile(values, 1 - tail)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of ascending values, interpolated linearly between neighbours."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def rates(labels: Labels, probabilities: Probabilities, threshold: float) -> dict[str, float]:
    """Return accuracy, sensitivity and specificity; malignant is called from `threshold` on."""
    right = [
        (probability >= threshold) == (label == 1)
        for label, probability in zip(labels, probabilities)
    ]
    return {
        "accuracy": fmean(right),
        "sensitivity": fmean(hit for label, hit in zip(labels, right) if label == 1),
        "specificity": fmean(hit for label, hit in zip(labels, right) if label == 0),
    }


def brier(labels: Labels, probabilities: Probabilities) -> float:
    """Return the mean squared difference of probability and outcome (Brier, 1950)."""
    return fmean((p - label) ** 2 for label, p in zip(labels, probabilities))


def expected_calibration_error(labels: Labels, probabilities: Probabilities, bins: int) -> float:
    """Return how far probabilities and shares of malignant patients lie apart, on average.

    Over `bins` bins of equal width, each holding its upper edge, weighted by their patients
    (Naeini, Cooper and Hauskrecht, AAAI 2015).
    """
    edges = [index / bins for index in range(1, bins)]
    excess = [0.0] * bins
    for label, probability in zip(labels, probabilities):
        excess[bisect_left(edges, probability)] += probability - label
    return sum(map(abs, excess)) / len(labels)
