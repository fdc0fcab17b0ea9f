"""The prepared tables: how they are read and written."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from container import Refused


def read_table(path: Path, headings: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a prepared table. Raises Refused if its form is wrong."""
    if not path.is_file():
        raise Refused(f"{path.name}: not found in the prepared data")
    with path.open(encoding="utf-8", newline="") as file:
        found, *rows = list(csv.reader(file)) or [[]]
    if found != list(headings):
        raise Refused(f"{path.name}, row 1: headings {found}; expected {list(headings)}")
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(headings):
            raise Refused(
                f"{path.name}, row {number}: {len(cells)} cells; expected {len(headings)}"
            )
    return [dict(zip(headings, cells)) for cells in rows]


def text(value: Decimal | None) -> str:
    """Return a plain decimal number without exponent or trailing zeros; nothing for None."""
    return "" if value is None else f"{value.normalize():f}"


def write_table(path: Path, headings: Iterable[str], rows: Iterable[list[str]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(headings)
        writer.writerows(rows)
