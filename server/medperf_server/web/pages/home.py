"""The home page: what waits for the member who is signed in."""

from typing import Any

from flask import g, render_template, request
from sqlalchemy import ColumnElement, and_, func, or_, select

from medperf_server.models import PENDING, Association, Benchmark, Container, db
from medperf_server.policy import own_associations, visible
from medperf_server.web.blueprint import blueprint
from medperf_server.web.tables import newest

MOST = 10


@blueprint.get("/")
def home() -> Any:
    """What waits for me."""
    models = select(Container.id).where(Container.owner == g.caller.id)
    pending = Association.approval_status == PENDING
    to_decide = (pending, Association.initiated_by != g.caller.id, _decided_by_me())
    approvals = (Benchmark.approval_status == PENDING,) if g.caller.is_admin else None
    return render_template(
        "home.html",
        to_decide=newest(Association, MOST, *to_decide),
        to_decide_count=_count(Association, *to_decide),
        requests=newest(
            Association, MOST, Association.model_mlcube.in_(models), visible(g.caller, Association)
        ),
        benchmarks=newest(Benchmark, MOST, Benchmark.owner == g.caller.id),
        approvals=newest(Benchmark, MOST, *approvals) if approvals else [],
        approvals_count=_count(Benchmark, *approvals) if approvals else 0,
        server=request.host_url.rstrip("/"),
    )


def _decided_by_me() -> ColumnElement[bool]:
    """The requests of my models and benchmarks; for admins, those that nobody else may approve."""
    mine = own_associations(g.caller)
    if not g.caller.is_admin:
        return mine
    asking = Association.initiated_by
    model = select(Container.id).where(Container.owner == asking)
    benchmark = select(Benchmark.id).where(Benchmark.owner == asking)
    both = and_(Association.model_mlcube.in_(model), Association.benchmark.in_(benchmark))
    return or_(mine, both)


def _count(model: type[Any], *conditions: ColumnElement[bool]) -> int:
    return db.session.scalar(select(func.count(model.id)).where(*conditions)) or 0
