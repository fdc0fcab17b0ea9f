"""Associations of datasets with benchmarks: one side requests, the other decides."""

from dataclasses import replace
from typing import Any

from medperf_cache.outbox import Reference
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind
from medperf_client.kinds.pairs import again_of_pairs, news_of_pairs, pair_change, pair_request
from medperf_client.kinds.submission import OPERATION, Submission, told

NAME, SIDE, WORD = "dataset_association", "dataset", "dataset"
REFERS = {SIDE: "dataset", "benchmark": "benchmark"}


def dataset_request(
    dataset: Reference, benchmark: Reference, results: Entity, disclosure: Entity | None = None
) -> Submission:
    """A request that a dataset joins a benchmark, with what its reference model gave on it.

    `disclosure` says what was checked of that before, see `disclosure.review`.
    The registry takes it once the dataset is in OPERATION, so it waits until that is so.
    """
    sides = {SIDE: dataset, "benchmark": benchmark}
    request = pair_request(DATASET_ASSOCIATION, sides, {"test_result": results, **told(disclosure)})
    until = {"kind": "dataset", "of": {"id": dataset}, "is": {"state": OPERATION}}
    return replace(request, until=until)


def dataset_change(dataset: Reference, benchmark: Reference, **values: Any) -> Submission:
    """A change of the newest association of a dataset; see `pair_change`."""
    return pair_change(DATASET_ASSOCIATION, {SIDE: dataset, "benchmark": benchmark}, **values)


DATASET_ASSOCIATION = Kind(
    name=NAME,
    word="request",
    form={**dict.fromkeys(("id", *REFERS), int), "approval_status": str},
    path="/datasets/benchmarks/",
    listed="/me/datasets/associations/",
    pair="/datasets/{dataset}/benchmarks/{benchmark}/",
    refers=REFERS,
    sides=tuple(REFERS),
    news=news_of_pairs(SIDE, WORD),
    again=again_of_pairs(NAME, REFERS, SIDE, WORD),
)
