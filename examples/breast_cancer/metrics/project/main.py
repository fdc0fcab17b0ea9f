"""The metrics: `python3 main.py evaluate`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import scores

# From shared/; package.py lays it beside this file.
from container import Refused, between, read_parameters, run, volume

PREDICTIONS = volume("/mlcommons/volumes/predictions") / "predictions.csv"
DIAGNOSES = volume("/mlcommons/volumes/labels") / "diagnoses.csv"
RESULTS = volume("/mlcommons/volumes/results/results.yaml")

READERS: dict[str, Callable[[str], Any]] = {
    "threshold": between(float, 0, 1),
    "bootstrap_resamples": between(int, 1, 1_000_000),
    "bootstrap_seed": between(int, 0, 2**32 - 1),
    "confidence": between(float, 0, 1),
    "calibration_bins": between(int, 1, 1_000),
}


def evaluate() -> None:
    """Write the results of the predictions. Raises Refused if they do not fit the labels."""
    parameters = read_parameters(READERS)
    diagnoses = read_column(DIAGNOSES, "malignant", between(int, 0, 1))
    predictions = read_column(PREDICTIONS, "probability", between(float, 0, 1))
    for patient in sorted(diagnoses.keys() ^ predictions.keys()):
        lacking = PREDICTIONS if patient in diagnoses else DIAGNOSES
        raise Refused(f"{lacking.name}: lacks patient {patient}; both tables need the same ones")
    if set(diagnoses.values()) != {0, 1}:
        raise Refused(f"{DIAGNOSES.name}: expected both malignant and benign patients")
    labels = list(diagnoses.values())
    results = score(labels, [predictions[patient] for patient in diagnoses], parameters)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def score(
    labels: list[int], probabilities: list[float], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return the results, to four digits: more would be noise, and YAML 1.1 misreads 1e-05."""
    low, high = scores.auroc_interval(
        labels,
        probabilities,
        parameters["bootstrap_resamples"],
        parameters["bootstrap_seed"],
        parameters["confidence"],
    )
    exact = {
        "auroc": scores.auroc(labels, probabilities),
        "auroc_low": low,
        "auroc_high": high,
        **scores.rates(labels, probabilities, parameters["threshold"]),
        "brier": scores.brier(labels, probabilities),
        "expected_calibration_error": scores.expected_calibration_error(
            labels, probabilities, parameters["calibration_bins"]
        ),
        "mean_probability": fmean(probabilities),
        "malignant_share": fmean(labels),
    }
    rounded = {name: round(value, 4) for name, value in exact.items()}
    return {"patients": len(labels), **rounded, **parameters}


def read_column(path: Path, column: str, read: Callable[[str], Any]) -> dict[str, Any]:
    """Return `column` of each patient. Raises Refused naming file, row and column."""
    if not path.is_file():
        raise Refused(f"{path.name}: not found")
    values: dict[str, Any] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            where = f"{path.name}, row {number}, column {column}"
            patient = row.get("patient_id")
            if not patient or patient in values:
                raise Refused(f"{where}: patient_id is {patient!r}; expected one not seen before")
            try:
                values[patient] = read(row.get(column) or "")
            except ValueError as error:
                raise Refused(f"{where}: is {row.get(column)!r}; {error}") from None
    return values


if __name__ == "__main__":
    run({"evaluate": evaluate})
