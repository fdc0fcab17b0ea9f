"""Who may do what, and which changes of state are allowed: every rule of the contract.

Functions return nothing when the rule holds, raise `Forbidden` (403) when the caller lacks the
role and `ValidationError` (400, marshmallow's) when a rule of state or content is broken.
"""

from typing import Any, NoReturn

from marshmallow import ValidationError
from sqlalchemy import ColumnElement, and_, or_, select, true
from werkzeug.exceptions import Forbidden

from medperf_server.approval import BENCHMARK_CONTAINERS, CONTAINER_CONTENT, content_digest
from medperf_server.auth import find_user
from medperf_server.callers import Caller
from medperf_server.models import (
    APPROVED,
    OPERATION,
    PENDING,
    REJECTED,
    Association,
    Benchmark,
    BenchmarkMember,
    Change,
    Container,
    User,
    db,
    folded,
    utc_now,
)

Values = dict[str, Any]

IN_OPERATION = "the state is OPERATION"
CONTAINER_HASHED_URLS = (
    ("git_parameters_url", "parameters_hash"),
    ("additional_files_tarball_url", "additional_files_tarball_hash"),
    ("image_tarball_url", "image_tarball_hash"),
)
CONTAINER_OPERATION_FIELDS = {
    "is_valid",
    "user_metadata",
    "git_mlcube_url",
    *(url for url, _ in CONTAINER_HASHED_URLS),
}
# What of a container may be a file's SHA-256.
CONTAINER_FILES = (
    Container.mlcube_hash,
    Container.parameters_hash,
    Container.image_tarball_hash,
    Container.image_hash,
    Container.additional_files_tarball_hash,
)
BENCHMARK_OPERATION_FIELDS = {
    "is_valid",
    "is_active",
    "is_private",
    "user_metadata",
    "approval_status",
    "demo_dataset_tarball_url",
}


def _refuse(message: str, field: str = "non_field_errors") -> NoReturn:
    raise ValidationError({field: [message]})


def _require(allowed: bool) -> None:
    if not allowed:
        raise Forbidden("You do not have permission to perform this action.")


def _owns(caller: Caller, entity: Container | Benchmark) -> bool:
    return caller.is_admin or entity.owner == caller.id


def require_admin(caller: Caller) -> None:
    """Admins only."""
    _require(caller.is_admin)


def require_self(caller: Caller, uid: int) -> None:
    """The member with this UID, and admins."""
    _require(caller.is_admin or caller.id == uid)


def require_owner(caller: Caller, entity: Container | Benchmark) -> None:
    """The entity's owner, and admins. Owners of associated data join for lists of models later."""
    _require(_owns(caller, entity))


def require_side(caller: Caller, container: Container, benchmark: Benchmark) -> None:
    """The owner of either side of an association, and admins."""
    _require(_owns(caller, container) or _owns(caller, benchmark))


def visible_changes(caller: Caller) -> ColumnElement[bool]:
    """Which rows of the change log the caller may see."""
    if caller.is_admin:
        return true()
    return or_(Change.audience.is_(None), Change.audience.contains(f",{caller.id},"))


def visible(caller: Caller, model: type[Any]) -> ColumnElement[bool]:
    """Which rows of a table the caller may see.

    Of benchmarks not those that are private and to which nobody invited them; of these no
    associations either, be it with their own models.
    """
    if model not in (Benchmark, Association) or caller.is_admin:
        return true()
    invited = select(BenchmarkMember.benchmark).filter_by(user_id=caller.id)
    seen = or_(~Benchmark.is_private, Benchmark.owner == caller.id, Benchmark.id.in_(invited))
    if model is Benchmark:
        return seen
    return Association.benchmark.in_(select(Benchmark.id).where(seen))


def own_associations(caller: Caller) -> ColumnElement[bool]:
    """The associations of the caller's models and benchmarks."""
    models = select(Container.id).where(Container.owner == caller.id)
    benchmarks = select(Benchmark.id).where(Benchmark.owner == caller.id)
    sides = or_(Association.model_mlcube.in_(models), Association.benchmark.in_(benchmarks))
    return and_(sides, visible(caller, Association))


def invited_user(caller: Caller, benchmark: Benchmark, values: Values) -> User:
    """Whom to show a benchmark: a member by e-mail address; for admins, also by UID.

    An owner has to know the address, for the list of members shows it to them from then on.
    """
    field, given = next(iter(values.items()))
    if field == "user":
        require_admin(caller)
    user = db.session.get(User, given) if field == "user" else find_user(given)
    if user is None:
        _refuse(f"{given!r} is no member of this registry", field)
    if db.session.get(BenchmarkMember, (benchmark.id, user.id)):
        _refuse(f"{user.email} is invited already")
    return user


