"""Prepare in stages: convert; wait until a person has corrected what cannot be right; finish.

Any run may be killed at any moment. The next one goes by what is in the folders, and makes all that
follows from it anew: the sites' files, and the corrections.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import corrections
import report
from cases import Case, Cells, problems, read_cases
from columns import COLUMNS, DIAGNOSES, DIAGNOSIS, MEASUREMENTS, PATIENT
from container import Refused
from files import sweep, whole
from policy import Policy
from report import Line
from tables import write_table


@dataclass(frozen=True)
class Places:
    """Where everything is."""

    raw_data: Path
    raw_labels: Path
    data: Path
    labels: Path
    metadata: Path
    report: Path

    def waiting(self, patient: str) -> Path:
        """Return the file that a person edits."""
        return corrections.place(self.data / corrections.FOLDER, patient)

    def corrected(self, patient: str) -> Path:
        """Return where what a person wrote is kept."""
        return corrections.place(self.metadata / "corrections", patient)


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its cells, or nothing if it is left out or `waits` for something."""

    cells: Cells | None = None
    waits: str = ""
    by_hand: bool = False


def prepare(places: Places, policy: Policy) -> None:
    """Bring every case as far as it comes, and say so in the report. Raises Refused."""
    sweep(places.data, places.labels, places.metadata, places.report.parent)
    cases = read_cases(places.raw_data, places.raw_labels, policy)
    before = report.read(places.report)
    lines = {patient: before.get(patient, Line(report.CONVERTED)) for patient in cases}
    report.write(places.report, lines)

    outcomes = {patient: settle(case, places, policy) for patient, case in cases.items()}
    for patient, outcome in outcomes.items():
        if outcome.waits:
            lines[patient] = wait(cases[patient], outcome, places, policy)
    report.write(places.report, lines)

    finish(outcomes, places)
    for patient, outcome in outcomes.items():
        if not outcome.waits:
            lines[patient] = finished(outcome)
    report.write(places.report, lines)
    waiting = sum(bool(outcome.waits) for outcome in outcomes.values())
    print(f"prepared {len(outcomes) - waiting} patients; {waiting} wait for a person")


def settle(case: Case, places: Places, policy: Policy) -> Outcome:
    """Return what becomes of a case with what a person has corrected so far."""
    if not case.problems(policy):
        return Outcome(case.cells)
    patient = case.cells[PATIENT]
    try:
        values = {
            **corrections.read(places.corrected(patient)),
            **corrections.read(places.waiting(patient)),
        }
    except Refused as error:
        return Outcome(waits=str(error))
    if corrections.leaves_out(values):
        return Outcome(by_hand=True)
    cells = corrections.corrected(case, values)
    left = problems(cells, policy)
    if left:
        left.update((column, why) for column, why in case.contradictions.items() if column in left)
        return Outcome(waits="; ".join(f"{column}: {why}" for column, why in left.items()))
    return Outcome(cells, by_hand=True)


def wait(case: Case, outcome: Outcome, places: Places, policy: Policy) -> Line:
    """Have a person find what to correct; what they have written so far stays as it is."""
    file = places.waiting(case.cells[PATIENT])
    if not file.is_file():
        corrections.ask(file, case, case.problems(policy))
    name = file.relative_to(places.data).as_posix()
    return Line(report.WAITS, f"correct {name}: {outcome.waits}", data_path=name)


def finish(outcomes: dict[str, Outcome], places: Places) -> None:
    """Keep what was corrected, write the tables, and remove the files that nobody has to edit."""
    for patient, outcome in outcomes.items():
        if outcome.by_hand and places.waiting(patient).is_file():
            with whole(places.corrected(patient)) as part:
                shutil.copyfile(places.waiting(patient), part)
    rows = [outcome.cells for outcome in outcomes.values() if outcome.cells]
    for path, columns in (
        (places.data / MEASUREMENTS, (PATIENT, *COLUMNS)),
        (places.labels / DIAGNOSES, (PATIENT, DIAGNOSIS)),
    ):
        with whole(path) as part:
            write_table(part, columns, ([row[column] for column in columns] for row in rows))
    folder = places.data / corrections.FOLDER
    waiting = [places.waiting(patient) for patient, outcome in outcomes.items() if outcome.waits]
    for file in folder.glob("*.csv"):
        if file not in waiting:
            file.unlink()
    if not waiting:
        # With what an editor may have left there.
        shutil.rmtree(folder, ignore_errors=True)


def finished(outcome: Outcome) -> Line:
    """Return the report's line of a case that waits for nothing."""
    if outcome.cells is None:
        return Line(report.FINISHED, "left out by hand")
    comment = "corrected by hand" if outcome.by_hand else ""
    return Line(report.FINISHED, comment, MEASUREMENTS, DIAGNOSES)
