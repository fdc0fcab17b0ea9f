"""Requests to take a dataset into a benchmark, and the decisions on them."""

from typing import Any

from flask import g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    of_admins,
    of_owner,
    of_side,
    page,
    page_of,
)
from medperf_server.api.pairs import all_between, decide, mine, of_either_side, remove_between
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.resource import blueprint as benchmarks
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.dataset_association.rules import check_dataset_request
from medperf_server.kinds.dataset_association.schemas import (
    BenchmarkDatasetSchema,
    DatasetAssociationSchema,
)
from medperf_server.kinds.dataset_association.table import DatasetAssociation
from medperf_server.kinds.user.resource import me
from medperf_server.schemas import DecisionSchema, PageQuery

blueprint = Blueprint("dataset_associations", __name__, description="Associations of datasets")
blueprints = (blueprint,)


# This and /datasets/<id>/ cannot clash: IDs are integers.
@blueprint.route("/datasets/benchmarks/", methods=["POST"])
@of_side(DATASET_ASSOCIATION)
@blueprint.arguments(DatasetAssociationSchema)
@blueprint.response(201, DatasetAssociationSchema)
def request_dataset_association(values: dict[str, Any]) -> DatasetAssociation:
    """Request that a dataset joins a benchmark; the owner of either side or an admin."""
    check_dataset_request(g.caller, values)
    return add(DatasetAssociation(**values, initiated_by=g.caller.id))


@blueprint.route(f"/datasets/<{UID}:dataset>/benchmarks/<{UID}:benchmark>/")
class DatasetPairView(MethodView):
    """The associations of one dataset with one benchmark."""

    @of_either_side(DATASET_ASSOCIATION)
    @blueprint.response(200, DatasetAssociationSchema(many=True))
    def get(self, dataset: int, benchmark: int) -> list[DatasetAssociation]:
        """The pair's associations, oldest first; the owner of either side or an admin.

        If they are too many, or too large, for one answer: the newest of them.
        """
        return all_between(DATASET_ASSOCIATION, dataset, benchmark)

    @of_either_side(DATASET_ASSOCIATION)
    @blueprint.arguments(DecisionSchema)
    @blueprint.response(200, DatasetAssociationSchema)
    def put(self, values: dict[str, Any], dataset: int, benchmark: int) -> DatasetAssociation:
        """Decide the newest association, with a reason.

        With `id` it is refused where another one is the newest by now.
        """
        return decide(DATASET_ASSOCIATION, dataset, benchmark, values)

    @of_admins
    @blueprint.response(204)
    def delete(self, dataset: int, benchmark: int) -> None:
        """Remove the pair's associations; admins only."""
        remove_between(DATASET_ASSOCIATION, dataset, benchmark)


@me.route("/me/datasets/associations/")
@me.arguments(PageQuery, location="query")
@me.response(200, page_of(DatasetAssociationSchema))
def my_dataset_associations(query: dict[str, Any]) -> dict[str, Any]:
    """Associations of the caller's datasets, and of datasets with the caller's benchmarks."""
    return mine(DATASET_ASSOCIATION, query)


@benchmarks.route(f"/benchmarks/<{UID}:uid>/datasets/")
@of_owner(BENCHMARK)
@benchmarks.arguments(PageQuery, location="query")
@benchmarks.response(200, page_of(BenchmarkDatasetSchema))
def datasets(query: dict[str, Any], uid: int) -> dict[str, Any]:
    """The benchmark's associations with datasets; its owner or an admin."""
    told: list[Any] = [
        DatasetAssociation.dataset,
        DatasetAssociation.approval_status,
        DatasetAssociation.created_at,
    ]
    found = select(*told).where(DatasetAssociation.benchmark == uid)
    return page(found, DatasetAssociation.id, query)
