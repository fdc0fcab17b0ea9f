"""Associations of models with benchmarks: one side requests, the other decides."""

from typing import Any

from medperf_cache.outbox import Reference
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind
from medperf_client.kinds.pairs import again_of_pairs, news_of_pairs, pair_change, pair_request
from medperf_client.kinds.submission import Submission

NAME, SIDE, WORD = "association", "model_mlcube", "container"
REFERS = {SIDE: "mlcube", "benchmark": "benchmark"}


def association_submission(model: Reference, benchmark: Reference, report: Entity) -> Submission:
    """A request that a model joins a benchmark, with the test that it passed."""
    sides = {SIDE: model, "benchmark": benchmark}
    return pair_request(ASSOCIATION, sides, test_metadata(report))


def association_change(model: Reference, benchmark: Reference, **values: Any) -> Submission:
    """A change of the newest association of a model; see `pair_change`."""
    return pair_change(ASSOCIATION, {SIDE: model, "benchmark": benchmark}, **values)


def test_metadata(report: Entity) -> Entity:
    """A test as an association's metadata: MedPerf's `test_result`, and the steps behind it."""
    told = ("step", "source", "signed_by", "seconds", "image_id")
    return {
        "test_result": report["results"],
        "test_steps": [{key: step[key] for key in told if key in step} for step in report["steps"]],
    }


ASSOCIATION = Kind(
    name=NAME,
    word="request",
    form={**dict.fromkeys(("id", *REFERS), int), "approval_status": str},
    path="/mlcubes/benchmarks/",
    listed="/me/mlcubes/associations/",
    pair="/mlcubes/{model_mlcube}/benchmarks/{benchmark}/",
    refers=REFERS,
    sides=tuple(REFERS),
    news=news_of_pairs(SIDE, WORD),
    again=again_of_pairs(NAME, REFERS, SIDE, WORD),
)
