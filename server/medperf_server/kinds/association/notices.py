"""What data owners are told of models: that there is a new one to run."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medperf_server.base import APPROVED
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.pairs import owners_in
from medperf_server.notices.events import AT_ONCE, Event, News, called, changed
from medperf_server.notices.table import Notice


def told(session: Session, action: str, entity: Association) -> Iterator[News]:
    """Of a model that is approved, who has data in its benchmark, but for those who decided it."""
    decided = action == "created" or (action == "updated" and "approval_status" in changed(entity))
    if not decided or entity.approval_status != APPROVED:
        return
    sides = (side.of(session, entity) for side in ASSOCIATION.sides)
    others = owners_in(session, DATASET_ASSOCIATION, entity.benchmark)
    others -= {side.owner for side in sides if side}
    yield News(MODEL, others, BENCHMARK, entity.benchmark, {"model": entity.model_mlcube})


def _words(session: Session, notice: Notice, entity: Any) -> str | None:
    """What there is to run, for who still has data there, while the model still is."""
    model = session.get(Container, notice.facts["model"])
    if model is None or notice.user_id not in owners_in(session, DATASET_ASSOCIATION, entity.id):
        return None
    newest = select(func.max(Association.id)).filter_by(benchmark=entity.id, model_mlcube=model.id)
    status = select(Association.approval_status).where(Association.id == newest.scalar_subquery())
    if session.scalar(status) != APPROVED:
        return None
    return f"{called('model', model)} is new in {called('benchmark', entity)}"


MODEL = Event("model", "A model is approved in a benchmark that has data of mine", AT_ONCE, _words)
EVENTS = (MODEL,)
