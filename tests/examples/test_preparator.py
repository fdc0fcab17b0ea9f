"""Every flaw of the sites' files is mended by the preparator, or refused by its sanity check."""

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import yaml

from tests.examples.benchmark import DEMO, EXAMPLE, Prepared, Run, read_rows, run_task, write_rows

REAL = {row["patient_id"]: row for row in read_rows(EXAMPLE / "data" / "wdbc.csv")}
COLUMNS = [
    key for key in next(iter(REAL.values())) if key not in ("patient_id", "held_by", "diagnosis")
]


def prepare(root: Path, **changed: object) -> Run:
    """Prepare the demo data with changed parameters."""
    inputs = {"data_path": DEMO / "measurements", "labels_path": DEMO / "diagnoses"}
    return run_task("data_preparator", "prepare", root, inputs, changed)


def check(root: Path, data: Path, labels: Path, **changed: object) -> Run:
    """Run the sanity check."""
    inputs = {"data_path": data, "labels_path": labels}
    return run_task("data_preparator", "sanity_check", root, inputs, changed)


def measurements(folder: Path) -> dict[str, dict[str, str]]:
    """Return the prepared measurements of each patient."""
    return {row["patient_id"]: row for row in read_rows(folder / "measurements.csv")}


def held_by(site: str) -> list[dict[str, str]]:
    """Return the real patients of a site, in the order of its file."""
    return [row for row in REAL.values() if row["held_by"] == site]


NORTHGATE, RIVERSIDE = held_by("northgate"), held_by("riverside")
GAPS = {
    (NORTHGATE[7]["patient_id"], "texture_mean"),
    (NORTHGATE[23]["patient_id"], "concavity_worst"),
    (RIVERSIDE[3]["patient_id"], "symmetry_se"),
}
LOST_POINT, NEGATIVE = NORTHGATE[41]["patient_id"], RIVERSIDE[17]["patient_id"]
REPEATED, CONTRADICTED = NORTHGATE[52]["patient_id"], RIVERSIDE[29]["patient_id"]
UNDIAGNOSED = RIVERSIDE[55]["patient_id"]


def test_prepared_values_are_the_real_ones_whatever_a_site_made_of_them(
    prepared: Prepared,
) -> None:
    rows = measurements(prepared.data)
    wrong = {
        (patient, column)
        for patient, row in rows.items()
        for column in COLUMNS
        if Decimal(row[column]) != Decimal(REAL[patient][column])
    }
    assert wrong == GAPS


def test_patients_that_cannot_be_mended_are_dropped_and_no_others(prepared: Prepared) -> None:
    lost = {row["patient_id"] for row in NORTHGATE + RIVERSIDE} - set(measurements(prepared.data))
    assert lost == {LOST_POINT, NEGATIVE, CONTRADICTED, UNDIAGNOSED}


def test_prepared_diagnoses_are_the_real_ones(prepared: Prepared) -> None:
    rows = read_rows(prepared.labels / "diagnoses.csv")
    assert [row["patient_id"] for row in rows] == list(measurements(prepared.data))
    for row in rows:
        assert row["malignant"] == {"M": "1", "B": "0"}[REAL[row["patient_id"]]["diagnosis"]]


def test_a_gap_is_filled_with_the_median_of_the_same_site(prepared: Prepared) -> None:
    others = [
        Decimal(row["texture_mean"])
        for row in NORTHGATE
        if row["patient_id"] not in (LOST_POINT, NORTHGATE[7]["patient_id"])
    ]
    filled = measurements(prepared.data)[NORTHGATE[7]["patient_id"]]["texture_mean"]
    assert Decimal(filled) == median(others)


def test_what_is_mended_is_said_by_file_row_and_column(prepared: Prepared) -> None:
    for line in (
        "northgate.csv, row 9, column texture_mean: missing; rule: median",
        "northgate.csv, row 45, column radius_mean: 1095 is impossible; rule: drop",
        "northgate.csv, row 64: repeats northgate.csv, row 56; dropped it",
        "riverside.csv, row 116: contradicts riverside.csv, row 31; dropped both",
        f"riverside.csv, row 57: {UNDIAGNOSED} has no diagnosis; dropped",
    ):
        assert line in prepared.run.printed.splitlines()
    northgate = (DEMO / "measurements" / "northgate.csv").read_text().splitlines()
    assert northgate[45 - 1].startswith(LOST_POINT)


def test_the_prepared_demo_data_pass_the_sanity_check(prepared: Prepared, tmp_path: Path) -> None:
    run = check(tmp_path / "run", prepared.data, prepared.labels)
    assert (run.code, run.printed) == (0, "222 patients: nothing wrong\n")


