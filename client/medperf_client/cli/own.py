"""The member's own datasets, as commands find them and work on them."""

from typing import TYPE_CHECKING, Any

from medperf_client.cli.base import site
from medperf_client.cli.disclosing import check_of_stages
from medperf_client.errors import UsageError

if TYPE_CHECKING:
    from medperf_client.datasets.preparation import Preparation
    from medperf_client.datasets.records import Record


def own_dataset(uid: int | str) -> "tuple[dict[str, Any], Record]":
    """A dataset as it is asked to be, and its record. Raises `UsageError` if it is not here."""
    here = site()
    real = here.queue.real_uid(uid)
    entity = here.as_asked("dataset", real)
    record = here.datasets.of(real, entity)
    if record is None:
        raise UsageError(
            f"the data of dataset {uid} ({entity['name']}) are not on this machine",
            hint="If they are yours: medperf dataset submit --bind with the same data, or "
            "medperf dataset import",
        )
    return entity, record


def require_prepared_for(entity: dict[str, Any], benchmark: dict[str, Any]) -> None:
    """Raise `UsageError` for a dataset that is prepared with another container than it wants."""
    if entity["data_preparation_mlcube"] != benchmark["data_preparation_mlcube"]:
        raise UsageError(
            f"dataset {entity['id']} ({entity['name']}) was prepared with container "
            f"{entity['data_preparation_mlcube']}, and benchmark {benchmark['id']} "
            f"({benchmark['name']}) wants container {benchmark['data_preparation_mlcube']}",
            hint=f"Register the data for it: medperf dataset submit -b {benchmark['id']}",
        )


def statuses_in_benchmarks() -> dict[tuple[int | str, int | str], str]:
    """Of each dataset and benchmark that the newest request is about, what became of that.

    Those in the queue are the newest.
    """
    from medperf_client.kinds.dataset_association import DATASET_ASSOCIATION

    # Later ones take the place of earlier ones in the same pair.
    listed = site().listed(DATASET_ASSOCIATION.name)
    known = sorted((one for one in listed if isinstance(one["id"], int)), key=lambda one: one["id"])
    queued = [one for one in listed if isinstance(one["id"], str)]
    return {(one["dataset"], one["benchmark"]): one["approval_status"] for one in [*known, *queued]}


def preparation(record: "Record | None" = None, with_progress: bool = False) -> "Preparation":
    """What prepares datasets; with a record, the registry is told of it."""
    from medperf_client.datasets.preparation import Preparation
    from medperf_client.datasets.progress import Progress

    here = site()
    if record is None:
        return Preparation(
            here.storage, here.datasets, lambda summary, is_last: None, here.progress
        )
    progress = Progress(
        here.datasets, record, here.registry, here.submit, with_progress, check_of_stages()
    )

    def tell(summary: dict[str, Any], is_last: bool) -> None:
        if summary["progress"]:
            here.tell(progress_words(summary))
        progress.tell(summary, is_last)

    return Preparation(here.storage, here.datasets, tell, here.progress)


def progress_words(report: Any) -> str:
    """How far a preparation is, as `running, Stage 1 50.0%`; what others made up is no report."""
    if not isinstance(report, dict):
        return ""
    shares = report.get("progress")
    parts = [str(report.get("execution_status") or "")]
    parts += [f"{one} {shares[one]}" for one in shares] if isinstance(shares, dict) else []
    return ", ".join(part for part in parts if part)
