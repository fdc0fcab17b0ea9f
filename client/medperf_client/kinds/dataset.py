"""Datasets: what the registry may know of a member's data, which stay where they are."""

from collections.abc import Iterator, Mapping

from medperf_cache.outbox import Reference
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind, View
from medperf_client.kinds.submission import OPERATION, Submission, in_path

NAME = "dataset"


def dataset_submission(
    *,
    name: str,
    description: str,
    location: str,
    preparator: Reference,
    data_hash: str,
    as_prepared: bool,
) -> Submission:
    """A new dataset; `data_hash` is the folder hash of the data and labels as they are now."""
    body = {
        "name": name,
        "description": description,
        "location": location,
        "data_preparation_mlcube": preparator,
        "input_data_hash": data_hash,
        # What it becomes by preparation is known once that was done.
        "generated_uid": data_hash,
        "split_seed": 0,
        "submitted_as_prepared": as_prepared,
        "state": "DEVELOPMENT",
        "is_valid": True,
        "generated_metadata": {},
        "user_metadata": {},
        "report": {},
    }
    return Submission(NAME, "POST", DATASET.path, body)


def dataset_operational(
    uid: Reference,
    data_hash: str,
    generated_uid: str,
    statistics: Entity,
    user_metadata: Entity | None = None,
) -> Submission:
    """That a dataset is ready for use and fixed: the hashes of its raw and prepared data.

    `user_metadata` is what it is to say from now on, with what was checked of the statistics.
    """
    body = {
        "input_data_hash": data_hash,
        "generated_uid": generated_uid,
        "generated_metadata": statistics,
        "state": OPERATION,
    }
    if user_metadata is not None:
        body["user_metadata"] = user_metadata
    return Submission(NAME, "PUT", f"{DATASET.path}{in_path(uid)}/", body)


def dataset_progress(uid: Reference, report: Entity) -> Submission:
    """How far the preparation of a dataset is, in place of an earlier report that still waits."""
    return Submission(
        NAME, "PUT", f"{DATASET.path}{in_path(uid)}/", {"report": report}, supersedes=True
    )


def progress_summary(status: str, statuses: Mapping[str, object]) -> Entity:
    """What the registry is told of a preparation: `status` of the run, the share of each stage.

    `statuses` are the cases of the preparator's report, by case. Of them only shares leave the
    site.

    >>> progress_summary("running", {"a": 1, "b": 1, "c": -2, "d": 3})["progress"]
    {'Stage -2': '25.0%', 'Stage 1': '50.0%', 'Stage 3': '25.0%'}
    """
    counts: dict[str, int] = {}
    for stage in statuses.values():
        counts[str(stage)] = counts.get(str(stage), 0) + 1
    shares = {
        f"Stage {stage}": f"{100 * count / len(statuses):.1f}%"
        for stage, count in sorted(counts.items())
    }
    return {"execution_status": status, "progress": shares}


def _news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    """What becomes of a dataset that the member owns."""
    if before is None or not view.is_me(before.get("owner")):
        return
    name = f"dataset {before['id']} ({before['name']})"
    if after is None:
        yield f"{name} is gone from the registry"
    elif before.get("is_valid") and after.get("is_valid") is False:
        yield f"{name} is not valid any more"


DATASET = Kind(
    name=NAME,
    word="dataset",
    form={
        **dict.fromkeys(("name", "state", "input_data_hash", "generated_uid"), str),
        **dict.fromkeys(("id", "data_preparation_mlcube"), int),
    },
    path="/datasets/",
    listed="/datasets/",
    mine="/me/datasets/",
    step="datasets",
    refers={"data_preparation_mlcube": "mlcube"},
    unique=("name", "data_preparation_mlcube", "input_data_hash"),
    pins=("generated_uid",),
    hidden=("owner", "report"),
    news=_news,
)
