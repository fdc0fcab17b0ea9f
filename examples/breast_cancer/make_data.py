"""Make `data/` from the CSV file that scikit-learn ships.

    python make_data.py .../sklearn/datasets/data/breast_cancer.csv

`data/wdbc.csv` is the whole real data set, with an ID for each patient and who holds it: three
fifths are for training, one fifth lies with each of two sites. `data/demo/` is what the two sites
have, written as sites do: each its own way, and with flaws. `data/hospitals/` is what two data
owners have, the one without flaws. Everything follows from the source file, so the same bytes come
out on every run.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
COLUMNS = [
    f"{measure.replace(' ', '_')}_{kind}"
    for kind in ("mean", "se", "worst")
    for measure in MEASURES
]
# The data owners of the demo, and the site whose first patients each has.
HOSPITALS = {"lakeside": "northgate", "hillcrest": "riverside"}
HOSPITAL_PATIENTS = 60
HOLDERS = ("training", "training", "training", "northgate", "riverside")
NOTICE = """\
Breast Cancer Wisconsin (Diagnostic)
W. Wolberg, O. Mangasarian, N. Street and W. Street (1993), UCI Machine Learning Repository
https://doi.org/10.24432/C5DW2B
Licence: Creative Commons Attribution 4.0 International (CC BY 4.0)
https://creativecommons.org/licenses/by/4.0/
Changed for this demonstration: two fifths of the patients, divided over two invented sites, with
invented patient IDs, units, headings and deliberate flaws. Not for use in diagnosis.
"""

Patient = dict[str, str]


def digest(kind: str, row: int) -> str:
    """Return a number in hexadecimal that looks drawn by chance, but is always the same."""
    return hashlib.sha256(f"{kind} {row}".encode()).hexdigest()


def read_source(path: Path) -> list[Patient]:
    """Return scikit-learn's rows with ID and holder, shuffled; both diagnoses divided alike."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(enumerate(csv.reader(file)))[1:]
    rows.sort(key=lambda numbered: digest("order", numbered[0]))
    patients = []
    dealt = {"M": 0, "B": 0}
    for number, (*values, target) in rows:
        diagnosis = "M" if target == "0" else "B"
        patients.append(
            {
                "patient_id": f"P{int(digest('patient', number), 16) % 10**7:07}",
                "held_by": HOLDERS[dealt[diagnosis] % len(HOLDERS)],
                "diagnosis": diagnosis,
                **dict(zip(COLUMNS, values, strict=True)),
            }
        )
        dealt[diagnosis] += 1
    return patients


def northgate(patients: list[Patient]) -> tuple[str, str]:
    """Return measurements and diagnoses of a site that lost cells, rows and a decimal point."""
    rows = [dict(patient) for patient in patients]
    rows[7]["texture_mean"] = ""
    rows[23]["concavity_worst"] = "NA"
    rows[41]["radius_mean"] = rows[41]["radius_mean"].replace(".", "")
    lines = [",".join(row[column] for column in ["patient_id", *COLUMNS]) for row in rows]
    lines.insert(60, lines[52])
    lines.insert(30, "," * len(COLUMNS))
    lines.insert(12, "")
    diagnoses = [f"{row['patient_id']},{row['diagnosis']}" for row in rows]
    return (
        "\n".join([",".join(["patient_id", *COLUMNS]), *lines]) + "\n",
        "\n".join(["patient_id,diagnosis", *diagnoses]) + "\n",
    )


def riverside(patients: list[Patient]) -> tuple[str, str]:
    """Return the same of a site with a European spreadsheet, millimetres and its own order."""
    rows = [millimetres(patient) for patient in patients]
    rows[3]["symmetry_se"] = "n/a"
    rows[17]["area_worst"] = "-" + rows[17]["area_worst"]
    rows.append({**rows[29], "smoothness_mean": rows[30]["smoothness_mean"]})
    columns = [*reversed(COLUMNS), "patient_id"]
    lines = [";".join(row[column] for column in columns).replace(".", ",") for row in rows]
    lines.insert(75, "")
    words = {"M": "Malignant", "B": "benign "}
    diagnoses = [f"{words[row['diagnosis']]};{row['patient_id']}" for row in rows[:-1]]
    diagnoses[55] = diagnoses[55].replace(diagnoses[55].partition(";")[0], "")
    byte_order_mark = "\ufeff"
    return (
        byte_order_mark + "\n".join([";".join(map(heading, columns)), *lines]) + "\n",
        byte_order_mark + "\n".join(["Diagnosis;Patient ID", *diagnoses]) + "\n",
    )


