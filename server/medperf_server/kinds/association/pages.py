"""Requests to take a model into a benchmark: a table, a page each, and the decision."""

from typing import Any

from flask import render_template

from medperf_server.api.common import UID
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.schemas import AssociationUpdateSchema
from medperf_server.web.blueprint import blueprint
from medperf_server.web.pairs import decide_as_told, requests_of, shown


@blueprint.get("/associations/")
def associations() -> Any:
    """Requests of the member's models and benchmarks."""
    return render_template("associations.html", pair=ASSOCIATION, page=requests_of(ASSOCIATION))


@blueprint.get(f"/associations/<{UID}:uid>")
def association(uid: int) -> Any:
    """One request: the test it comes with, and its decision."""
    return render_template("association.html", **shown(ASSOCIATION, uid))


@blueprint.post(f"/associations/<{UID}:uid>")
def decide_association(uid: int) -> Any:
    """Approve, reject, or set the priority of a request."""
    return decide_as_told(ASSOCIATION, uid, AssociationUpdateSchema())
