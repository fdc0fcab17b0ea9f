"""Requests to take a dataset into a benchmark: a table, a page each, and the decision."""

from typing import Any

from flask import render_template

from medperf_server.api.common import UID
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.schemas import DecisionSchema
from medperf_server.web.blueprint import blueprint
from medperf_server.web.pairs import decide_as_told, requests_of, shown


@blueprint.get("/dataset-associations/")
def dataset_associations() -> Any:
    """Requests of the member's datasets, and of datasets to their benchmarks."""
    page = requests_of(DATASET_ASSOCIATION)
    return render_template("dataset_associations.html", pair=DATASET_ASSOCIATION, page=page)


@blueprint.get(f"/dataset-associations/<{UID}:uid>")
def dataset_association(uid: int) -> Any:
    """One request: what the reference model gave on the data, and its decision."""
    return render_template("dataset_association.html", **shown(DATASET_ASSOCIATION, uid))


@blueprint.post(f"/dataset-associations/<{UID}:uid>")
def decide_dataset_association(uid: int) -> Any:
    """Approve or reject a request."""
    return decide_as_told(DATASET_ASSOCIATION, uid, DecisionSchema())