def lakeside(patients: list[Patient]) -> tuple[str, str]:
    """Return the same of a hospital that writes as riverside does, and has no flaws."""
    rows = [millimetres(patient) for patient in patients]
    columns = ["patient_id", *COLUMNS]
    lines = [";".join(row[column] for column in columns).replace(".", ",") for row in rows]
    diagnoses = [f"{row['patient_id']};{row['diagnosis']}" for row in rows]
    return (
        "\n".join([";".join(map(heading, columns)), *lines]) + "\n",
        "\n".join(["Patient ID;Diagnosis", *diagnoses]) + "\n",
    )


def hillcrest(patients: list[Patient]) -> tuple[str, str]:
    """Return the same of a hospital that lost a cell, a decimal point and a diagnosis."""
    rows = [dict(patient) for patient in patients]
    rows[5]["texture_mean"] = ""
    rows[19]["radius_mean"] = rows[19]["radius_mean"].replace(".", "")
    lines = [",".join(row[column] for column in ["patient_id", *COLUMNS]) for row in rows]
    lines.insert(40, lines[33])
    diagnoses = [f"{row['patient_id']},{row['diagnosis']}" for row in rows]
    diagnoses[44] = diagnoses[44][:-1]
    return (
        "\n".join([",".join(["patient_id", *COLUMNS]), *lines]) + "\n",
        "\n".join(["patient_id,diagnosis", *diagnoses]) + "\n",
    )


def millimetres(patient: Patient) -> Patient:
    """Return the patient with lengths in mm and areas in mm2 instead of um and um2."""

    def divided(column: str) -> str:
        per = {"radius": 1000, "perimeter": 1000, "area": 1_000_000}.get(column.rpartition("_")[0])
        return f"{Decimal(patient[column]) / per:f}" if per else patient[column]

    return {**patient, **{column: divided(column) for column in COLUMNS}}


def heading(column: str) -> str:
    """Return a column's heading at riverside: `Worst area [mm2]` for `area_worst`."""
    if column == "patient_id":
        return "Patient ID"
    measure, _, kind = column.rpartition("_")
    unit = {"radius": " [mm]", "perimeter": " [mm]", "area": " [mm2]"}.get(measure, "")
    word = {"mean": "Mean", "se": "Error", "worst": "Worst"}[kind]
    return f"{word} {measure.replace('_', ' ')}{unit}"


def make(source: Path, out: Path) -> None:
    """Write everything under the folder `out`."""
    patients = read_source(source)
    write(
        out / "wdbc.csv",
        "\n".join(
            ",".join(row)
            for row in [list(patients[0])] + [list(patient.values()) for patient in patients]
        )
        + "\n",
    )
    for write_up in (northgate, riverside):
        held = [row for row in patients if row["held_by"] == write_up.__name__]
        write_site(out / "demo", write_up, held)
    for write_up in (lakeside, hillcrest):
        name = write_up.__name__
        held = [row for row in patients if row["held_by"] == HOSPITALS[name]]
        write_site(out / "hospitals" / name, write_up, held[:HOSPITAL_PATIENTS])
    write(out / "demo" / "paths.yaml", "data_path: measurements\nlabels_path: diagnoses\n")
    for folder in ("demo", "hospitals"):
        write(out / folder / "NOTICE.txt", NOTICE)


def write_site(
    folder: Path, write_up: Callable[[list[Patient]], tuple[str, str]], held: list[Patient]
) -> None:
    """Write a site's files of the patients that it holds."""
    measurements, diagnoses = write_up(held)
    write(folder / "measurements" / f"{write_up.__name__}.csv", measurements)
    write(folder / "diagnoses" / f"{write_up.__name__}.csv", diagnoses)


def write(path: Path, text: str) -> None:
    """Write a text file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="scikit-learn's breast_cancer.csv")
    make(parser.parse_args().source, DATA)
