"""Results: what a model of a benchmark gave on a dataset, as its owner released it."""

from collections.abc import Iterator

from medperf_cache.outbox import Reference
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind, View
from medperf_client.kinds.submission import APPROVED, Submission, told

NAME = "result"
# What tells the runs of one model apart, and what refers to what a result is of.
REFERS = {"benchmark": "benchmark", "model": "mlcube", "dataset": "dataset"}
MOST_NAME = 20
# Where in its metadata is what a site signed of it.
STATEMENT = "statement"


def result_submission(
    *,
    benchmark: Reference,
    model: Reference,
    dataset: Reference,
    name: str,
    results: Entity,
    partial: bool,
    disclosure: Entity | None = None,
    statement: Entity | None = None,
) -> Submission:
    """The release of a result. It waits until the dataset is approved in the benchmark.

    `disclosure` says what was checked before, see `disclosure.review`, and `statement` is what the
    site signed of it, see `evidence.statement`.
    """
    signed = {STATEMENT: statement} if statement else {}
    body = {
        "name": name[:MOST_NAME],
        "benchmark": benchmark,
        "model": model,
        "dataset": dataset,
        "results": results,
        "metadata": {"partial": partial, **told(disclosure), **signed},
        "user_metadata": {},
        "approval_status": "PENDING",
        "is_valid": True,
    }
    until = {
        "kind": "dataset_association",
        "of": {"dataset": dataset, "benchmark": benchmark},
        "is": {"approval_status": APPROVED},
    }
    return Submission(NAME, "POST", RESULT.path, body, until=until)


def said_of(result: Entity) -> Entity:
    """A result's metadata, where they are any."""
    found = result.get("metadata")
    return found if isinstance(found, dict) else {}


def _news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    """Results on one's benchmarks, and what becomes of one's own."""
    one = after or before
    if one is None:
        return
    what = f"container {one['model']} on dataset {one['dataset']} in benchmark {one['benchmark']}"
    is_mine = view.is_me(one.get("owner"))
    if before is None and not is_mine and view.owns("benchmark", one["benchmark"]):
        yield f"a new result: {what}"
    elif after is None and is_mine:
        yield f"the result of {what} is gone from the registry"


RESULT = Kind(
    name=NAME,
    word="result",
    form={**dict.fromkeys(("id", "owner", *REFERS), int), "results": dict},
    path="/results/",
    listed="/me/results/",
    mine="/me/results/",
    step="results",
    refers=REFERS,
    unique=(*REFERS, "results"),
    may_repeat=True,
    news=_news,
)
