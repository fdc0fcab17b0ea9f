"""The home page: what waits for the member who is signed in."""

from typing import Any

from flask import g, render_template, request
from sqlalchemy import ColumnElement, func, select

from medperf_server.base import PENDING, db
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset.pages import mine
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.pairs import awaiting
from medperf_server.policy import visible
from medperf_server.web.blueprint import blueprint
from medperf_server.web.tables import newest

MOST = 10
# With the address of all of them.
PAIRS = ((ASSOCIATION, "web.associations"), (DATASET_ASSOCIATION, "web.dataset_associations"))


@blueprint.get("/")
def home() -> Any:
    """What waits for me."""
    models = select(Container.id).where(Container.owner == g.caller.id)
    approvals = (Benchmark.approval_status == PENDING,) if g.caller.is_admin else None
    waiting = [(pair, address, awaiting(g.caller, pair)) for pair, address in PAIRS]
    return render_template(
        "home.html",
        to_decide=[
            (pair, address, count, newest(pair.table, MOST, *conditions))
            for pair, address, conditions in waiting
            if (count := _count(pair.table, *conditions))
        ],
        pair=ASSOCIATION,
        requests=newest(
            Association, MOST, Association.model_mlcube.in_(models), visible(g.caller, ASSOCIATION)
        ),
        data_pair=DATASET_ASSOCIATION,
        datasets=mine(newest(Dataset, MOST, Dataset.owner == g.caller.id)),
        benchmarks=newest(Benchmark, MOST, Benchmark.owner == g.caller.id),
        approvals=newest(Benchmark, MOST, *approvals) if approvals else [],
        approvals_count=_count(Benchmark, *approvals) if approvals else 0,
        server=request.host_url.rstrip("/"),
    )


def _count(model: type[Any], *conditions: ColumnElement[bool]) -> int:
    return db.session.scalar(select(func.count(model.id)).where(*conditions)) or 0
