"""What a benchmark may be, what of it may change, who decides on it and who is invited."""

from sqlalchemy import select

from medperf_server.auth import find_user
from medperf_server.base import APPROVED, OPERATION, PENDING, REJECTED, db, utc_now
from medperf_server.callers import Caller
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.approval import content_digest
from medperf_server.kinds.benchmark.metrics import check_metrics
from medperf_server.kinds.benchmark.table import ROLES, Benchmark, BenchmarkMember
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.user.table import User
from medperf_server.policy import (
    IN_OPERATION,
    Values,
    only_fields,
    refuse,
    require_admin,
    unique_name,
)

OPERATION_FIELDS = {
    "is_valid",
    "is_active",
    "is_private",
    "ranking_audience",
    "ranking_sites",
    "ranking_published",
    "user_metadata",
    "approval_status",
    "demo_dataset_tarball_url",
}


def check_benchmark(caller: Caller, values: Values, entity: Benchmark | None = None) -> None:
    """Rules for a new benchmark, or for changes (`values`) to `entity`.

    Sets what the registry decides itself: the status of a new one, the time of a decision, and of
    what it is. `seen` in the values is the digest of what was looked at before a decision.
    """
    seen = values.pop("seen", None)
    if entity is None:
        values["approval_status"] = PENDING
        _only_pending(caller)
    else:
        _check_fixed(entity, values)
        _check_approval(caller, values, entity)
    check_metrics(values.get("metadata_", {}))
    unique_name(BENCHMARK, values, entity.id if entity else None)
    state = values.get("state", entity.state if entity else None)
    for field in ROLES:
        uid = values.get(field, getattr(entity, field, None))
        container = db.session.get(Container, uid)
        if container is None:
            refuse(f"There is no container with UID {uid}", field)
        if state == OPERATION and container.state != OPERATION:
            refuse(f"Container {uid} is not in OPERATION", field)
    if entity is not None:
        _check_seen(values, entity, seen)


def decides(caller: Caller, entity: Benchmark) -> bool:
    """Whether it waits for the caller's decision."""
    return caller.is_admin and entity.approval_status == PENDING


def _check_fixed(entity: Benchmark, values: Values) -> None:
    """What is in OPERATION stays; so does what is approved.

    Registries approved benchmarks in DEVELOPMENT once: those may still step to OPERATION.
    """
    if entity.state == OPERATION:
        only_fields(entity, values, OPERATION_FIELDS, IN_OPERATION)
    elif entity.approval_status == APPROVED:
        allowed = OPERATION_FIELDS | {"state"}
        only_fields(entity, values, allowed, "it is APPROVED")


def _check_seen(values: Values, entity: Benchmark, seen: str | None) -> None:
    """A decision is of what was seen; an approval keeps the digest of it."""
    approves = values.get("approval_status") == APPROVED != entity.approval_status
    if seen is None and not approves:
        return
    digest = content_digest(entity, values)
    if seen not in (None, digest):
        refuse("it has changed since you looked: look at it again, then decide", "seen")
    if approves:
        values["approved_digest"] = digest


def _only_pending(caller: Caller) -> None:
    pending = db.session.scalar(
        select(Benchmark.id).filter_by(owner=caller.id, approval_status=PENDING)
    )
    if pending is not None:
        refuse(f"Your benchmark {pending} is PENDING; wait until an admin decides on it")


def _check_approval(caller: Caller, values: Values, entity: Benchmark) -> None:
    wanted = values.get("approval_status", entity.approval_status)
    if wanted == entity.approval_status:
        return
    require_admin(caller)
    if wanted == PENDING:
        refuse("a decided benchmark cannot become PENDING again", "approval_status")
    if entity.approval_status == REJECTED:
        refuse("a REJECTED benchmark cannot become APPROVED", "approval_status")
    if wanted == APPROVED and values.get("state", entity.state) != OPERATION:
        refuse(
            "a benchmark in DEVELOPMENT may change: it can be approved once it is in OPERATION",
            "approval_status",
        )
    values["approved_at"] = utc_now()


def invited_user(caller: Caller, benchmark: Benchmark, values: Values) -> User:
    """Whom to show a benchmark: a member by e-mail address; for admins, also by UID.

    An owner has to know the address, for the list of members shows it to them from then on.
    """
    field, given = next(iter(values.items()))
    if field == "user":
        require_admin(caller)
    user = db.session.get(User, given) if field == "user" else find_user(given)
    if user is None:
        refuse(f"{given!r} is no member of this registry", field)
    if db.session.get(BenchmarkMember, (benchmark.id, user.id)):
        refuse(f"{user.email} is invited already")
    return user