@pytest.mark.parametrize(
    ("changed", "patient", "problem"),
    [
        ({"missing_values": "keep"}, NORTHGATE[7]["patient_id"], "column texture_mean: missing"),
        (
            {"impossible_values": "keep"},
            LOST_POINT,
            "column radius_mean: 1095 is outside the accepted 3 to 60",
        ),
        (
            {"impossible_values": "keep"},
            NEGATIVE,
            f"column area_worst: -{RIVERSIDE[17]['area_worst']} is outside the accepted 50 to 6000",
        ),
        ({"duplicates": "keep"}, REPEATED, f"column patient_id: {REPEATED} stands in row"),
        ({"duplicates": "keep"}, CONTRADICTED, f"column patient_id: {CONTRADICTED} stands in row"),
    ],
)
def test_a_flaw_that_is_kept_is_refused_by_file_row_and_column(
    changed: dict[str, str], patient: str, problem: str, tmp_path: Path
) -> None:
    run = prepare(tmp_path / "prepare", **changed)
    data, labels = run.output("output_path"), run.output("output_labels_path")
    checked = check(tmp_path / "check", data, labels, **changed)
    rows = [row["patient_id"] for row in read_rows(data / "measurements.csv")]
    number = len(rows) - rows[::-1].index(patient) + 1
    assert checked.code == 1
    assert f"measurements.csv, row {number}, {problem}" in checked.errors


@pytest.mark.parametrize(
    ("changed", "dropped"),
    [
        ({"missing_values": "drop"}, {patient for patient, _ in GAPS} | {LOST_POINT, NEGATIVE}),
        ({"impossible_values": "missing"}, set()),
    ],
)
def test_parameters_decide_who_is_dropped(
    changed: dict[str, str], dropped: set[str], tmp_path: Path
) -> None:
    rows = measurements(prepare(tmp_path / "run", **changed).output("output_path"))
    all_patients = {row["patient_id"] for row in NORTHGATE + RIVERSIDE}
    assert all_patients - set(rows) == dropped | {CONTRADICTED, UNDIAGNOSED}


def test_an_unlabelled_length_is_read_in_the_unit_of_the_parameters(tmp_path: Path) -> None:
    changed = {"unlabelled_length_unit": "mm", "impossible_values": "keep"}
    run = prepare(tmp_path / "prepare", **changed)
    rows = measurements(run.output("output_path"))
    for real, factor in ((NORTHGATE[0], 1000), (RIVERSIDE[0], 1)):
        row = rows[real["patient_id"]]
        assert Decimal(row["radius_mean"]) == Decimal(real["radius_mean"]) * factor
        assert Decimal(row["area_mean"]) == Decimal(real["area_mean"]) * factor**2
        assert Decimal(row["texture_mean"]) == Decimal(real["texture_mean"])
    data, labels = run.output("output_path"), run.output("output_labels_path")
    assert check(tmp_path / "check", data, labels, **changed).code == 1


def test_the_accepted_range_decides_what_is_impossible(tmp_path: Path) -> None:
    run = prepare(tmp_path / "run", accepted_radius="3 to 20")
    assert 0 < len(measurements(run.output("output_path"))) < 200


def set_cell(file: str, row: int, column: str, value: str) -> Callable[[Path], None]:
    """Return a damage that puts `value` into a cell of a prepared table."""

    def damage(folder: Path) -> None:
        rows = read_rows(folder / file)
        rows[row - 2][column] = value
        write_rows(folder / file, rows)

    return damage


def cut_rows(file: str, keep: int) -> Callable[[Path], None]:
    """Return a damage that leaves the first rows of a prepared table only."""
    return lambda folder: write_rows(folder / file, read_rows(folder / file)[:keep])


