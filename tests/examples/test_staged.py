"""The preparator that works in stages waits for a person, goes on, and loses nothing."""

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from medperf_client.containers.job import Job
from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.spec import load
from medperf_client.errors import ContainerFailed
from tests.examples.benchmark import (
    EXAMPLE,
    HOSPITALS,
    Run,
    Task,
    laid_out,
    packaging,
    read_rows,
    run_task,
    write_rows,
)

STAGED = "data_preparator_staged"
REAL = {row["patient_id"]: row for row in read_rows(EXAMPLE / "data" / "wdbc.csv")}
PATIENTS = [row["patient_id"] for row in REAL.values() if row["held_by"] == "riverside"][:60]
# Runs main.py, which is killed before the so-manieth time that it changes anything in its volumes.
KILLED = """
import os, runpy, signal, sys
left = int(sys.argv.pop(1))
def look(event, arguments):
    global left
    writes = event == "open" and arguments[1] not in (None, "r", "rb")
    changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
    if (writes or changes) and "volumes" in os.fspath(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
runpy.run_path("main.py", run_name="__main__")
"""
# What hillcrest lost.
GAP, LOST_POINT, UNDIAGNOSED = PATIENTS[5], PATIENTS[19], PATIENTS[44]
TRUTH = {
    GAP: REAL[GAP]["texture_mean"],
    LOST_POINT: REAL[LOST_POINT]["radius_mean"],
    UNDIAGNOSED: REAL[UNDIAGNOSED]["diagnosis"],
}


def raw(hospital: str) -> dict[str, Path]:
    """A hospital's raw data, as inputs."""
    folder = HOSPITALS / hospital
    return {"data_path": folder / "measurements", "labels_path": folder / "diagnoses"}


@dataclass(frozen=True)
class Working:
    """A working copy that every run of `prepare` finds again."""

    root: Path
    inputs: dict[str, Path]

    def task(self) -> Task:
        """The next `prepare`."""
        return laid_out(STAGED, "prepare", self.root, self.inputs)

    def prepares(self) -> str:
        """What a `prepare` prints, which must succeed."""
        done = self.task().run()
        assert done.code == 0, done.errors
        return done.printed

    def folder(self, name: str) -> Path:
        """One of its outputs."""
        return self.root / "volumes" / "mlcommons" / "volumes" / name

    def to_correct(self, patient: str) -> Path:
        """What a person edits."""
        return self.folder("data") / "to_correct" / f"{patient}.csv"

    def correct(self, patient: str, value: str) -> None:
        """Write a value where the case's first one stands."""
        rows = read_rows(self.to_correct(patient))
        rows[0]["value"] = value
        write_rows(self.to_correct(patient), rows)

    def report(self, patient: str) -> dict[str, Any]:
        """The report's line of a case."""
        report = yaml.safe_load((self.folder("report") / "report.yaml").read_text())
        assert len({frozenset(column) for column in report.values()}) == 1
        return {column: values[patient] for column, values in report.items()}

    def checks(self) -> Run:
        """The sanity check of what is prepared."""
        prepared = {"data_path": self.folder("data"), "labels_path": self.folder("labels")}
        root = self.root / "check"
        shutil.rmtree(root, ignore_errors=True)
        return run_task(STAGED, "sanity_check", root, prepared)

    def files(self) -> dict[str, bytes]:
        """All prepared data and labels."""
        return {
            str(path.relative_to(self.folder(name))): path.read_bytes()
            for name in ("data", "labels")
            for path in self.folder(name).rglob("*")
            if path.is_file()
        }


