"""What a site tells the registry about its data: counts, means and spreads, no patient's values."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, pstdev

from columns import COLUMNS, DIAGNOSES, DIAGNOSIS, MEASUREMENTS, PATIENT
from tables import read_table


def write_statistics(data: Path, labels: Path, out: Path) -> None:
    """Write the statistics file, JSON and so YAML too."""
    measurements = read_table(data / MEASUREMENTS, (PATIENT, *COLUMNS))
    diagnoses = [
        int(row[DIAGNOSIS]) for row in read_table(labels / DIAGNOSES, (PATIENT, DIAGNOSIS))
    ]
    statistics = {
        "patients": len(diagnoses),
        "malignant": sum(diagnoses),
        "benign": len(diagnoses) - sum(diagnoses),
        "measurements": {
            column: spread([float(row[column]) for row in measurements]) for column in COLUMNS
        },
    }
    out.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")


def spread(values: list[float]) -> dict[str, float]:
    """Return mean and standard deviation.

    Four digits, so that none is written with an exponent: YAML 1.1 reads 1e-05 as a word.
    """
    return {"mean": round(fmean(values), 4), "sd": round(pstdev(values), 4)}
