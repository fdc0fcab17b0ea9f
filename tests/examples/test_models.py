"""The models compute what their weights say, and the weights are what the training script says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from tests.examples.benchmark import EXAMPLE, Prepared, load, read_rows, run_task, write_rows


def weights_of(model: str) -> dict[str, Any]:
    """Return the model's weights file."""
    path = EXAMPLE / model / "workspace" / "additional_files" / "weights.json"
    return json.loads(path.read_text())


def probabilities(folder: Path) -> np.ndarray:
    """Return the predicted probabilities, in the file's order."""
    return np.array([float(row["probability"]) for row in read_rows(folder / "predictions.csv")])


def standardised(data: Path, weights: dict[str, Any], clip: float) -> np.ndarray:
    """Return the prepared measurements in standard deviations from the training means."""
    rows = read_rows(data / "measurements.csv")
    values = np.array([[float(row[name]) for name in weights["features"]] for row in rows])
    return np.clip((values - weights["mean"]) / weights["scale"], -clip, clip)


def reference(model: str, weights: dict[str, Any], features: np.ndarray) -> np.ndarray:
    """Return the probabilities that scikit-learn's models give with the same weights."""
    if model == "model_logistic":
        logistic = LogisticRegression()
        logistic.classes_ = np.array([0, 1])
        logistic.coef_ = np.array([weights["weights"]])
        logistic.intercept_ = np.array([weights["bias"]])
        return logistic.predict_proba(features)[:, 1]
    network = MLPClassifier((len(weights["hidden_bias"]),), activation="tanh", max_iter=1)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        network.fit(features, np.arange(len(features)) % 2)
    network.coefs_ = [np.array(weights["hidden_weights"]).T, np.c_[weights["output_weights"]]]
    network.intercepts_ = [np.array(weights["hidden_bias"]), np.array([weights["output_bias"]])]
    return network.predict_proba(features)[:, 1]


def test_predictions_are_those_of_scikit_learn_with_the_same_weights(
    model: str, prepared: Prepared, predictions: Path
) -> None:
    weights = weights_of(model)
    expected = reference(model, weights, standardised(prepared.data, weights, clip=6))
    np.testing.assert_allclose(probabilities(predictions), expected, rtol=1e-9)


def test_every_patient_gets_a_prediction(prepared: Prepared, predictions: Path) -> None:
    asked = [row["patient_id"] for row in read_rows(prepared.data / "measurements.csv")]
    assert [row["patient_id"] for row in read_rows(predictions / "predictions.csv")] == asked


def test_the_models_do_well_on_sites_they_never_saw(prepared: Prepared, predictions: Path) -> None:
    labels = [int(row["malignant"]) for row in read_rows(prepared.labels / "diagnoses.csv")]
    assert roc_auc_score(labels, probabilities(predictions)) > 0.97


def test_clipping_bounds_what_an_extreme_measurement_does(
    model: str, prepared: Prepared, tmp_path: Path
) -> None:
    run = run_task(model, "infer", tmp_path / "run", prepared.inputs(), {"clip_at_sd": 0.5})
    weights = weights_of(model)
    expected = reference(model, weights, standardised(prepared.data, weights, clip=0.5))
    np.testing.assert_allclose(probabilities(run.output("output_path")), expected, rtol=1e-9)


def test_temperature_divides_the_networks_logits(prepared: Prepared, tmp_path: Path) -> None:
    def logits(temperature: float) -> np.ndarray:
        changed = {"temperature": temperature}
        root = tmp_path / str(temperature)
        run = run_task("model_mlp", "infer", root, prepared.inputs(), changed)
        predicted = probabilities(run.output("output_path"))
        return np.log(predicted / (1 - predicted))

    np.testing.assert_allclose(logits(2.0), logits(1.0) / 2, rtol=1e-6)


def test_columns_are_found_by_name_not_by_place(
    model: str, prepared: Prepared, predictions: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    rows = read_rows(prepared.data / "measurements.csv")
    reversed_columns = [dict(reversed(row.items())) for row in rows]
    write_rows(tmp_path / "data" / "measurements.csv", reversed_columns)
    run = run_task(model, "infer", tmp_path / "run", {"data_path": tmp_path / "data"})
    np.testing.assert_array_equal(
        probabilities(run.output("output_path")), probabilities(predictions)
    )


def test_huge_logits_saturate_without_overflow(
    model: str, prepared: Prepared, tmp_path: Path
) -> None:
    weights = weights_of(model)
    last = "weights" if model == "model_logistic" else "output_weights"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights.json").write_text(
        json.dumps({**weights, last: [1e6 * value for value in weights[last]]})
    )
    inputs = {**prepared.inputs(), "additional_files": tmp_path / "files"}
    predicted = probabilities(
        run_task(model, "infer", tmp_path / "run", inputs).output("output_path")
    )
    assert set(predicted) == {0.0, 1.0}


def test_missing_weights_are_named(model: str, prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    inputs = {**prepared.inputs(), "additional_files": tmp_path / "files"}
    run = run_task(model, "infer", tmp_path / "run", inputs)
    assert (run.code, run.errors) == (
        1,
        "additional_files: lacks weights.json; write it with train.py\n",
    )


@pytest.mark.parametrize("cell", ["", "wide"])
def test_a_measurement_that_is_no_number_is_named_by_place(
    model: str, cell: str, prepared: Prepared, tmp_path: Path
) -> None:
    shutil.copytree(prepared.data, tmp_path / "data")
    rows = read_rows(prepared.data / "measurements.csv")
    rows[5]["area_se"] = cell
    write_rows(tmp_path / "data" / "measurements.csv", rows)
    run = run_task(model, "infer", tmp_path / "run", {"data_path": tmp_path / "data"})
    assert run.code == 1
    assert f"measurements.csv, row 7, column area_se: is {cell!r}; expected a number" in run.errors


@pytest.fixture(scope="module")
def trained() -> dict[str, dict[str, Any]]:
    """The weights of both models, trained afresh."""
    return load(EXAMPLE / "train.py").train()


def test_the_weights_in_the_tree_are_what_the_training_script_gives(
    model: str, trained: dict[str, dict[str, Any]]
) -> None:
    in_tree = weights_of(model)
    assert list(in_tree) == list(trained[model])
    assert in_tree["features"] == trained[model]["features"]
    for name in in_tree.keys() - {"features"}:
        np.testing.assert_allclose(in_tree[name], trained[model][name], rtol=0, atol=1e-6)


def test_the_reference_is_the_logistic_regression_that_scikit_learn_fits(
    trained: dict[str, dict[str, Any]],
) -> None:
    _, features, labels = load(EXAMPLE / "train.py").read_training()
    weights = trained["model_logistic"]
    fitted = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    fitted.fit((features - weights["mean"]) / weights["scale"], labels)
    np.testing.assert_allclose(weights["weights"], fitted.coef_[0], atol=1e-5)
    np.testing.assert_allclose(weights["bias"], fitted.intercept_[0], atol=1e-5)


def test_training_reads_no_patient_of_a_site() -> None:
    _, features, labels = load(EXAMPLE / "train.py").read_training()
    rows = read_rows(EXAMPLE / "data" / "wdbc.csv")
    training = [row for row in rows if row["held_by"] == "training"]
    assert features.shape == (len(training), 30)
    assert features[:, 0].tolist() == [float(row["radius_mean"]) for row in training]
    assert labels.tolist() == [float(row["diagnosis"] == "M") for row in training]