@pytest.fixture
def hillcrest(tmp_path: Path) -> Working:
    """A working copy of the hospital whose data have flaws."""
    return Working(tmp_path / "work", raw("hillcrest"))


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What becomes of its data once every flaw is corrected, by way of the other preparator."""
    root = tmp_path_factory.mktemp("corrected")
    shutil.copytree(HOSPITALS / "hillcrest", root / "raw")
    for patient, file, column in (
        (GAP, "measurements", "texture_mean"),
        (LOST_POINT, "measurements", "radius_mean"),
        (UNDIAGNOSED, "diagnoses", "diagnosis"),
    ):
        path = root / "raw" / file / "hillcrest.csv"
        rows = read_rows(path)
        for row in rows:
            if row["patient_id"] == patient:
                row[column] = TRUTH[patient]
        write_rows(path, rows)
    return plainly(
        root / "run",
        {"data_path": root / "raw" / "measurements", "labels_path": root / "raw" / "diagnoses"},
    )


def plainly(root: Path, inputs: dict[str, Path]) -> dict[str, bytes]:
    """What the preparator without stages makes of raw data."""
    run = run_task("data_preparator", "prepare", root, inputs)
    data, labels = run.output("output_path"), run.output("output_labels_path")
    return {path.name: path.read_bytes() for folder in (data, labels) for path in folder.iterdir()}


def test_what_has_no_flaws_is_finished_at_once_and_as_the_other_preparator_makes_it(
    tmp_path: Path,
) -> None:
    lakeside = Working(tmp_path / "work", raw("lakeside"))
    assert lakeside.prepares() == "prepared 60 patients; 0 wait for a person\n"
    assert lakeside.files() == plainly(tmp_path / "plainly", raw("lakeside"))
    assert lakeside.checks().printed == "60 patients: nothing wrong\n"
    assert lakeside.report(
        next(iter(read_rows(lakeside.folder("data") / "measurements.csv")))["patient_id"]
    ) == {
        "status": 3,
        "status_name": "FINISHED",
        "comment": "",
        "data_path": "measurements.csv",
        "labels_path": "diagnoses.csv",
    }


def test_a_case_with_a_flaw_waits_and_the_report_says_what_to_correct_where(
    hillcrest: Working,
) -> None:
    assert hillcrest.prepares() == "prepared 57 patients; 3 wait for a person\n"
    lost = TRUTH[LOST_POINT].replace(".", "")
    problems = {
        GAP: "texture_mean: missing",
        LOST_POINT: f"radius_mean: {lost} is outside the accepted 3 to 60",
        UNDIAGNOSED: "malignant: missing; expected 0 (benign) or 1 (malignant)",
    }
    for patient, problem in problems.items():
        assert hillcrest.report(patient) == {
            "status": 2,
            "status_name": "WAITS_FOR_CORRECTION",
            "comment": f"correct to_correct/{patient}.csv: {problem}",
            "data_path": f"to_correct/{patient}.csv",
            "labels_path": "",
        }
        (row,) = read_rows(hillcrest.to_correct(patient))
        assert f"{row['column']}: {row['problem']}" == problem


def test_the_sanity_check_names_the_files_that_wait(hillcrest: Working) -> None:
    hillcrest.prepares()
    for patient in (GAP, LOST_POINT):
        hillcrest.correct(patient, TRUTH[patient])
    hillcrest.prepares()
    checked = hillcrest.checks()
    assert checked.code == 1
    file = f"to_correct/{UNDIAGNOSED}.csv"
    assert f"1 case waits for a person. Correct the column value in {file}, in" in checked.errors


def test_corrected_by_hand_they_are_as_if_they_had_never_been_wrong(
    hillcrest: Working, corrected: dict[str, bytes]
) -> None:
    for number, (patient, value) in enumerate(TRUTH.items(), 1):
        hillcrest.prepares()
        hillcrest.correct(patient, value)
        assert hillcrest.prepares().startswith(f"prepared {57 + number} patients")
        line = hillcrest.report(patient)
        assert (line["status"], line["comment"]) == (3, "corrected by hand")
    assert hillcrest.files() == corrected
    assert not (hillcrest.folder("data") / "to_correct").exists()
    assert hillcrest.checks().code == 0
    # What was corrected is on record, and another run changes nothing.
    (row,) = read_rows(hillcrest.folder("metadata") / "corrections" / f"{GAP}.csv")
    assert (row["column"], row["value"]) == ("texture_mean", TRUTH[GAP])
    assert hillcrest.prepares() == "prepared 60 patients; 0 wait for a person\n"
    assert hillcrest.files() == corrected


@pytest.mark.parametrize(
    ("written", "comment"),
    [
        ("1095", "radius_mean: 1095 is outside the accepted 3 to 60"),
        ("about 11", "radius_mean: 'about 11' is not a number"),
        ("", "radius_mean: missing"),
        ("59", "radius_worst: "),
    ],
)
def test_a_correction_that_cannot_be_right_either_waits_on_as_it_was_written(
    written: str, comment: str, hillcrest: Working
) -> None:
    hillcrest.prepares()
    hillcrest.correct(LOST_POINT, written)
    hillcrest.prepares()
    line = hillcrest.report(LOST_POINT)
    assert line["status"] == 2 and comment in line["comment"]
    assert read_rows(hillcrest.to_correct(LOST_POINT))[0]["value"] == written


def test_a_spreadsheet_may_save_the_correction_in_its_own_way(hillcrest: Working) -> None:
    hillcrest.prepares()
    value = TRUTH[GAP].replace(".", ",")
    hillcrest.to_correct(GAP).write_text(
        f"\ufeffcolumn;value;problem\ntexture_mean;{value};missing\n;;\n"
    )
    hillcrest.prepares()
    assert hillcrest.report(GAP)["status"] == 3


@pytest.mark.parametrize(
    ("content", "comment"),
    [
        (b"", "row 1: expected the headings column, value, problem"),
        (b"column,value,problem\ncolour,1,\n", "unknown column 'colour'"),
        (b"column,value,problem\ntexture_mean\n", "row 2: 1 cells; expected 3"),
        (b"\xff\xfe\x00", "is no CSV file in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_understood_waits_on_with_the_reason(
    content: bytes, comment: str, hillcrest: Working
) -> None:
    hillcrest.prepares()
    hillcrest.to_correct(GAP).write_bytes(content)
    hillcrest.prepares()
    line = hillcrest.report(GAP)
    assert line["status"] == 2 and comment in line["comment"]
    assert hillcrest.to_correct(GAP).read_bytes() == content


def test_a_file_that_was_deleted_is_asked_for_again(hillcrest: Working) -> None:
    hillcrest.prepares()
    hillcrest.to_correct(GAP).unlink()
    hillcrest.prepares()
    assert read_rows(hillcrest.to_correct(GAP))[0]["column"] == "texture_mean"


def test_a_patient_of_whom_nobody_knows_more_can_be_left_out(hillcrest: Working) -> None:
    hillcrest.prepares()
    hillcrest.correct(GAP, "Leave out")
    for patient in (LOST_POINT, UNDIAGNOSED):
        hillcrest.correct(patient, TRUTH[patient])
    hillcrest.prepares()
    assert hillcrest.report(GAP)["comment"] == "left out by hand"
    assert hillcrest.checks().printed == "59 patients: nothing wrong\n"
    patients = {
        row["patient_id"] for row in read_rows(hillcrest.folder("data") / "measurements.csv")
    }
    assert patients == set(PATIENTS) - {GAP}


def test_rows_that_contradict_each_other_wait_with_what_each_says(tmp_path: Path) -> None:
    shutil.copytree(HOSPITALS / "lakeside", tmp_path / "raw")
    path = tmp_path / "raw" / "measurements" / "lakeside.csv"
    _, first, *_ = lines = path.read_text().splitlines()
    patient, radius, *rest = first.split(";")
    path.write_text("\n".join([*lines, ";".join([patient, "0,0099", *rest])]) + "\n")
    inputs = {
        "data_path": tmp_path / "raw" / "measurements",
        "labels_path": tmp_path / "raw" / "diagnoses",
    }
    working = Working(tmp_path / "work", inputs)
    working.prepares()
    assert working.report(patient)["comment"].endswith(
        "radius_mean: contradicting: 9.9 in lakeside.csv, row 62; 14.4 in lakeside.csv, row 2"
    )
    assert radius == "0,0144"
    working.correct(patient, "14.4")
    working.prepares()
    assert working.files() == plainly(tmp_path / "plainly", raw("lakeside"))


def test_a_report_that_nothing_can_take_the_place_of_is_written_where_it_is(
    hillcrest: Working,
) -> None:
    # As where a platform mounts that file by itself, in a folder of others.
    hillcrest.task()
    (hillcrest.folder("report") / "report.yaml.part").mkdir()
    hillcrest.prepares()
    assert hillcrest.report(GAP)["status_name"] == "WAITS_FOR_CORRECTION"


@pytest.mark.parametrize("before", ["nothing", "all corrected"])
def test_it_may_be_killed_before_whatever_it_does_to_a_file_and_goes_on(
    before: str, hillcrest: Working, corrected: dict[str, bytes], tmp_path: Path
) -> None:
    if before == "all corrected":
        hillcrest.prepares()
        for patient, value in TRUTH.items():
            hillcrest.correct(patient, value)
    kills = 0
    while True:
        again = Working(tmp_path / f"killed {kills}", hillcrest.inputs)
        if hillcrest.root.exists():
            shutil.copytree(hillcrest.root, again.root)
        options = again.task().options
        killed = [sys.executable, "-S", "-B", "-c", KILLED, str(kills), "prepare"]
        ended = subprocess.run(**{**options, "args": killed}, stdout=subprocess.DEVNULL)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        kills += 1
        # Whatever has its name is whole.
        for path in again.folder("data").rglob("*.csv"):
            assert path.read_bytes().endswith(b"\n")
        if before == "nothing":
            # Where anything lacks, the sanity check says so.
            assert again.checks().code == 1
            assert again.prepares() == "prepared 57 patients; 3 wait for a person\n"
            for patient, value in TRUTH.items():
                again.correct(patient, value)
        assert again.prepares() == "prepared 60 patients; 0 wait for a person\n"
        assert again.files() == corrected
        assert again.report(GAP)["comment"] == "corrected by hand"
        assert not list((again.root / "volumes").rglob("*.part"))
        shutil.rmtree(again.root)
    assert kills > 15


def test_on_the_process_platform_it_finds_its_working_copy_and_its_report_again(
    tmp_path: Path, corrected: dict[str, bytes]
) -> None:
    layout = packaging.package(tmp_path / "laid_out", "process")
    config = layout.containers[STAGED].config.path
    spec = load(config)
    parameters = config.parent / "workspace" / "parameters.yaml"
    working = Working(tmp_path / "work", raw("hillcrest"))
    outputs = {
        "output_path": working.folder("data"),
        "output_labels_path": working.folder("labels"),
        "metadata_path": working.folder("metadata"),
        "report_file": working.folder("report") / "report.yaml",
    }
    for name, path in outputs.items():
        if name == "report_file":
            path.parent.mkdir(parents=True)
            path.touch()
        else:
            path.mkdir(parents=True)

    def run(task: str, inputs: dict[str, Path], made: dict[str, Path]) -> None:
        ProcessRunner(allowed=True).run(
            Job.of(
                "process",
                spec.tasks[task],
                "ab" * 32,
                {**inputs, "parameters_file": parameters},
                made,
                tmp_path / "log",
                archive=config.parent / "project",
                scratch=tmp_path,
            )
        )

    prepared = {"data_path": outputs["output_path"], "labels_path": outputs["output_labels_path"]}
    run("prepare", working.inputs, outputs)
    with pytest.raises(ContainerFailed):
        run("sanity_check", prepared, {})
    assert "3 cases wait for a person" in (tmp_path / "log").read_text()
    for patient, value in TRUTH.items():
        assert working.report(patient)["status"] == 2
        working.correct(patient, value)
    run("prepare", working.inputs, outputs)
    run("sanity_check", prepared, {})
    assert working.files() == corrected
    statistics = tmp_path / "statistics" / "statistics.yaml"
    statistics.parent.mkdir()
    statistics.touch()
    run("statistics", prepared, {"output_path": statistics})
    assert yaml.safe_load(statistics.read_text())["patients"] == 60
