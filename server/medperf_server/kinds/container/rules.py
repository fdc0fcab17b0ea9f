"""What a container may be, and what of it may change."""

from typing import Any

from sqlalchemy import select

from medperf_server.base import OPERATION, db
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.container.table import CONTENT, Container
from medperf_server.policy import IN_OPERATION, Values, only_fields, refuse, unique_name

HASHED_URLS = (
    ("git_parameters_url", "parameters_hash"),
    ("additional_files_tarball_url", "additional_files_tarball_hash"),
    ("image_tarball_url", "image_tarball_hash"),
)
OPERATION_FIELDS = {
    "is_valid",
    "user_metadata",
    "git_mlcube_url",
    *(url for url, _ in HASHED_URLS),
}


def check_container(values: Values, entity: Container | None = None) -> None:
    """Rules of content for a new container, or for changes (`values`) to `entity`."""
    own = entity.id if entity else None
    if entity and entity.state == OPERATION:
        only_fields(entity, values, OPERATION_FIELDS, IN_OPERATION)
    unique_name(CONTAINER, values, own)
    pairs = tuple(field for pair in HASHED_URLS for field in pair)
    merged = _merged(entity, values, (*pairs, *CONTENT, "git_mlcube_url"))
    for url, digest in HASHED_URLS:
        if bool(merged[url]) != bool(merged[digest]):
            refuse(f"{url} and {digest} are given together or not at all", url)
    if bool(merged["image_hash"]) == bool(merged["image_tarball_hash"]):
        refuse("exactly one of image_hash and image_tarball_hash is needed", "image_hash")
    content = {field: merged[field] for field in CONTENT}
    twin = db.session.scalar(select(Container.id).filter_by(**content))
    if twin is not None and twin != own:
        refuse(f"A container with the same content exists: UID {twin}")


def _merged(entity: Any, values: Values, fields: tuple[str, ...]) -> Values:
    return {field: values.get(field, getattr(entity, field, "") or "") for field in fields}
