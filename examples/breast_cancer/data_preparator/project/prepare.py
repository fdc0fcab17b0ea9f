"""Mend the sites' raw files into one clean table of measurements and one of diagnoses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from columns import COLUMNS, DIAGNOSES, DIAGNOSIS, MEASUREMENTS, PATIENT
from container import Refused
from policy import Policy, accepted, one_of
from raw import Row, csv_files, read_diagnoses, read_measurements
from tables import text, write_table

# The parameters that say how flaws are mended.
RULES: dict[str, Callable[[str], Any]] = {
    "duplicates": one_of("drop", "keep"),
    "impossible_values": one_of("drop", "missing", "keep"),
    "missing_values": one_of("median", "drop", "keep"),
}


def prepare(data: Path, labels: Path, out: Path, out_labels: Path, policy: Policy) -> None:
    """Write the prepared tables of all sites' files. Prints what it mends. Raises Refused."""
    unit = policy["unlabelled_length_unit"]
    rows = [row for path in csv_files(data) for row in read_measurements(path, unit)]
    diagnoses = {
        patient: diagnosis
        for path in csv_files(labels)
        for patient, diagnosis in read_diagnoses(path).items()
    }
    rows = mend_duplicates(rows, policy["duplicates"])
    rows = mend_impossible(rows, policy)
    rows = mend_missing(rows, policy["missing_values"])
    rows = sorted(diagnosed(rows, diagnoses), key=lambda row: (row.patient, row.file, row.number))
    write_table(
        out / MEASUREMENTS,
        (PATIENT, *COLUMNS),
        ([row.patient, *(text(row.values[column]) for column in COLUMNS)] for row in rows),
    )
    patients = sorted({row.patient for row in rows})
    write_table(
        out_labels / DIAGNOSES,
        (PATIENT, DIAGNOSIS),
        ([patient, diagnoses[patient]] for patient in patients),
    )
    print(f"prepared {len(patients)} patients")


def mend_duplicates(rows: list[Row], rule: str) -> list[Row]:
    """Leave one of a patient's identical rows and none of contradicting ones, unless kept."""
    if rule == "keep":
        return rows
    by_patient: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_patient[row.patient].append(row)
    kept = []
    for first, *others in by_patient.values():
        same = all(row.values == first.values for row in others)
        for row in others:
            words = "repeats" if same else "contradicts"
            print(f"{row.place()}: {words} {first.place()}; dropped {'it' if same else 'both'}")
        if same:
            kept.append(first)
    return kept


def mend_impossible(rows: list[Row], policy: Policy) -> list[Row]:
    """Apply the rule for measurements outside their accepted range."""
    rule = policy["impossible_values"]
    kept = []
    for row in rows:
        impossible = [
            column
            for column, value in row.values.items()
            if value is not None and not within(value, accepted(policy, column))
        ]
        for column in impossible if rule != "keep" else ():
            print(f"{row.place(column)}: {text(row.values[column])} is impossible; rule: {rule}")
        if rule == "missing":
            row = replace(row, values={**row.values, **dict.fromkeys(impossible)})
        if rule != "drop" or not impossible:
            kept.append(row)
    return kept


def mend_missing(rows: list[Row], rule: str) -> list[Row]:
    """Apply the rule for missing measurements. Raises Refused where there is no median."""
    kept = []
    for row in rows:
        missing = [column for column, value in row.values.items() if value is None]
        for column in missing if rule != "keep" else ():
            print(f"{row.place(column)}: missing; rule: {rule}")
        if rule == "median":
            row = replace(
                row,
                values={**row.values, **{name: site_median(rows, row, name) for name in missing}},
            )
        if rule != "drop" or not missing:
            kept.append(row)
    return kept


def site_median(rows: list[Row], gap: Row, column: str) -> Decimal:
    """Return the median of `column` over the other patients of the site that `gap` is of."""
    values = [
        value for row in rows if row.file == gap.file and (value := row.values[column]) is not None
    ]
    if not values:
        raise Refused(f"{gap.place(column)}: missing, and so for all patients; no median to use")
    return median(values)


def diagnosed(rows: list[Row], diagnoses: dict[str, str]) -> list[Row]:
    """Return the rows of patients whose diagnosis is known: the others cannot be scored."""
    for row in rows:
        if row.patient not in diagnoses:
            print(f"{row.place()}: {row.patient} has no diagnosis; dropped")
    return [row for row in rows if row.patient in diagnoses]


def within(value: Decimal, limits: tuple[Decimal, Decimal]) -> bool:
    """Return whether `value` is inside `limits`, both included."""
    return limits[0] <= value <= limits[1]
