"""The report: how far each case is, for the client to show and for the next run to go on from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from files import whole

# What the column `status` counts, and its words.
CONVERTED, WAITS, FINISHED = 1, 2, 3
NAMES = {CONVERTED: "CONVERTED", WAITS: "WAITS_FOR_CORRECTION", FINISHED: "FINISHED"}


COLUMNS = ("status", "comment", "data_path", "labels_path")


@dataclass(frozen=True)
class Line:
    """How far a case is. Its paths are in the folders of prepared data and labels."""

    status: int
    comment: str = ""
    data_path: str = ""
    labels_path: str = ""


def read(path: Path) -> dict[str, Line]:
    """Return the lines of the report by case; none if there is no whole report."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {
            case: Line(*(table[column][case] for column in COLUMNS)) for case in table["status"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(path: Path, lines: dict[str, Line]) -> None:
    """Write the report, `{column: {case: value}}` in JSON and so in YAML too."""
    table: dict[str, dict[str, object]] = {
        column: {case: asdict(line)[column] for case, line in lines.items()} for column in COLUMNS
    }
    table["status_name"] = {case: NAMES[line.status] for case, line in lines.items()}
    text = json.dumps(table, indent=1) + "\n"
    try:
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError:
        # Where the file is mounted by itself, nothing can take its place.
        path.write_text(text, encoding="utf-8")
