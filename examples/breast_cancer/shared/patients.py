"""Read the patients a model is asked about, and write its predictions.

It stands in `shared/` once, and `package.py` lays it beside each model's `main.py`, because an
image is built from that model's folder alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from typing import Any

from container import Refused, volume

MEASUREMENTS = volume("/mlcommons/volumes/data") / "measurements.csv"
WEIGHTS = volume("/mlcommons/volumes/additional_files") / "weights.json"
PREDICTIONS = volume("/mlcommons/volumes/predictions") / "predictions.csv"


def predict(clip_at_sd: float, logit: Callable[[dict[str, Any], list[float]], float]) -> None:
    """Write the probability that each patient's tumour is malignant.

    `logit` gets the weights file and the patient's measurements, standardised as in training and
    clipped at `clip_at_sd` standard deviations. Raises Refused for data or weights that do not fit.
    """
    if not WEIGHTS.is_file():
        raise Refused(f"additional_files: lacks {WEIGHTS.name}; write it with train.py")
    weights = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    with (
        MEASUREMENTS.open(encoding="utf-8", newline="") as source,
        PREDICTIONS.open("w", encoding="utf-8", newline="") as target,
    ):
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(("patient_id", "probability"))
        for number, row in enumerate(csv.DictReader(source), start=2):
            features = standardise(row, number, weights, clip_at_sd)
            writer.writerow((row["patient_id"], sigmoid(logit(weights, features))))


def standardise(
    row: dict[str, str], number: int, weights: dict[str, Any], clip_at_sd: float
) -> list[float]:
    """Return the measurements in the weights' order, in standard deviations from their means."""
    values = []
    for feature, mean, scale in zip(weights["features"], weights["mean"], weights["scale"]):
        try:
            value = (float(row[feature]) - mean) / scale
        except (KeyError, ValueError):
            raise Refused(
                f"{MEASUREMENTS.name}, row {number}, column {feature}: is {row.get(feature)!r}; "
                "expected a number"
            ) from None
        values.append(max(-clip_at_sd, min(clip_at_sd, value)))
    return values


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, without overflow for large ones of either sign."""
    exponential = math.exp(-abs(logit))
    return (1 if logit >= 0 else exponential) / (1 + exponential)
