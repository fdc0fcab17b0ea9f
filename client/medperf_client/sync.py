"""Send the queue; bring the catalog up to date: what changed, or all of a plain server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import Entry
from medperf_client.errors import MedPerfError, Offline
from medperf_client.news import News
from medperf_client.outgoing import Sender
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


# Called with a type and an entity as it was and as it is; None before it was, or once it is gone.
Notice = Callable[[str, Entity | None, Entity | None], None]


@dataclass(frozen=True)
class Synced:
    """What a sync did; `stopped` says why the rest waits, None if nothing does."""

    sent: list[Entry]
    rejected: list[Entry]
    stopped: MedPerfError | None
    news: list[str]

    def record(self) -> Entity:
        """The same as JSON."""
        return {
            "sent": [{"uid": entry.uid, "as": entry.real_uid} for entry in self.sent],
            "rejected": [{"uid": entry.uid, "reason": entry.reason} for entry in self.rejected],
            "news": self.news,
            "stopped": None if self.stopped is None else str(self.stopped),
        }


def sync(sender: Sender, registry: Registry, catalog: Catalog) -> Synced:
    """Send the queue, then bring the catalog up to date and see what is news."""
    sending = sender.send()
    news = News(catalog)
    stopped = sending.stopped
    try:
        pull(registry, catalog, news)
    except MedPerfError as error:
        # What was sent has to be told, whatever comes after it.
        stopped = stopped or error
    return Synced(sending.sent, sending.rejected, stopped, news.lines)


def unnoticed(kind: str, before: Entity | None, after: Entity | None) -> None:
    """Notice for nobody."""


def pull(
    registry: Registry, catalog: Catalog, notice: Notice = unnoticed, hurried: bool = False
) -> None:
    """Make the catalog equal to what the registry shows this member; `notice` sees what changes.

    With `hurried` whoever has a copy to work with does not wait for a registry that is slow.
    Each page of changes and its cursor are stored together: a pull that is cut off resumes there,
    and what of two pulls at once was stored last is what its cursor says. Raises `Offline` and
    `Refused` as the registry does; the catalog is then as of the last page.
    """
    if known_member(registry, catalog) is None:
        log_in(registry, catalog)
    hurried = hurried and catalog.fetched_at is not None
    if not _pull_changes(registry, catalog, notice, hurried):
        _pull_lists(registry, catalog, notice)
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


def _pull_changes(registry: Registry, catalog: Catalog, notice: Notice, hurried: bool) -> bool:
    """Whether the registry has a change log; the catalog is as of its end then."""
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
                notice(kind, catalog.get(kind, uid), entity)
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


def _pull_lists(registry: Registry, catalog: Catalog, notice: Notice) -> None:
    for kind, path in LISTS.items():
        entities = list(registry.pages(path))
        if kind == "association":
            # MedPerf's lists may carry no ID for an association: the order stands in, with numbers
            # that are nobody's.
            entities = [{"id": -n, **checked("pair", pair)} for n, pair in enumerate(entities, 1)]
        found = {entity["id"]: checked(kind, entity) for entity in entities}
        with _write(registry, catalog):
            known = {entity["id"]: entity for entity in catalog.all(kind)}
            for uid in known.keys() | found.keys():
                if known.get(uid) != found.get(uid):
                    notice(kind, known.get(uid), found.get(uid))
            catalog.replace(kind, found.values())
