"""The models of a benchmark, as its committee and who evaluates them are told."""

from collections.abc import Iterator

from medperf_client.kinds.association import ASSOCIATION
from medperf_client.kinds.benchmark import BENCHMARK
from medperf_client.kinds.container import CONTAINER
from medperf_client.kinds.dataset import DATASET
from medperf_client.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind, View
from medperf_client.kinds.pairs import newest_of
from medperf_client.kinds.submission import APPROVED


def _asked(view: View) -> Iterator[tuple[int, str]]:
    """Those of each benchmark in which a dataset of the member's takes part."""
    every = view.all(DATASET_ASSOCIATION.name)
    for benchmark in sorted({one["benchmark"] for one in every}):
        if _own_datasets(view, benchmark):
            yield benchmark, f"/benchmarks/{benchmark}/models/"


def _own_datasets(view: View, benchmark: int) -> list[int]:
    """The member's datasets that take part in a benchmark."""
    every = [one for one in view.all(DATASET_ASSOCIATION.name) if one["benchmark"] == benchmark]
    own = sorted({one["dataset"] for one in every if view.owns(DATASET.name, one["dataset"])})
    newest = {one: newest_of(DATASET_ASSOCIATION, every, {"dataset": one}) for one in own}
    return [one for one, last in newest.items() if last and last["approval_status"] == APPROVED]


def _news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    """Lines on the models that were approved where a dataset of the member's takes part."""
    # To who sees a list for the first time nothing of it is news.
    if before is None or after is None:
        return
    uid, known = after["id"], set(_approved(before))
    # Of an association that the member sees its own line tells.
    seen = {one["model_mlcube"] for one in view.all(ASSOCIATION.name) if one["benchmark"] == uid}
    new = [one for one in _approved(after) if one not in known | seen]
    datasets = _own_datasets(view, uid) if new else []
    are = "dataset {} takes part" if len(datasets) == 1 else "datasets {} take part"
    for model in new:
        yield (
            f"model {model}{_name(view, CONTAINER, model)} was approved in benchmark "
            f"{uid}{_name(view, BENCHMARK, uid)}, where {are.format(', '.join(map(str, datasets)))}"
        )


def _approved(told: Entity) -> list[int]:
    """The models of which the newest association is approved."""
    ordered = sorted(told["models"], key=lambda one: str(one.get("created_at")))
    status = {one["model_mlcube"]: one["approval_status"] for one in ordered}
    return [model for model, stands in status.items() if stands == APPROVED]


def _name(view: View, kind: Kind, uid: int) -> str:
    names = (one.get("name") for one in view.all(kind.name) if one["id"] == uid)
    name = next(names, None)
    return f" ({name})" if name else ""


# The catalog keeps one list a benchmark, under the benchmark's UID.
MODELS = Kind(
    name="models",
    word="models of benchmark",
    form={"id": int, "models": list},
    lists={"models": {"model_mlcube": int, "approval_status": str}},
    is_logged=False,
    news=_news,
    asked=_asked,
)
