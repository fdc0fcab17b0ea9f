"""The demo data once prepared, and what each model predicts for it."""

from pathlib import Path

import pytest

from tests.examples.benchmark import DEMO, Prepared, run_task


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The demo data, prepared with the parameters in the tree."""
    run = run_task(
        "data_preparator",
        "prepare",
        tmp_path_factory.mktemp("prepared") / "run",
        {"data_path": DEMO / "measurements", "labels_path": DEMO / "diagnoses"},
    )
    return Prepared(run.output("output_path"), run.output("output_labels_path"), run)


@pytest.fixture(scope="session", params=["model_logistic", "model_mlp"])
def model(request: pytest.FixtureRequest) -> str:
    """Each model's name."""
    return request.param


@pytest.fixture(scope="session")
def predictions(model: str, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model's predictions for the prepared demo data."""
    root = tmp_path_factory.mktemp(model) / "run"
    return run_task(model, "infer", root, prepared.inputs()).output("output_path")
