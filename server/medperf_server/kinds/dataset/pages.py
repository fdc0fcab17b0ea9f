"""Datasets: a table of what everybody learns, a page each, and the member's own."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flask import g, render_template
from sqlalchemy import func, select

from medperf_server.api.common import UID, find
from medperf_server.base import db
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset import DATASET
from medperf_server.kinds.dataset.progress import Progress, progress
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.dataset_association.table import DatasetAssociation
from medperf_server.kinds.kind import Side
from medperf_server.kinds.result import MODEL, PARTIES, RESULT
from medperf_server.kinds.result.table import Result
from medperf_server.policy import owns, visible
from medperf_server.web.blueprint import blueprint
from medperf_server.web.tables import HISTORY, entities, history, newest, page_of
from medperf_server.weights import without_json

PREPARATOR = Side(Dataset.data_preparation_mlcube, CONTAINER, "data preparator")
# By nothing that others than the owner do not learn.
SORTS = {"state": Dataset.state, "location": Dataset.location}
SEARCHED = (Dataset.name, Dataset.description, Dataset.location)
FILTERS = ("state", "data_preparation_mlcube")


@dataclass(frozen=True)
class Mine:
    """A dataset of the member's: how far its preparation is, and its newest request to each
    benchmark, with whether the member asked."""

    dataset: Dataset
    progress: Progress
    requests: list[tuple[DatasetAssociation, bool]]


@blueprint.get("/datasets/")
def datasets() -> Any:
    """All datasets, as others than their owners learn of them."""
    page = entities(DATASET, SORTS, SEARCHED, FILTERS)
    return render_template("datasets.html", page=page, preparator=PREPARATOR)


@blueprint.get("/datasets/mine")
def my_datasets() -> Any:
    """The member's datasets: how far they are, and what waits for whom."""
    common = {"id": Dataset.id, "name": Dataset.name, "created": Dataset.created_at}
    own = Dataset.owner == g.caller.id
    page = page_of(Dataset, own, {**common, **SORTS}, SEARCHED, FILTERS)
    return render_template(
        "my_datasets.html", page=page, mine=mine(page.rows), pair=DATASET_ASSOCIATION
    )


@blueprint.get(f"/datasets/<{UID}:uid>")
def dataset(uid: int) -> Any:
    """One dataset: what it is; for its owner, how far it is and what was done to it."""
    found = find(DATASET, uid)
    own = owns(g.caller, found)
    container = found.data_preparation_mlcube
    return render_template(
        "dataset.html",
        dataset=found,
        owns=own,
        preparator=db.session.get_one(Container, container, options=without_json(Container)),
        progress=progress(found.report) if own else None,
        pair=DATASET_ASSOCIATION,
        requests=newest(
            DatasetAssociation,
            HISTORY,
            DatasetAssociation.dataset == uid,
            visible(g.caller, DATASET_ASSOCIATION),
        ),
        result_sides=(MODEL, *PARTIES),
        results=newest(Result, HISTORY, Result.dataset == uid, visible(g.caller, RESULT)),
        history=history(DATASET, uid) if own else [],
    )


def mine(datasets: Iterable[Dataset]) -> list[Mine]:
    """What the owner of datasets sees of them in a table."""
    uids = [one.id for one in datasets]
    reports = progress_of(uids)
    last = select(func.max(DatasetAssociation.id)).where(DatasetAssociation.dataset.in_(uids))
    last = last.group_by(DatasetAssociation.dataset, DatasetAssociation.benchmark)
    shown = (DatasetAssociation.id.in_(last), visible(g.caller, DATASET_ASSOCIATION))
    requests = defaultdict(list)
    for request in newest(DatasetAssociation, HISTORY, *shown):
        requests[request.dataset].append((request, request.initiated_by == g.caller.id))
    return [Mine(one, reports[one.id], requests[one.id]) for one in datasets]


@blueprint.app_template_global()
def progress_of(uids: Iterable[int]) -> dict[int, Progress]:
    """How far the preparation of each of some datasets is."""
    found = select(Dataset.id, Dataset.report).where(Dataset.id.in_(uids))
    return {uid: progress(report) for uid, report in db.session.execute(found)}
