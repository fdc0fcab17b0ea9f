"""Bring the catalog up to date: what changed since its cursor, or all of a plain server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from medperf_cache import Catalog
from medperf_client.errors import Offline
from medperf_client.registry import PAGE_SIZE, Registry
from medperf_client.wire import Entity, checked

# What a plain MedPerf server lists, by the type names of the change log.
LISTS = {
    "benchmark": "/benchmarks/",
    "mlcube": "/mlcubes/",
    "association": "/me/mlcubes/associations/",
}
# The catalog's note of whose token it was read with.
VIEWER = "viewer"


def pull(registry: Registry, catalog: Catalog) -> None:
    """Make the catalog equal to what the registry shows this member.

    Each page of changes and its cursor are stored together: a pull that is cut off resumes there,
    and what of two pulls at once was stored last is what its cursor says. Raises `Offline` and
    `Refused` as the registry does; the catalog is then as of the last page.
    """
    if known_member(registry, catalog) is None:
        log_in(registry, catalog)
    if not _pull_changes(registry, catalog):
        _pull_lists(registry, catalog)
    catalog.fetched_at = datetime.now(timezone.utc).isoformat(timespec="seconds")


def log_in(registry: Registry, catalog: Catalog) -> Entity:
    """Make the catalog that of the member who holds the registry's token; returns who that is.

    What another member may see is not this member's: it is forgotten.
    """
    member = checked("user", registry.get("/me/", hurried=True))
    with catalog.transaction():
        if catalog.me is not None and catalog.me["id"] != member["id"]:
            catalog.clear()
        catalog.me = member
        catalog.put(VIEWER, _viewer(registry))
    return member


def known_member(registry: Registry, catalog: Catalog) -> Entity | None:
    """Who holds the registry's token, if the registry ever said so."""
    return catalog.me if catalog.get(VIEWER, 0) == _viewer(registry) else None


def _viewer(registry: Registry) -> Entity:
    return {"id": 0, "token_sha256": registry.token_digest}


@contextmanager
def _write(registry: Registry, catalog: Catalog) -> Iterator[None]:
    """A transaction on the catalog, if it is still that of who asked the registry."""
    with catalog.transaction():
        if known_member(registry, catalog) is None:
            raise Offline("another member logged in meanwhile", hint="Try again.")
        yield


def _pull_changes(registry: Registry, catalog: Catalog) -> bool:
    """Whether the registry has a change log; the catalog is as of its end then."""
    # Who has a copy to work with does not wait for a registry that is slow to answer.
    hurried = catalog.fetched_at is not None
    more = True
    while more:
        since = catalog.cursor
        answer = registry.get("/changes/", hurried, since=since, limit=PAGE_SIZE)
        if answer is None:
            return False
        page = checked("changes", answer)
        more = page["more"] and page["next"] > since
        changes = [_checked_change(change) for change in page["changes"]]
        if page["next"] == since:
            break
        with _write(registry, catalog):
            for kind, uid, entity in changes:
                if entity is None:
                    catalog.remove(kind, uid)
                else:
                    catalog.put(kind, entity)
            catalog.cursor = page["next"]
    return True


def _checked_change(change: Any) -> tuple[str, int, Entity | None]:
    kind, uid = (checked("change", change)[name] for name in ("type", "id"))
    entity = change.get("entity")
    return kind, uid, None if entity is None else checked(kind, entity)


def _pull_lists(registry: Registry, catalog: Catalog) -> None:
    for kind, path in LISTS.items():
        entities = list(registry.pages(path))
        if kind == "association":
            # MedPerf's lists may carry no ID for an association: the order stands in, with numbers
            # that are nobody's.
            entities = [{"id": -n, **checked("pair", pair)} for n, pair in enumerate(entities, 1)]
        with _write(registry, catalog):
            catalog.replace(kind, [checked(kind, entity) for entity in entities])
