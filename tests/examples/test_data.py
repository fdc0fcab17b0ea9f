"""The data in the tree are the real ones, divided so that no model saw a site's patients."""

import collections
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from tests.examples.benchmark import DEMO, EXAMPLE, HOSPITALS, SOURCE, load, read_rows

DATA = EXAMPLE / "data"
KEYS = ("patient_id", "held_by", "diagnosis")


def test_the_data_are_those_that_scikit_learn_ships() -> None:
    rows = read_rows(DATA / "wdbc.csv")
    ours = [
        [float(value) for key, value in row.items() if key not in KEYS]
        + [float(row["diagnosis"] == "B")]
        for row in rows
    ]
    theirs = load_breast_cancer()
    assert sorted(ours) == sorted(np.column_stack([theirs.data, theirs.target]).tolist())


def test_the_columns_are_those_of_scikit_learn_in_its_order() -> None:
    kinds = {"mean": "mean", "error": "se", "worst": "worst"}
    ours = [set(key.split("_")) for key in read_rows(DATA / "wdbc.csv")[0] if key not in KEYS]
    theirs = [
        {kinds.get(word, word) for word in name.split()}
        for name in load_breast_cancer().feature_names
    ]
    assert ours == theirs


def test_making_the_data_again_gives_the_same_bytes(tmp_path: Path) -> None:
    load(EXAMPLE / "make_data.py").make(SOURCE, tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    in_tree = {path.relative_to(DATA): path.read_bytes() for path in DATA.rglob("*.*")}
    assert made == in_tree


def test_every_patient_has_an_id_of_their_own_and_one_holder() -> None:
    rows = read_rows(DATA / "wdbc.csv")
    assert len({row["patient_id"] for row in rows}) == len(rows) == 569
    share = collections.Counter((row["held_by"], row["diagnosis"]) for row in rows)
    assert share == {
        ("training", "M"): 128,
        ("training", "B"): 215,
        ("northgate", "M"): 42,
        ("northgate", "B"): 71,
        ("riverside", "M"): 42,
        ("riverside", "B"): 71,
    }


def test_the_sites_hold_none_of_the_training_patients() -> None:
    holder = {row["patient_id"]: row["held_by"] for row in read_rows(DATA / "wdbc.csv")}
    for path in DEMO.glob("*/*.csv"):
        patients = set(re.findall(r"\bP\d{7}\b", path.read_text()))
        assert len(patients) == 113
        assert {holder[patient] for patient in patients} == {path.stem}


def test_two_hospitals_hold_patients_of_their_own_that_no_model_was_trained_on() -> None:
    holder = {row["patient_id"]: row["held_by"] for row in read_rows(DATA / "wdbc.csv")}
    for name, site in (("lakeside", "northgate"), ("hillcrest", "riverside")):
        for folder in ("measurements", "diagnoses"):
            text = (HOSPITALS / name / folder / f"{name}.csv").read_text()
            patients = set(re.findall(r"\bP\d{7}\b", text))
            assert len(patients) == 60
            assert {holder[patient] for patient in patients} == {site}


@pytest.mark.parametrize("folder", [DEMO, HOSPITALS])
def test_the_attribution_travels_with_the_data(folder: Path) -> None:
    notice = (folder / "NOTICE.txt").read_text()
    for needed in ("Wolberg", "10.24432/C5DW2B", "CC BY 4.0", "Changed"):
        assert needed in notice
