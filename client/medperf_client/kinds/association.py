"""Associations of models with benchmarks: one side requests, the other decides."""

from collections.abc import Iterator
from typing import Any

from medperf_cache.outbox import Reference
from medperf_client.errors import MedPerfError
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind, Past, View
from medperf_client.kinds.submission import PENDING, Submission, in_path

NAME = "association"
SIDES = ("model_mlcube", "benchmark")


def association_submission(model: Reference, benchmark: Reference, report: Entity) -> Submission:
    """A request that a model joins a benchmark, with the test that it passed."""
    body = {
        "model_mlcube": model,
        "benchmark": benchmark,
        "approval_status": PENDING,
        "metadata": test_metadata(report),
    }
    return Submission(NAME, "POST", ASSOCIATION.path, body)


def association_change(model: Reference, benchmark: Reference, **values: Any) -> Submission:
    """A change of the newest association of a pair: `approval_status`, `reason`, `priority`.

    With `id` it is that of the association that is meant: the registry refuses if a newer one is
    there by then.
    """
    path = ASSOCIATION.pair.format(model_mlcube=in_path(model), benchmark=in_path(benchmark))
    return Submission(NAME, "PUT", path, values)


def test_metadata(report: Entity) -> Entity:
    """A test as an association's metadata: MedPerf's `test_result`, and the steps behind it."""
    told = ("step", "source", "signed_by", "seconds", "image_id")
    return {
        "test_result": report["results"],
        "test_steps": [{key: step[key] for key in told if key in step} for step in report["steps"]],
    }


def newest_pending(known: list[Entity], model: int | str, benchmark: int | str) -> Entity | None:
    """The newest request of a pair among those known, if it waits for a decision."""
    pair = [one for one in known if (one["model_mlcube"], one["benchmark"]) == (model, benchmark)]
    # A plain server's associations have no UIDs, but places in one list.
    newest = max(pair, key=lambda one: int(one["id"]), default=None)
    if newest is None or newest["approval_status"] != PENDING or newest["id"] <= 0:
        return None
    return newest


def _news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    """Requests to decide, decisions, and priorities."""
    one = after or before
    if one is None:
        return
    pair = f"container {one['model_mlcube']} in benchmark {one['benchmark']}"
    if after is None:
        yield f"the association of {pair} is gone from the registry"
    elif before is None and after["approval_status"] == PENDING:
        if view.owns("benchmark", after["benchmark"]) and not view.is_me(after.get("initiated_by")):
            yield f"a request to decide: {pair}"
    elif before is None or before["approval_status"] != after["approval_status"]:
        yield f"{pair} is {after['approval_status']}"
    elif before.get("priority") != after.get("priority"):
        yield f"{pair} has priority {after.get('priority')}"


def _again(path: str, body: Entity, answer: Entity, past: Past) -> Entity:
    """A decision is on a request of the same content only."""
    decided = answer.get("id") or body.get("id")
    ghost = past.lost(NAME, decided) if decided else None
    # A new request names its sides, and decides nothing.
    if "model_mlcube" in body or ghost is None:
        return body
    model, benchmark = past.successor("mlcube", ghost["model_mlcube"]), ghost["benchmark"]
    pair = model, past.successor("benchmark", benchmark)
    for one in past.all(NAME):
        same = (one.get("metadata") or "") == (ghost.get("metadata") or "")
        if same and pair == (one["model_mlcube"], one["benchmark"]):
            return {**body, "id": one["id"]} if "id" in body else body
    raise MedPerfError(
        f"the request of container {pair[0]} in benchmark {pair[1]} that it decides is not in the "
        "registry any more: whoever made it has to send it again first"
    )


ASSOCIATION = Kind(
    name=NAME,
    word="request",
    form={**dict.fromkeys(("id", *SIDES), int), "approval_status": str},
    path="/mlcubes/benchmarks/",
    listed="/me/mlcubes/associations/",
    pair="/mlcubes/{model_mlcube}/benchmarks/{benchmark}/",
    refers={"model_mlcube": "mlcube", "benchmark": "benchmark"},
    sides=SIDES,
    news=_news,
    again=_again,
)