def cut_column(file: str, column: str) -> Callable[[Path], None]:
    """Return a damage that removes a column from a prepared table."""

    def damage(folder: Path) -> None:
        rows = read_rows(folder / file)
        write_rows(folder / file, [{k: v for k, v in r.items() if k != column} for r in rows])

    return damage


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            set_cell("measurements.csv", 5, "area_se", "wide"),
            "measurements.csv, row 5, column area_se: 'wide' is not a number",
        ),
        (
            set_cell("measurements.csv", 5, "area_worst", "nan"),
            "measurements.csv, row 5, column area_worst: NaN is outside the accepted 50 to 6000",
        ),
        (
            set_cell("measurements.csv", 9, "radius_worst", "3"),
            "measurements.csv, row 9, column radius_worst: 3 is below radius_mean",
        ),
        (
            set_cell("measurements.csv", 3, "patient_id", ""),
            "measurements.csv, row 3, column patient_id: empty",
        ),
        (
            set_cell("diagnoses.csv", 4, "malignant", "M"),
            "diagnoses.csv, row 4, column malignant: 'M'; expected 0 (benign) or 1 (malignant)",
        ),
        (
            set_cell("diagnoses.csv", 4, "patient_id", "P0"),
            "diagnoses.csv, row 4, column patient_id: P0 is not in measurements.csv",
        ),
        (cut_rows("diagnoses.csv", 221), "is not in diagnoses.csv"),
        (cut_rows("measurements.csv", 10), "measurements.csv: 10 patients; expected at least"),
        (cut_column("measurements.csv", "symmetry_se"), "measurements.csv, row 1: headings"),
        (lambda folder: (folder / "diagnoses.csv").unlink(), "diagnoses.csv: not found"),
        (lambda folder: (folder / "measurements.csv").write_text(""), "row 1: headings []"),
    ],
)
def test_a_damaged_prepared_set_is_refused_by_file_row_and_column(
    damage: Callable[[Path], None], problem: str, prepared: Prepared, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(prepared.data, both)
    shutil.copytree(prepared.labels, both, dirs_exist_ok=True)
    damage(both)
    run = check(tmp_path / "run", both, both)
    assert run.code == 1
    assert problem in run.errors


@pytest.mark.parametrize(
    ("folder", "old", "new", "problem"),
    [
        ("measurements", "texture_se", "colour_se", "row 1: unknown heading 'colour_se'"),
        ("measurements", "area_se", "area_se [ft2]", "row 1: unknown unit in heading"),
        ("measurements", "texture_se", "texture_mean", "row 1: 2 columns texture_mean; expected 1"),
        ("measurements", "P6370279,", "P6370279,0,", "row 2: 32 cells; expected 31"),
        ("measurements", "P6370279,", ",", "row 2, column patient_id: empty"),
        ("measurements", "P6370279,", "P6370279,x", "row 2, column radius_mean: 'x"),
        ("diagnoses", "P6370279,B", "P6370279,X", "row 2, column diagnosis: 'x'; expected one of"),
        ("diagnoses", "P5400653,", "P6370279,M\nP5400653,", "row 3, column diagnosis: 'm' contra"),
        ("diagnoses", "diagnosis", "finding", "row 1: headings ['patient_id', 'finding']"),
    ],
)
def test_a_raw_file_that_cannot_be_understood_is_refused_by_place(
    folder: str, old: str, new: str, problem: str, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(DEMO, raw)
    path = raw / folder / "northgate.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    inputs = {"data_path": raw / "measurements", "labels_path": raw / "diagnoses"}
    run = run_task("data_preparator", "prepare", tmp_path / "run", inputs)
    assert run.code == 1
    assert f"northgate.csv, {problem}" in run.errors
    assert "Traceback" not in run.errors


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs = {"data_path": tmp_path / "empty", "labels_path": DEMO / "diagnoses"}
    run = run_task("data_preparator", "prepare", tmp_path / "run", inputs)
    assert run.code == 1
    assert "holds no .csv file" in run.errors


def test_a_column_without_any_value_has_no_median(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(DEMO, raw)
    rows = read_rows(raw / "measurements" / "northgate.csv")
    write_rows(raw / "measurements" / "northgate.csv", [{**row, "area_se": ""} for row in rows])
    inputs = {"data_path": raw / "measurements", "labels_path": raw / "diagnoses"}
    run = run_task("data_preparator", "prepare", tmp_path / "run", inputs)
    assert run.code == 1
    assert "column area_se: missing, and so for all patients" in run.errors


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"duplicates": "merge"}, "duplicates: is 'merge'; expected one of drop, keep"),
        ({"accepted_area": "50-600"}, "accepted_area: is '50-600'; expected two numbers"),
        ({"minimum_patients": "few"}, "minimum_patients: is 'few'; expected int from 1"),
        ({"minimum_patients": 0}, "minimum_patients: is '0'; expected int from 1"),
        ({"outliers": "drop"}, "outliers: unknown; expected one of"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_was_expected(
    changed: dict[str, object], problem: str, tmp_path: Path
) -> None:
    run = prepare(tmp_path / "run", **changed)
    assert run.code == 1
    assert problem in run.errors


def test_statistics_are_those_of_the_prepared_data(prepared: Prepared, tmp_path: Path) -> None:
    run = run_task("data_preparator", "statistics", tmp_path / "run", prepared.inputs())
    statistics = yaml.safe_load(run.output("output_path").read_text())
    rows = measurements(prepared.data)
    assert statistics["patients"] == len(rows) == statistics["malignant"] + statistics["benign"]
    assert statistics["malignant"] == sum(REAL[patient]["diagnosis"] == "M" for patient in rows)
    for column in COLUMNS:
        values = np.array([float(row[column]) for row in rows.values()])
        spread = statistics["measurements"][column]
        assert spread["mean"] == pytest.approx(values.mean(), abs=5.1e-5)
        assert spread["sd"] == pytest.approx(values.std(), abs=5.1e-5)
