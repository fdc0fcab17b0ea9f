"""The columns of the prepared data, and how a site's own headings are recognised as them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from container import Refused

MEASUREMENTS = "measurements.csv"
DIAGNOSES = "diagnoses.csv"

PATIENT = "patient_id"
DIAGNOSIS = "malignant"
MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
COLUMNS = tuple(f"{measure}_{kind}" for kind in ("mean", "se", "worst") for measure in MEASURES)

MICROMETRES = {"um": Decimal(1), "mm": Decimal(1000)}
LENGTH_POWERS = {"radius": 1, "perimeter": 1, "area": 2}
KINDS = {"mean": "mean", "se": "se", "error": "se", "worst": "worst"}


@dataclass(frozen=True)
class Column:
    """A column of a site's file: its prepared name, and the factor to the prepared unit."""

    name: str
    factor: Decimal = Decimal(1)


def measure_of(column: str) -> str:
    """Return the measure of a prepared column: `area` of `area_worst`."""
    return column.rpartition("_")[0]


def recognise(heading: str, unlabelled_unit: str) -> Column:
    """Return the column a site means by `heading`, such as `Worst area [mm2]` or `area_worst`.

    Raises Refused for a heading or unit that is not known.
    """
    title, _, bracket = heading.strip().lower().partition("[")
    words = re.findall(r"[a-z]+", title)
    name = "_".join(word for word in words if word not in KINDS)
    kinds = [KINDS[word] for word in words if word in KINDS]
    if name == PATIENT and not kinds:
        return Column(PATIENT)
    if name not in MEASURES or len(kinds) != 1:
        raise Refused(f"unknown heading {heading!r}; expected {PATIENT} or, say, radius_mean")
    power = LENGTH_POWERS.get(name, 0)
    unit = bracket.rstrip("]").removesuffix("2") or unlabelled_unit
    if unit not in MICROMETRES or (bracket and not power):
        raise Refused(f"unknown unit in heading {heading!r}; expected a length in um or mm")
    return Column(f"{name}_{kinds[0]}", MICROMETRES[unit] ** power)
