"""Containers: a table to look through, and a page each."""

from typing import Any

from flask import g, render_template
from sqlalchemy import or_

from medperf_server.api.common import UID, find
from medperf_server.base import DEVELOPMENT
from medperf_server.kinds import pairs
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.table import ROLES, Benchmark
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.policy import owns, visible
from medperf_server.web.blueprint import blueprint
from medperf_server.web.tables import HISTORY, entities, history, newest


@blueprint.get("/containers/")
def containers() -> Any:
    """All containers."""
    sorts = {"state": Container.state}
    page = entities(CONTAINER, sorts, (Container.name,), ("state", "owner"))
    return render_template("containers.html", page=page)


@blueprint.get(f"/containers/<{UID}:uid>")
def container(uid: int) -> Any:
    """One container: what it is, where it takes part, what was done to it."""
    found = find(CONTAINER, uid)
    own = owns(g.caller, found)
    uses = [getattr(Benchmark, field) == uid for field in ROLES]
    return render_template(
        "container.html",
        container=found,
        owns=own,
        used=newest(Benchmark, HISTORY, visible(g.caller, BENCHMARK), or_(*uses)),
        pair=ASSOCIATION,
        associations=newest(
            Association, HISTORY, Association.model_mlcube == uid, pairs.own(g.caller, ASSOCIATION)
        ),
        prepared=_prepared_with(uid) if own and found.state == DEVELOPMENT else [],
        history=history(CONTAINER, uid) if own else [],
    )


def _prepared_with(uid: int) -> list[Dataset]:
    """The datasets that a container prepares, for who mends it."""
    return newest(Dataset, HISTORY, Dataset.data_preparation_mlcube == uid)