def _merged(entity: Any, values: Values, fields: tuple[str, ...]) -> Values:
    return {field: values.get(field, getattr(entity, field, "") or "") for field in fields}


def _unique_name(model: type[Container] | type[Benchmark], values: Values, own: int | None) -> None:
    if "name" not in values:
        return
    taken = db.session.scalar(select(model.id).where(model.name == values["name"]))
    if taken is not None and taken != own:
        # Not by whom: it may be private.
        _refuse(f"The name {values['name']!r} is taken", "name")


def _only_fields(entity: Any, values: Values, allowed: set[str], since: str) -> None:
    for field, value in values.items():
        if field not in allowed and getattr(entity, field) != value:
            _refuse(f"cannot be changed once {since}", field.rstrip("_"))


def check_container(values: Values, entity: Container | None = None) -> None:
    """Rules of content for a new container, or for changes (`values`) to `entity`."""
    own = entity.id if entity else None
    if entity and entity.state == OPERATION:
        _only_fields(entity, values, CONTAINER_OPERATION_FIELDS, IN_OPERATION)
    _unique_name(Container, values, own)
    pairs = tuple(field for pair in CONTAINER_HASHED_URLS for field in pair)
    merged = _merged(entity, values, (*pairs, *CONTAINER_CONTENT, "git_mlcube_url"))
    for url, digest in CONTAINER_HASHED_URLS:
        if bool(merged[url]) != bool(merged[digest]):
            _refuse(f"{url} and {digest} are given together or not at all", url)
    if bool(merged["image_hash"]) == bool(merged["image_tarball_hash"]):
        _refuse("exactly one of image_hash and image_tarball_hash is needed", "image_hash")
    content = {field: merged[field] for field in CONTAINER_CONTENT}
    twin = db.session.scalar(select(Container.id).filter_by(**content))
    if twin is not None and twin != own:
        _refuse(f"A container with the same content exists: UID {twin}")


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
    _unique_name(Benchmark, values, entity.id if entity else None)
    state = values.get("state", entity.state if entity else None)
    for field in BENCHMARK_CONTAINERS:
        uid = values.get(field, getattr(entity, field, None))
        container = db.session.get(Container, uid)
        if container is None:
            _refuse(f"There is no container with UID {uid}", field)
        if state == OPERATION and container.state != OPERATION:
            _refuse(f"Container {uid} is not in OPERATION", field)
    if entity is not None:
        _check_seen(values, entity, seen)


def _check_fixed(entity: Benchmark, values: Values) -> None:
    """What is in OPERATION stays; so does what is approved.

    Registries approved benchmarks in DEVELOPMENT once: those may still step to OPERATION.
    """
    if entity.state == OPERATION:
        _only_fields(entity, values, BENCHMARK_OPERATION_FIELDS, IN_OPERATION)
    elif entity.approval_status == APPROVED:
        allowed = BENCHMARK_OPERATION_FIELDS | {"state"}
        _only_fields(entity, values, allowed, "it is APPROVED")


def _check_seen(values: Values, entity: Benchmark, seen: str | None) -> None:
    """A decision is of what was seen; an approval keeps the digest of it."""
    approves = values.get("approval_status") == APPROVED != entity.approval_status
    if seen is None and not approves:
        return
    digest = content_digest(entity, values)
    if seen not in (None, digest):
        _refuse("it has changed since you looked: look at it again, then decide", "seen")
    if approves:
        values["approved_digest"] = digest


def _only_pending(caller: Caller) -> None:
    pending = db.session.scalar(
        select(Benchmark.id).filter_by(owner=caller.id, approval_status=PENDING)
    )
    if pending is not None:
        _refuse(f"Your benchmark {pending} is PENDING; wait until an admin decides on it")


def _check_approval(caller: Caller, values: Values, entity: Benchmark) -> None:
    wanted = values.get("approval_status", entity.approval_status)
    if wanted == entity.approval_status:
        return
    require_admin(caller)
    if wanted == PENDING:
        _refuse("a decided benchmark cannot become PENDING again", "approval_status")
    if entity.approval_status == REJECTED:
        _refuse("a REJECTED benchmark cannot become APPROVED", "approval_status")
    if wanted == APPROVED and values.get("state", entity.state) != OPERATION:
        _refuse(
            "a benchmark in DEVELOPMENT may change: it can be approved once it is in OPERATION",
            "approval_status",
        )
    values["approved_at"] = utc_now()


def check_user(values: Values, entity: User) -> None:
    """Names and addresses, in whatever case, belong to one member each."""
    for field in ("username", "email"):
        if field not in values:
            continue
        same = getattr(User, f"{field}_key") == folded(values[field])
        if db.session.scalar(select(User.id).where(same, User.id != entity.id)) is not None:
            _refuse(f"{values[field]!r} belongs to another member", field)


