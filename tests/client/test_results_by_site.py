"""The committee sees what was released in its benchmark: a row for each site's run of a model."""

import uuid

import pytest

from medperf_client.registry.client import Registry as Client
from tests.support.consortium import Consortium, Member

RESULTS = {
    1: [{"lesion": {"dice": 0.8}, "cases": 12, "method": "overlap", "is_paired": True}],
    2: [{"lesion": {"dice": 0.7}, "cases": 9}, {"lesion": {"dice": 0.75}, "cases": 10}],
}


@pytest.fixture
def committee(own_consortium: Consortium) -> Member:
    """The owner of benchmark 1, which has one result of a dataset, and of another two."""
    registry = own_consortium.registry
    # Who owns the benchmark and the dataset need not approve its request.
    owner = Client(registry.url, registry.token_for("committee@example.org"))
    for dataset, results in RESULTS.items():
        site = {"name": f"site {dataset}", "input_data_hash": "0" * 64, "generated_uid": "0" * 64}
        site |= {"split_seed": 0, "data_preparation_mlcube": 1, "submitted_as_prepared": False}
        owner.post("/datasets/", site, str(uuid.uuid4()))
        ready = {"state": "OPERATION", "generated_uid": f"{dataset}" * 64}
        owner.put(f"/datasets/{dataset}/", ready, str(uuid.uuid4()))
        pair = {"dataset": dataset, "benchmark": 1, "metadata": {}}
        owner.post("/datasets/benchmarks/", pair, str(uuid.uuid4()))
        for number, figures in enumerate(results):
            result = {"benchmark": 1, "model": 2, "dataset": dataset, "results": figures}
            result["metadata"] = {"partial": number == 1}
            owner.post("/results/", result, str(uuid.uuid4()))
    return own_consortium.member("committee")


def test_its_owner_sees_every_run_with_its_figures(committee: Member) -> None:
    rows = committee.json("benchmark", "results", "1")
    assert [(row["site"], row["dataset"], row["name"]) for row in rows] == [
        ("site 1", 1, "model_logistic"),
        *[("site 2", 2, "model_logistic")] * 2,
    ]
    assert [row["metrics"] for row in rows] == [
        {"lesion.dice": 0.8, "cases": 12},
        {"lesion.dice": 0.7, "cases": 9},
        {"lesion.dice": 0.75, "cases": 10},
    ]
    assert [row["note"] for row in rows] == ["", "", "partial"]


def test_a_table_has_the_figures_that_were_asked_for(committee: Member) -> None:
    heading, *rows = committee.does("benchmark", "results", "1").splitlines()
    assert heading.split()[-2:] == ["lesion.dice", "cases"] and len(rows) == 3
    heading, *rows = committee.does("benchmark", "results", "1", "--metric", "cases").splitlines()
    assert heading.split()[-2:] == ["NOTE", "cases"]
    assert [row.split()[-1] for row in rows] == ["12", "9", "10"]
    done = committee.run("benchmark", "results", "1", "--metric", "recall")
    assert done.returncode == 2 and "They have lesion.dice, cases." in done.stderr


def test_others_see_none_of_it(own_consortium: Consortium, committee: Member) -> None:
    other = own_consortium.member("other")
    assert other.json("benchmark", "results", "1") == []
    assert other.does("benchmark", "results", "1").splitlines()[1:] == []
