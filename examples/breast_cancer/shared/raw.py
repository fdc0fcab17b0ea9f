"""Read a site's own CSV files: its order of columns, headings, units and decimal comma."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from columns import COLUMNS, PATIENT, Column, recognise
from container import Refused

MISSING = {"", "-", "?", "na", "n/a", "nan"}
DIAGNOSES = {"m": "1", "malignant": "1", "b": "0", "benign": "0"}


@dataclass(frozen=True)
class Row:
    """One row of measurements: where it stands, whose it is, a value or None for each column."""

    file: str
    number: int
    patient: str
    values: dict[str, Decimal | None]

    def place(self, column: str = "") -> str:
        """Return the place in words, for messages."""
        return f"{self.file}, row {self.number}" + (f", column {column}" if column else "")


def csv_files(folder: Path) -> list[Path]:
    """Return the CSV files of a folder, by name. Raises Refused if there are none."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise Refused(f"{folder}: holds no .csv file; expected one for each site")
    return paths


def read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and stripped cells of each row that is not blank, the headings first.

    Rows are numbered from 1 as a spreadsheet does. A file separated by semicolons is taken for
    one with decimal commas, as spreadsheets write it in most of Europe. Raises Refused for a row
    that is shorter or longer than the headings.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        semicolons = first.count(";") > first.count(",")
        file.seek(0)
        width = 0
        for number, line in enumerate(csv.reader(file, delimiter=";" if semicolons else ","), 1):
            cells = [cell.strip() for cell in line]
            if not any(cells):
                continue
            width = width or len(cells)
            if len(cells) != width:
                raise Refused(
                    f"{path.name}, row {number}: {len(cells)} cells; expected {width}, as many as "
                    "there are headings"
                )
            yield number, [cell.replace(",", ".") for cell in cells] if semicolons else cells


def read_measurements(path: Path, unlabelled_unit: str) -> list[Row]:
    """Return a site's measurements in the prepared units (um, um2).

    Raises Refused for a heading that is unknown, repeated or lacking, for a row without patient
    and for a cell that is neither a number nor a known word for a missing one.
    """
    rows = read_cells(path)
    _, headings = next(rows, (1, []))
    try:
        columns = [recognise(heading, unlabelled_unit) for heading in headings]
    except Refused as error:
        raise Refused(f"{path.name}, row 1: {error}") from None
    names = [column.name for column in columns]
    for name in (PATIENT, *COLUMNS):
        if names.count(name) != 1:
            raise Refused(f"{path.name}, row 1: {names.count(name)} columns {name}; expected 1")
    return [read_row(path.name, number, columns, cells) for number, cells in rows]


def read_row(file: str, number: int, columns: list[Column], cells: list[str]) -> Row:
    """Return one row of measurements. Raises Refused."""
    row = Row(file, number, cells[[column.name for column in columns].index(PATIENT)], {})
    if not row.patient:
        raise Refused(f"{row.place(PATIENT)}: empty")
    for column, cell in zip(columns, cells):
        if column.name == PATIENT:
            continue
        try:
            value = None if cell.lower() in MISSING else Decimal(cell) * column.factor
        except InvalidOperation:
            raise Refused(f"{row.place(column.name)}: {cell!r} is not a number") from None
        if value is not None and not value.is_finite():
            raise Refused(f"{row.place(column.name)}: {cell!r} is not a finite number")
        row.values[column.name] = value
    return row


def read_diagnoses(path: Path) -> dict[str, str]:
    """Return `1` (malignant) or `0` (benign) of each patient of a site that has a diagnosis.

    Raises Refused for other headings, unknown words and contradicting diagnoses of a patient.
    """
    rows = read_cells(path)
    _, headings = next(rows, (1, []))
    names = [heading.lower().replace(" ", "_") for heading in headings]
    if sorted(names) != ["diagnosis", PATIENT]:
        raise Refused(f"{path.name}, row 1: headings {headings}; expected {PATIENT}, diagnosis")
    diagnoses: dict[str, str] = {}
    for number, cells in rows:
        row = dict(zip(names, cells))
        word = row["diagnosis"].lower()
        if word in MISSING:
            continue
        where = f"{path.name}, row {number}, column diagnosis"
        if word not in DIAGNOSES:
            raise Refused(f"{where}: {word!r}; expected one of {', '.join(DIAGNOSES)}")
        if diagnoses.setdefault(row[PATIENT], DIAGNOSES[word]) != DIAGNOSES[word]:
            raise Refused(f"{where}: {word!r} contradicts an earlier row of {row[PATIENT]}")
    return diagnoses
