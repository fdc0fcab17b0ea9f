"""Requests to take a model into a benchmark, and the decisions on them."""

from typing import Any

from flask import g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    find,
    of_admins,
    of_side,
    page,
    page_of,
    role_first,
)
from medperf_server.api.pairs import all_between, decide, mine, of_either_side, remove_between
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.schemas import (
    AssociationSchema,
    AssociationUpdateSchema,
    BenchmarkModelSchema,
)
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.resource import blueprint as benchmarks
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.pairs import check_request, takes_part
from medperf_server.kinds.user.resource import me
from medperf_server.policy import owns, require
from medperf_server.schemas import PageQuery

blueprint = Blueprint("associations", __name__, description="Associations of models")
blueprints = (blueprint,)


# This and /mlcubes/<id>/ cannot clash: IDs are integers.
@blueprint.route("/mlcubes/benchmarks/", methods=["POST"])
@of_side(ASSOCIATION)
@blueprint.arguments(AssociationSchema)
@blueprint.response(201, AssociationSchema)
def request_association(values: dict[str, Any]) -> Association:
    """Request that a model joins a benchmark; the owner of either side or an admin."""
    check_request(g.caller, ASSOCIATION, values)
    return add(Association(**values, initiated_by=g.caller.id))


@blueprint.route(f"/mlcubes/<{UID}:model>/benchmarks/<{UID}:benchmark>/")
class PairView(MethodView):
    """The associations of one model with one benchmark."""

    @of_either_side(ASSOCIATION)
    @blueprint.response(200, AssociationSchema(many=True))
    def get(self, model: int, benchmark: int) -> list[Association]:
        """The pair's associations, oldest first; the owner of either side or an admin.

        If they are too many, or too large, for one answer: the newest of them.
        """
        return all_between(ASSOCIATION, model, benchmark)

    @of_either_side(ASSOCIATION)
    @blueprint.arguments(AssociationUpdateSchema)
    @blueprint.response(200, AssociationSchema)
    def put(self, values: dict[str, Any], model: int, benchmark: int) -> Association:
        """Decide the newest association, with a reason, or set its priority.

        With `id` it is refused where another one is the newest by now.
        """
        return decide(ASSOCIATION, model, benchmark, values)

    @of_admins
    @blueprint.response(204)
    def delete(self, model: int, benchmark: int) -> None:
        """Remove the pair's associations; admins only."""
        remove_between(ASSOCIATION, model, benchmark)


@me.route("/me/mlcubes/associations/")
@me.arguments(PageQuery, location="query")
@me.response(200, page_of(AssociationSchema))
def my_associations(query: dict[str, Any]) -> dict[str, Any]:
    """Associations of the caller's models and benchmarks."""
    return mine(ASSOCIATION, query)


def _require_part(uid: int) -> None:
    """A benchmark's owner, whoever has a dataset in it, and admins."""
    benchmark = find(BENCHMARK, uid)
    require(owns(g.caller, benchmark) or takes_part(g.caller, DATASET_ASSOCIATION, uid))


@benchmarks.route(f"/benchmarks/<{UID}:uid>/models/")
@role_first(_require_part)
@benchmarks.arguments(PageQuery, location="query")
@benchmarks.response(200, page_of(BenchmarkModelSchema))
def models(query: dict[str, Any], uid: int) -> dict[str, Any]:
    """The benchmark's associations with models, the highest priority first.

    For its owner, for owners of a dataset that is in it, and admins.
    """
    told: list[Any] = [
        Association.model_mlcube,
        Association.approval_status,
        Association.created_at,
    ]
    found = select(*told).where(Association.benchmark == uid).order_by(Association.priority.desc())
    return page(found, Association.id, query)
