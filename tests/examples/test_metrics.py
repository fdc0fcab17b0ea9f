"""The metrics are scikit-learn's, and the parameters decide about them."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score, roc_auc_score

from medperf_client.kinds.metrics import read_metrics, require_known
from tests.examples.benchmark import EXAMPLE, Prepared, Run, load, read_rows, run_task, write_rows

scores = load(EXAMPLE / "metrics" / "project" / "scores.py")
DIGITS = 5.1e-5


def both_classes(labels: list[int]) -> bool:
    """Return whether the metrics are defined."""
    return set(labels) == {0, 1}


# Few different probabilities, so that most are tied.
patients = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=2
).filter(lambda pairs: both_classes([label for label, _ in pairs]))


@given(patients)
def test_auroc_counts_ties_as_scikit_learn_does(pairs: list[tuple[int, float]]) -> None:
    labels, probabilities = map(list, zip(*pairs, strict=True))
    expected = roc_auc_score(labels, probabilities)
    assert scores.auroc(labels, probabilities) == pytest.approx(expected, abs=1e-12)


@given(patients, st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
def test_rates_and_brier_are_those_of_scikit_learn(
    pairs: list[tuple[int, float]], threshold: float
) -> None:
    labels, probabilities = map(list, zip(*pairs, strict=True))
    called = [int(probability >= threshold) for probability in probabilities]
    assert scores.rates(labels, probabilities, threshold) == pytest.approx(
        {
            "accuracy": accuracy_score(labels, called),
            "sensitivity": recall_score(labels, called),
            "specificity": recall_score(labels, called, pos_label=0),
        }
    )
    expected = brier_score_loss(labels, probabilities)
    assert scores.brier(labels, probabilities) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 1000), st.integers(1, 20))
def test_calibration_error_weighs_the_bins_of_scikit_learn(seed: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.random(50)
    labels = (generator.random(50) < probabilities**2).astype(int)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=bins)
    counts = np.histogram(probabilities, bins, (0, 1))[0]
    expected = np.average(np.abs(observed - predicted), weights=counts[counts > 0])
    found = scores.expected_calibration_error(labels.tolist(), probabilities.tolist(), bins)
    assert found == pytest.approx(expected)


def test_calibration_bins_hold_their_upper_edge() -> None:
    assert scores.expected_calibration_error([0, 1], [0.5, 0.3], 2) == pytest.approx(0.1)
    assert scores.expected_calibration_error([0, 1], [1.0, 0.0], 2) == pytest.approx(1.0)


def sample(seed: int, size: int = 120) -> tuple[list[int], list[float]]:
    """Return patients that a middling model ranks, some tied."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(size) % 3 == 0).astype(int)
    probabilities = np.round(1 / (1 + np.exp(-generator.normal(2 * labels - 1, 1.5))), 2)
    return labels.tolist(), probabilities.tolist()


def test_the_interval_is_what_numpy_makes_of_the_same_resamples() -> None:
    labels, probabilities = sample(1)
    malignant = [p for label, p in zip(labels, probabilities, strict=True) if label]
    benign = [p for label, p in zip(labels, probabilities, strict=True) if not label]
    generator = random.Random(5)
    values = []
    for _ in range(200):
        drawn = [
            *generator.choices(malignant, k=len(malignant)),
            *generator.choices(benign, k=len(benign)),
        ]
        values.append(roc_auc_score([1] * len(malignant) + [0] * len(benign), drawn))
    found = scores.auroc_interval(labels, probabilities, 200, 5, 0.9)
    assert found == pytest.approx(tuple(np.percentile(values, [5, 95])))


def test_the_interval_agrees_with_another_bootstrap_of_its_own_draws() -> None:
    labels, probabilities = map(np.array, sample(2))
    generator = np.random.default_rng(3)
    malignant, benign = probabilities[labels == 1], probabilities[labels == 0]
    values = []
    for _ in range(4000):
        above = generator.choice(malignant, len(malignant))[:, None]
        below = generator.choice(benign, len(benign))[None, :]
        values.append(np.mean((above > below) + 0.5 * (above == below)))
    found = scores.auroc_interval(labels.tolist(), probabilities.tolist(), 4000, 4, 0.95)
    # The bounds of 4000 resamples scatter by about 0.002 here.
    assert found == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=0.01)


def test_the_interval_covers_the_true_auroc_about_as_often_as_it_says() -> None:
    # Normal scores one standard deviation apart: AUROC = Phi(1 / sqrt 2).
    truth, covered = 0.7602, 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        labels = [1] * 40 + [0] * 60
        ranks = generator.normal(np.array(labels), 1).tolist()
        low, high = scores.auroc_interval(labels, ranks, 200, seed, 0.9)
        covered += low <= truth <= high
    assert 80 <= covered <= 98


def evaluate(root: Path, predictions: Path, labels: Path, **changed: Any) -> Run:
    """Run the metrics container."""
    inputs = {"predictions": predictions, "labels": labels}
    return run_task("metrics", "evaluate", root, inputs, changed)


def results(run: Run) -> dict[str, Any]:
    """Return what a run of the metrics container wrote."""
    return yaml.safe_load(run.output("output_path").read_text())


