"""What a benchmark's metrics mean is in its metadata, and is read strictly."""

import pytest

from medperf_server.analysis.pooling import Scale
from medperf_server.kinds.benchmark.metrics import Interval, Metric, metrics_of
from tests.support.api import Member, benchmark_body
from tests.support.metrics import AUROC, BAD, GOOD, LOSS


@pytest.mark.parametrize("name", GOOD)
def test_what_is_described_is_kept_as_it_was_sent(committee: Member, name: str) -> None:
    metadata = {"metrics": GOOD[name], "test_result": {"auroc": 1}}
    assert committee.benchmark(metadata=metadata)["metadata"] == metadata


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_by_its_place(committee: Member, name: str) -> None:
    metrics, place = BAD[name]
    body = benchmark_body(committee, metadata={"metrics": metrics})
    answer = committee.post("/benchmarks/", body)
    assert answer.status_code == 400
    (told,) = answer.json()["metadata"]
    assert told.startswith(f"{place}: " if place == "metrics" else place)
    assert metrics_of({"metrics": metrics}) == []


def test_a_change_is_looked_at_too(committee: Member) -> None:
    path = f"/benchmarks/{committee.benchmark(state='DEVELOPMENT')['id']}/"
    assert committee.put(path, {"metadata": {"metrics": [{}]}}).status_code == 400
    assert committee.put(path, {"metadata": {"metrics": [LOSS]}}).status_code == 200
    assert committee.put(path, {"metadata": None}).json()["metadata"] == {}


def test_the_primary_one_comes_first() -> None:
    first, second = metrics_of({"metrics": [LOSS, AUROC]})
    scale = Scale("logit", 0, 1)
    interval = Interval("auroc_ci/0", "auroc_ci/1", 0.95, scale)
    assert first == Metric("auroc", True, 0, 1, interval, True)
    assert second == Metric("by class/loss", False, None, None, None, True)
    assert metrics_of({}) == metrics_of({"metrics": None}) == []


@pytest.mark.parametrize(
    ("value", "is_allowed"), [(0, True), (1, True), (-0.1, False), (1.1, False)]
)
def test_a_metric_is_within_its_range(value: float, is_allowed: bool) -> None:
    assert metrics_of({"metrics": [AUROC]})[0].allows(value) is is_allowed
    assert metrics_of({"metrics": [LOSS]})[0].allows(value)
