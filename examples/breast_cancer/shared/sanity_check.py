"""Refuse a prepared data set that is not what models and metrics may rely on."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

from columns import COLUMNS, DIAGNOSES, DIAGNOSIS, MEASUREMENTS, MEASURES, PATIENT
from container import Refused
from policy import Policy, accepted
from tables import read_table

SHOWN = 20


def sanity_check(data: Path, labels: Path, policy: Policy) -> None:
    """Check the prepared tables. Raises Refused naming file, row and column of what is wrong."""
    measurements = read_table(data / MEASUREMENTS, (PATIENT, *COLUMNS))
    diagnoses = read_table(labels / DIAGNOSES, (PATIENT, DIAGNOSIS))
    problems = [
        *too_few(measurements, policy["minimum_patients"]),
        *wrong_patients(MEASUREMENTS, measurements, DIAGNOSES, diagnoses),
        *wrong_patients(DIAGNOSES, diagnoses, MEASUREMENTS, measurements),
        *wrong_measurements(measurements, policy),
        *wrong_diagnoses(diagnoses),
    ]
    if problems:
        hidden = len(problems) - SHOWN
        more = [f"and {hidden} more"] if hidden > 0 else []
        raise Refused("\n".join([f"{len(problems)} problems:", *problems[:SHOWN], *more]))
    print(f"{len(measurements)} patients: nothing wrong")


def too_few(rows: list[dict[str, str]], minimum: int) -> Iterator[str]:
    """Yield that there are fewer patients than `minimum`, if so."""
    if len(rows) < minimum:
        yield f"{MEASUREMENTS}: {len(rows)} patients; expected at least minimum_patients, {minimum}"


def wrong_patients(
    file: str, rows: list[dict[str, str]], other_file: str, others: list[dict[str, str]]
) -> Iterator[str]:
    """Yield patients of `rows` without name, named twice, or not in the other table."""
    other_patients = {row[PATIENT] for row in others}
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        patient = row[PATIENT]
        where = f"{file}, row {number}, column {PATIENT}"
        if not patient:
            yield f"{where}: empty"
        elif patient in seen:
            yield f"{where}: {patient} stands in row {seen[patient]} already"
        elif patient not in other_patients:
            yield f"{where}: {patient} is not in {other_file}"
        seen.setdefault(patient, number)


def wrong_measurements(rows: list[dict[str, str]], policy: Policy) -> Iterator[str]:
    """Yield measurements that are missing, no number, outside their range or contradicting."""
    for number, row in enumerate(rows, start=2):
        for column, problem in flaws(row, policy):
            yield f"{MEASUREMENTS}, row {number}, column {column}: {problem}"


def flaws(row: dict[str, str], policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the columns of a patient's row that cannot be right, and why."""
    values: dict[str, Decimal] = {}
    for column in COLUMNS:
        try:
            values[column] = possible(row[column], *accepted(policy, column))
        except Refused as error:
            yield column, str(error)
    for measure in MEASURES:
        mean, worst = values.get(f"{measure}_mean"), values.get(f"{measure}_worst")
        if mean is not None and worst is not None and worst < mean:
            yield f"{measure}_worst", f"{worst} is below {measure}_mean, {mean}"


def possible(cell: str, low: Decimal, high: Decimal) -> Decimal:
    """Return the number in `cell`. Raises Refused unless it is one from `low` to `high`."""
    if not cell:
        raise Refused("missing")
    try:
        value = Decimal(cell)
    except InvalidOperation:
        raise Refused(f"{cell!r} is not a number") from None
    if not (value.is_finite() and low <= value <= high):
        raise Refused(f"{value} is outside the accepted {low} to {high}")
    return value


def wrong_diagnoses(rows: list[dict[str, str]]) -> Iterator[str]:
    """Yield diagnoses that are neither 0 nor 1."""
    for number, row in enumerate(rows, start=2):
        if row[DIAGNOSIS] not in ("0", "1"):
            yield (
                f"{DIAGNOSES}, row {number}, column {DIAGNOSIS}: {row[DIAGNOSIS]!r}; expected 0 "
                "(benign) or 1 (malignant)"
            )
