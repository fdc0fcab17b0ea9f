"""Bring the catalog up to date: what changed since its cursor, or all of a plain server."""

from datetime import datetime, timezone

from medperf_cache import Catalog
from medperf_client.errors import Refused
from medperf_client.registry import Registry

# What a plain MedPerf server lists, by the type names of the change log.
LISTS = {
    "benchmark": "/benchmarks/",
    "mlcube": "/mlcubes/",
    "association": "/me/mlcubes/associations/",
}
PAGE_SIZE = 500


def pull(registry: Registry, catalog: Catalog) -> None:
    """Make the catalog equal to what the registry shows this member.

    Each page of changes and its cursor are stored together: a pull that is cut off resumes there.
    Raises `Offline` and `Refused` as the registry does; the catalog is then as of the last page.
    """
    if catalog.me is None:
        catalog.me = registry.get("/me/")
    try:
        _pull_changes(registry, catalog)
    except Refused as error:
        if error.status != 404:
            raise
        _pull_lists(registry, catalog)
    catalog.fetched_at = datetime.now(timezone.utc).isoformat(timespec="seconds")


def _pull_changes(registry: Registry, catalog: Catalog) -> None:
    more = True
    while more:
        page = registry.get("/changes/", since=catalog.cursor, limit=PAGE_SIZE)
        more = page["more"]
        if not page["changes"]:
            return
        with catalog.transaction():
            for change in page["changes"]:
                if change["entity"] is None:
                    catalog.remove(change["type"], change["id"])
                else:
                    catalog.put(change["type"], change["entity"])
            catalog.cursor = page["next"]


def _pull_lists(registry: Registry, catalog: Catalog) -> None:
    for kind, path in LISTS.items():
        entities = list(registry.pages(path))
        if kind == "association":
            # MedPerf's lists carry no ID for an association: the pair and its order stand in.
            entities = [{"id": number, **entity} for number, entity in enumerate(entities, 1)]
        catalog.replace(kind, entities)
