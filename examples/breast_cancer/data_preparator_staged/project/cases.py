"""The cases of a site: what its files say of each patient, and what of that cannot be right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from columns import COLUMNS, DIAGNOSIS, PATIENT
from policy import Policy
from raw import Row, csv_files, read_diagnoses, read_measurements
from sanity_check import flaws
from tables import text

Cells = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A patient: the prepared cells by column, empty where nothing is known, and contradictions.

    `contradictions` says of columns in which the files contradict each other what each says.
    """

    cells: Cells
    contradictions: dict[str, str] = field(default_factory=dict)

    def problems(self, policy: Policy) -> dict[str, str]:
        """Return what cannot be right, by column."""
        return {**problems(self.cells, policy), **self.contradictions}


def read_cases(data: Path, labels: Path, policy: Policy) -> dict[str, Case]:
    """Return the cases of all of a site's files by patient, sorted. Raises Refused."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for path in csv_files(data):
        for row in read_measurements(path, policy["unlabelled_length_unit"]):
            rows[row.patient].append(row)
    diagnoses: dict[str, str] = {}
    for path in csv_files(labels):
        diagnoses.update(read_diagnoses(path))
    return {
        patient: case_of(patient, rows[patient], diagnoses.get(patient, ""))
        for patient in sorted(rows)
    }


def case_of(patient: str, rows: list[Row], diagnosis: str) -> Case:
    """Return a patient's case. A row that is there again, the same, is no flaw."""
    cells = {PATIENT: patient, DIAGNOSIS: diagnosis}
    contradictions = {}
    for column in COLUMNS:
        said = {row.values[column]: row.place() for row in reversed(rows)}
        cells[column] = text(rows[0].values[column]) if len(said) == 1 else ""
        if len(said) > 1:
            contradictions[column] = "contradicting: " + "; ".join(
                f"{text(value) or 'missing'} in {place}" for value, place in said.items()
            )
    return Case(cells, contradictions)


def problems(cells: Cells, policy: Policy) -> dict[str, str]:
    """Return what of a case's cells cannot be right, by column."""
    found = dict(flaws(cells, policy))
    if cells[DIAGNOSIS] not in ("0", "1"):
        found[DIAGNOSIS] = f"{cells[DIAGNOSIS] or 'missing'}; expected 0 (benign) or 1 (malignant)"
    return found