def check_user_removal(caller: Caller, uid: int) -> None:
    """Admins may remove anyone but themselves: one of them is left that way."""
    require_admin(caller)
    if caller.id == uid:
        _refuse("You cannot remove yourself; another admin can")


def check_admins_left(values: Values, entity: User) -> None:
    """Somebody stays an admin who can sign in: no change may lock out the last one.

    Two changes at once meet at the admins' rows, which are locked.
    """
    stays = values.get("is_admin", entity.is_admin) and values.get("is_active", entity.is_active)
    if stays or not (entity.is_admin and entity.is_active):
        return
    admins = select(User.id).where(User.is_admin, User.is_active).with_for_update()
    if set(db.session.scalars(admins)) <= {entity.id}:
        _refuse(f"{entity.email} is the only admin left; make another member one first")


def newest_association(model: int, benchmark: int) -> Association | None:
    """The newest association of the pair as it is now, locked until the transaction ends."""
    return db.session.scalar(
        select(Association)
        .filter_by(model_mlcube=model, benchmark=benchmark)
        .order_by(Association.id.desc())
        .limit(1)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def check_association_request(caller: Caller, values: Values) -> None:
    """Rules for a new association; sets when it was decided, if it comes decided.

    Two requests for one benchmark at once meet at its row's lock.
    """
    model, uid = values["model_mlcube"], values["benchmark"]
    container = db.session.get(Container, model)
    shown = select(Benchmark).where(Benchmark.id == uid, visible(caller, Benchmark))
    benchmark = db.session.scalar(shown.with_for_update())
    if container is None:
        _refuse(f"There is no container with UID {model}", "model_mlcube")
    if benchmark is None:
        _refuse(f"There is no benchmark with UID {uid}", "benchmark")
    require_side(caller, container, benchmark)
    if benchmark.approval_status != APPROVED:
        _refuse(f"Benchmark {uid} is {benchmark.approval_status}, not APPROVED", "benchmark")
    if benchmark.state != OPERATION:
        _refuse(f"Benchmark {uid} is not in OPERATION", "benchmark")
    if container.state != OPERATION:
        _refuse(f"Container {model} is not in OPERATION", "model_mlcube")
    last = newest_association(model, uid)
    wanted = values.get("approval_status", PENDING)
    if last is None or last.approval_status == REJECTED:
        if wanted != PENDING:
            _refuse("a new association starts as PENDING", "approval_status")
    elif last.approval_status == PENDING:
        _refuse("a PENDING association of this model and benchmark exists")
    elif wanted != REJECTED:
        _refuse("after an APPROVED association only a REJECTED one may follow", "approval_status")
    if wanted != PENDING:
        values["approved_at"] = utc_now()


def check_association_update(caller: Caller, entity: Association, values: Values) -> None:
    """Rules for deciding an association, the newest of its pair, or setting its priority.

    `id` in the values is the UID of the one that was meant.
    """
    container = db.session.get_one(Container, entity.model_mlcube)
    benchmark = db.session.get_one(Benchmark, entity.benchmark)
    require_side(caller, container, benchmark)
    if (meant := values.pop("id", entity.id)) != entity.id:
        newest = f"the newest of this model and this benchmark is {entity.id}"
        _refuse(f"request {meant} is not up for a decision: {newest}; look at that one", "id")
    if values.get("priority", entity.priority) != entity.priority:
        require_owner(caller, benchmark)
    if "approval_status" not in values:
        if "reason" in values:
            _refuse("a reason goes with a decision: give approval_status too", "reason")
        return
    wanted = values["approval_status"]
    if entity.approval_status != PENDING:
        _refuse(f"this association is {entity.approval_status} already", "approval_status")
    if wanted == APPROVED and entity.initiated_by == caller.id:
        _refuse("you cannot approve an association that you requested", "approval_status")
    if wanted != PENDING:
        values["approved_at"] = utc_now()


def check_asset_unused(sha256: str) -> None:
    """A file that a container or a benchmark needs stays."""
    needs = or_(*(column == sha256 for column in CONTAINER_FILES))
    container = db.session.scalar(select(Container.id).where(needs).limit(1))
    if container is not None:
        _refuse(
            f"Container {container} needs the file {sha256}, and nobody else holds it", "sha256"
        )
    demo = select(Benchmark.id).filter_by(demo_dataset_tarball_hash=sha256).limit(1)
    if db.session.scalar(demo) is not None:
        # Not which: it may be private.
        _refuse(f"A benchmark needs the file {sha256}, and nobody else holds it", "sha256")
