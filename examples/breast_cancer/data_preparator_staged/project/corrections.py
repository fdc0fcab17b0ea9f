"""Corrections by hand: a small CSV file for each case that waits, which a person edits.

It lies beside the prepared tables, has a row for each value that cannot be right, and is gone once
all of them can be. What the person wrote is kept with the metadata.
"""

from __future__ import annotations

import csv
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import quote

from cases import Case, Cells
from columns import COLUMNS, DIAGNOSIS
from container import Refused
from files import whole
from raw import DIAGNOSES, MISSING, read_cells
from tables import write_table

FOLDER = "to_correct"
HEADINGS = ("column", "value", "problem")
# As the value of any column: the patient is to be left out of the prepared data.
LEAVE_OUT = "leave out"
SHOWN = 20


def place(folder: Path, patient: str) -> Path:
    """Return where a patient's file of corrections is in a folder, whatever the ID has in it."""
    return folder / f"{quote(patient, safe='')}.csv"


def ask(path: Path, case: Case, problems: dict[str, str]) -> None:
    """Write the file that a person is to edit."""
    rows = [[column, case.cells[column], problem] for column, problem in problems.items()]
    with whole(path) as part:
        write_table(part, HEADINGS, rows)


def read(path: Path) -> Cells:
    """Return the values in a file of corrections by column; none if there is no such file.

    A spreadsheet may have saved it, with semicolons and decimal commas. Raises Refused.
    """
    if not path.is_file():
        return {}
    try:
        rows = [cells for _, cells in read_cells(path)]
    except (UnicodeDecodeError, csv.Error):
        raise Refused(f"{path.name}: is no CSV file in UTF-8 any more") from None
    if not rows or rows[0][:2] != ["column", "value"]:
        raise Refused(f"{path.name}, row 1: expected the headings {', '.join(HEADINGS)}")
    values = {cells[0]: cells[1] for cells in rows[1:]}
    for column in values:
        if column not in (*COLUMNS, DIAGNOSIS):
            raise Refused(f"{path.name}: unknown column {column!r}; expected, say, radius_mean")
    return values


def leaves_out(values: Cells) -> bool:
    """Return whether corrections say that the patient is to be left out."""
    return any(value.lower() == LEAVE_OUT for value in values.values())


def corrected(case: Case, values: Cells) -> Cells:
    """Return the case's cells with a person's values, each written as prepared data are."""
    return {**case.cells, **{column: prepared(column, value) for column, value in values.items()}}


def prepared(column: str, value: str) -> str:
    """Return a value as the prepared data have it; as it is where it is no such value."""
    if value.lower() in MISSING:
        return ""
    if column == DIAGNOSIS:
        return DIAGNOSES.get(value.lower(), value)
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    return f"{number.normalize():f}" if number.is_finite() else value


def refuse_waiting(data: Path) -> None:
    """Raise Refused, naming what to edit, if any case waits to be corrected."""
    files = sorted(path.name for path in (data / FOLDER).glob("*.csv"))
    if files:
        names = ", ".join(f"{FOLDER}/{name}" for name in files[:SHOWN])
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        waiting = "1 case waits" if len(files) == 1 else f"{len(files)} cases wait"
        raise Refused(
            f"{waiting} for a person. Correct the column value in {names}{more}, in "
            "the folder of the prepared data; then prepare again."
        )
