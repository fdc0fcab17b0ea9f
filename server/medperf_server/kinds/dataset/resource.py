"""Datasets: all of them, one, the caller's, those that a container prepares."""

from typing import Any

from flask import Response, g, jsonify
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.answers import not_kept
from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    find,
    listed,
    of_admins,
    of_owner,
    page,
    page_of,
    remove_entity,
    role_first,
    told,
    update,
)
from medperf_server.base import DEVELOPMENT
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.container.resource import blueprint as containers
from medperf_server.kinds.dataset import DATASET
from medperf_server.kinds.dataset.rules import check_dataset, require_dataset_owner
from medperf_server.kinds.dataset.schemas import (
    DatasetQuery,
    DatasetSchema,
    DatasetUpdateSchema,
    PublicDatasetSchema,
)
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.user.resource import me
from medperf_server.policy import refuse
from medperf_server.schemas import PageQuery

blueprint = Blueprint("datasets", __name__, description="Datasets")
blueprints = (blueprint,)


@blueprint.route("/datasets/")
class DatasetsView(MethodView):
    """All datasets."""

    @blueprint.arguments(DatasetQuery, location="query")
    @blueprint.response(200, page_of(PublicDatasetSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All datasets, as others than their owners learn of them."""
        return listed(DATASET, query)

    @blueprint.arguments(DatasetSchema)
    @blueprint.response(201, DatasetSchema)
    def post(self, values: dict[str, Any]) -> Dataset:
        """Create a dataset that the caller owns; it starts in DEVELOPMENT."""
        check_dataset(values)
        return add(Dataset(**values, owner=g.caller.id))


@blueprint.route(f"/datasets/<{UID}:uid>/")
class DatasetView(MethodView):
    """One dataset."""

    @blueprint.response(200, DatasetSchema)
    def get(self, uid: int) -> Response:
        """One dataset; `owner` and `report` are for its owner and admins."""
        return jsonify(told(DATASET, find(DATASET, uid)))

    @role_first(lambda uid: require_dataset_owner(g.caller, uid))
    @of_owner(DATASET)
    @blueprint.arguments(DatasetUpdateSchema(partial=True))
    @blueprint.response(200, DatasetSchema)
    def put(self, values: dict[str, Any], uid: int) -> Dataset:
        """Change a dataset; its owner or an admin. In OPERATION it stays as it is."""
        dataset = find(DATASET, uid, lock=True)
        check_dataset(values, dataset)
        update(dataset, values)
        return dataset

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a dataset that nothing refers to; admins only."""
        remove_entity(DATASET, uid)


@me.route("/me/datasets/")
@me.arguments(DatasetQuery, location="query")
@me.response(200, page_of(DatasetSchema))
def my_datasets(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's datasets, with how far their preparation is."""
    not_kept()
    return listed(DATASET, {**query, "owner": g.caller.id})


@containers.route(f"/mlcubes/<{UID}:uid>/datasets/")
@of_owner(CONTAINER)
@containers.arguments(PageQuery, location="query")
@containers.response(200, page_of(DatasetSchema))
def prepared_with(query: dict[str, Any], uid: int) -> dict[str, Any]:
    """The datasets that a container in DEVELOPMENT prepares, with whose they are and how far.

    For its owner, who mends what goes wrong, and admins; refused once it is in OPERATION.
    """
    if find(CONTAINER, uid).state != DEVELOPMENT:
        refuse(f"Container {uid} is in OPERATION: how its preparations go is not told", "error")
    not_kept()
    return page(select(Dataset).filter_by(data_preparation_mlcube=uid), Dataset.id, query)
