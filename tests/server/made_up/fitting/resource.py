"""Requests that a gadget fits a benchmark, and the decisions on them."""

from typing import Any

from flask import abort, g
from sqlalchemy import select

from medperf_server.api.common import UID, Blueprint, add, of_side, page, page_of, update
from medperf_server.kinds.pairs import check_decision, check_request, newest, own
from medperf_server.kinds.user.resource import me
from medperf_server.schemas import PageQuery
from tests.server.made_up.fitting import FITTING
from tests.server.made_up.fitting.schemas import DecisionSchema, FittingSchema
from tests.server.made_up.fitting.table import Fitting

blueprint = Blueprint("fittings", __name__, description="Fittings")
blueprints = (blueprint,)


@blueprint.route("/gadgets/benchmarks/", methods=["POST"])
@of_side(FITTING)
@blueprint.arguments(FittingSchema)
@blueprint.response(201, FittingSchema)
def ask(values: dict[str, Any]) -> Fitting:
    """Request that a gadget fits a benchmark."""
    check_request(g.caller, FITTING, values)
    return add(Fitting(**values, initiated_by=g.caller.id))


@blueprint.route(f"/gadgets/<{UID}:gadget>/benchmarks/<{UID}:benchmark>/", methods=["PUT"])
@blueprint.arguments(DecisionSchema)
@blueprint.response(200, FittingSchema)
def decide(values: dict[str, Any], gadget: int, benchmark: int) -> Fitting:
    """Decide the newest request."""
    fitting = newest(FITTING, gadget, benchmark) or abort(404)
    check_decision(g.caller, FITTING, fitting, values)
    update(fitting, values)
    return fitting


@me.route("/me/gadgets/benchmarks/")
@me.arguments(PageQuery, location="query")
@me.response(200, page_of(FittingSchema))
def my_fittings(query: dict[str, Any]) -> dict[str, Any]:
    """Fittings of the caller's gadgets and benchmarks."""
    return page(select(Fitting).where(own(g.caller, FITTING)), Fitting.id, query)
