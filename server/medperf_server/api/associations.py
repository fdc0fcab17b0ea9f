"""Requests to take a model into a benchmark, and the decisions on them."""

from typing import Any

from flask import abort, g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import UID, Blueprint, find, of_admins, remove, role_first, update
from medperf_server.config import MAX_PAGE_SIZE
from medperf_server.models import Association, Benchmark, Container, db
from medperf_server.policy import (
    check_association_request,
    check_association_update,
    newest_association,
    require_side,
)
from medperf_server.schemas import AssociationSchema, AssociationUpdateSchema
from medperf_server.weights import bounded

blueprint = Blueprint("associations", __name__, description="Associations of models")


@blueprint.route("/mlcubes/benchmarks/", methods=["POST"])
@blueprint.arguments(AssociationSchema)
@blueprint.response(201, AssociationSchema)
def request_association(values: dict[str, Any]) -> Association:
    """Request that a model joins a benchmark; the owner of either side or an admin."""
    check_association_request(g.caller, values)
    association = Association(**values, initiated_by=g.caller.id)
    db.session.add(association)
    db.session.flush()
    return association


def _require_side(model: int, benchmark: int) -> None:
    """The owner of either side, and admins, also of a pair that has no association."""
    require_side(g.caller, find(Container, model), find(Benchmark, benchmark))


@blueprint.route(f"/mlcubes/<{UID}:model>/benchmarks/<{UID}:benchmark>/")
class PairView(MethodView):
    """The associations of one model with one benchmark."""

    @role_first(_require_side)
    @blueprint.response(200, AssociationSchema(many=True))
    def get(self, model: int, benchmark: int) -> list[Association]:
        """The pair's associations, oldest first; the owner of either side or an admin.

        If they are too many, or too large, for one answer: the newest of them.
        """
        pair = select(Association).filter_by(model_mlcube=model, benchmark=benchmark)
        return bounded(pair, Association.id.desc(), MAX_PAGE_SIZE)[::-1]

    @role_first(_require_side)
    @blueprint.arguments(AssociationUpdateSchema)
    @blueprint.response(200, AssociationSchema)
    def put(self, values: dict[str, Any], model: int, benchmark: int) -> Association:
        """Decide the newest association, with a reason, or set its priority.

        With `id` it is refused where another one is the newest by now.
        """
        association = newest_association(model, benchmark)
        if association is None:
            abort(404, "Not found.")
        check_association_update(g.caller, association, values)
        update(association, values)
        return association

    @of_admins
    @blueprint.response(204)
    def delete(self, model: int, benchmark: int) -> None:
        """Remove the pair's associations; admins only."""
        pair = (Association.model_mlcube == model, Association.benchmark == benchmark)
        if not remove(Association, *pair):
            abort(404, "Not found.")