def test_the_results_of_the_demo_are_those_of_scikit_learn(
    prepared: Prepared, predictions: Path, tmp_path: Path
) -> None:
    found = results(evaluate(tmp_path / "run", predictions, prepared.labels))
    labels = [int(row["malignant"]) for row in read_rows(prepared.labels / "diagnoses.csv")]
    predicted = [float(row["probability"]) for row in read_rows(predictions / "predictions.csv")]
    called = [int(probability >= 0.5) for probability in predicted]
    assert found["patients"] == len(labels)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, predicted), abs=DIGITS)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, called), abs=DIGITS)
    assert found["sensitivity"] == pytest.approx(recall_score(labels, called), abs=DIGITS)
    specificity = recall_score(labels, called, pos_label=0)
    assert found["specificity"] == pytest.approx(specificity, abs=DIGITS)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, predicted), abs=DIGITS)
    assert found["mean_probability"] == pytest.approx(np.mean(predicted), abs=DIGITS)
    assert found["malignant_share"] == pytest.approx(np.mean(labels), abs=DIGITS)
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]


def test_what_is_said_of_the_metrics_is_of_what_is_there(
    prepared: Prepared, predictions: Path, tmp_path: Path
) -> None:
    metrics = read_metrics(EXAMPLE / "metrics.yaml")
    found = results(evaluate(tmp_path / "run", predictions, prepared.labels))
    require_known(metrics, found)
    assert [one["name"] for one in metrics if one.get("primary")] == ["auroc"]
    assert scores.brier([1], [0.9]) < scores.brier([1], [0.1])


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and labels of patients that a middling model ranks."""
    labels, probabilities = sample(6)
    for name, column, values in (
        ("predictions", "probability", probabilities),
        ("diagnoses", "malignant", labels),
    ):
        (tmp_path / name).mkdir()
        rows = [{"patient_id": f"P{i}", column: value} for i, value in enumerate(values)]
        write_rows(tmp_path / name / f"{name}.csv", rows)
    return tmp_path / "predictions", tmp_path / "diagnoses"


@pytest.mark.parametrize(
    ("changed", "affected"),
    [
        ({"threshold": 0.9}, {"threshold", "accuracy", "sensitivity", "specificity"}),
        ({"bootstrap_seed": 21}, {"bootstrap_seed", "auroc_low", "auroc_high"}),
        ({"bootstrap_resamples": 50}, {"bootstrap_resamples", "auroc_low", "auroc_high"}),
        ({"confidence": 0.5}, {"confidence", "auroc_low", "auroc_high"}),
        ({"calibration_bins": 3}, {"calibration_bins", "expected_calibration_error"}),
    ],
)
def test_a_parameter_changes_its_own_results_and_no_others(
    changed: dict[str, Any], affected: set[str], tables: tuple[Path, Path], tmp_path: Path
) -> None:
    before = results(evaluate(tmp_path / "before", *tables))
    after = results(evaluate(tmp_path / "after", *tables, **changed))
    assert {name for name in before if before[name] != after[name]} == affected


def test_the_results_do_not_depend_on_the_order_of_predictions(
    tables: tuple[Path, Path], tmp_path: Path
) -> None:
    before = results(evaluate(tmp_path / "before", *tables))
    path = tables[0] / "predictions.csv"
    write_rows(path, read_rows(path)[::-1])
    assert results(evaluate(tmp_path / "after", *tables)) == before


def test_tiny_results_stay_numbers_in_yaml(tables: tuple[Path, Path], tmp_path: Path) -> None:
    labels = read_rows(tables[1] / "diagnoses.csv")
    sure = [
        {"patient_id": row["patient_id"], "probability": abs(int(row["malignant"]) - 0.00001)}
        for row in labels
    ]
    write_rows(tables[0] / "predictions.csv", sure)
    found = results(evaluate(tmp_path / "run", *tables))
    assert {type(value) for value in found.values()} <= {int, float}
    assert (found["auroc"], found["brier"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("table", "old", "new", "problem"),
    [
        ("predictions", "P7,", "Q7,", "predictions.csv: lacks patient P7"),
        ("diagnoses", "P7,", "Q7,", "diagnoses.csv: lacks patient P7"),
        ("predictions", "P7,", "P6,", "predictions.csv, row 9, column probability: patient_id is"),
        ("predictions", "P7,0", "P7,1", "row 9, column probability: is '1."),
        ("predictions", "P7,0", "P7,nan", "row 9, column probability: is 'nan."),
        ("predictions", "P7,0", "P7,-", "row 9, column probability: is '-."),
        ("predictions", "probability", "score", "row 2, column probability: is None; expected"),
        ("diagnoses", "P7,0", "P7,2", "diagnoses.csv, row 9, column malignant: is '2'; expected"),
        ("diagnoses", ",1\n", ",0\n", "expected both malignant and benign patients"),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_place(
    table: str, old: str, new: str, problem: str, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / table / f"{table}.csv"
    text = path.read_bytes().decode().replace("\r\n", "\n")
    assert old in text
    path.write_text(text.replace(old, new))
    run = evaluate(tmp_path / "run", *tables)
    assert run.code == 1
    assert problem in run.errors
    assert "Traceback" not in run.errors
