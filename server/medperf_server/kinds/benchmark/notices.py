"""What is told of benchmarks: that one waits, is decided, changes, or is closed."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from medperf_server.base import APPROVED, PENDING, REJECTED
from medperf_server.kinds import joining
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.kind import Pair
from medperf_server.kinds.pairs import owners_in
from medperf_server.kinds.user.table import User
from medperf_server.notices.decisions import DECISION, REQUEST
from medperf_server.notices.events import DAILY, Event, News, called, changed
from medperf_server.notices.table import Notice

# What changes by itself, or with a decision.
NO_CHANGE = {"modified_at", "approval_status", "approved_at", "approved_digest", "state"}
OPEN = ("is_active", "is_valid")


def told(session: Session, action: str, entity: Benchmark) -> Iterator[News]:
    """Of a new one administrators, of a decision its owner, of a change who takes part."""
    if action == "created":
        admins = session.scalars(select(User.id).where(User.is_admin, User.is_active))
        yield News(REQUEST, admins, BENCHMARK, entity.id)
    if action != "updated":
        return
    changes = changed(entity)
    before, status = changes.get("approval_status", (None, entity.approval_status))
    if before is not None:
        yield News(DECISION, {entity.owner}, BENCHMARK, entity.id, {"status": status})
    ended = [name for name in OPEN if changes.get(name) == (True, False)]
    fields = sorted(name.rstrip("_") for name in changes.keys() - NO_CHANGE)
    if before == APPROVED and status == REJECTED:
        yield _to_all(session, entity, {"closed": True})
    elif ended or fields:
        yield _to_all(session, entity, {"closed": True} if ended else {"fields": fields})


def _to_all(session: Session, entity: Benchmark, facts: dict[str, Any]) -> News:
    """Its owner, and whoever has something in it or asks to."""
    members = {entity.owner}
    for pair, _, _ in joining(BENCHMARK):
        if isinstance(pair, Pair) and pair.sides[1].kind is BENCHMARK:
            members |= owners_in(session, pair, entity.id, (APPROVED, PENDING))
    return News(CHANGED, members, BENCHMARK, entity.id, facts)


def _words(session: Session, notice: Notice, entity: Benchmark) -> str:
    one = called("benchmark", entity)
    if notice.facts.get("closed"):
        return f"{one} is closed"
    fields = (name.replace("_", " ") for name in notice.facts["fields"])
    return f"{one} has changed: {', '.join(fields)}"


CHANGED = Event(
    "benchmark", "A benchmark that I own or take part in changes or is closed", DAILY, _words
)
EVENTS = (CHANGED,)
