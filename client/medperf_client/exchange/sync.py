"""Bring the catalog up to date: what changed since, all of a plain server, or of another past."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import Entry, Outbox
from medperf_client.errors import MedPerfError, Offline, Refused
from medperf_client.exchange import past, plain
from medperf_client.exchange.lost import look_back, look_back_at_unlogged
from medperf_client.exchange.news import News
from medperf_client.exchange.past import Notice
from medperf_client.exchange.sender import Sender
from medperf_client.kinds import KINDS, USER, Entity, kind_of
from medperf_client.registry.client import PAGE_SIZE, Registry
from medperf_client.registry.wire import answered

# The catalog's note of whose token it was read with.
VIEWER = "viewer"
MUCH_TO_TELL = "it has more to tell than a command waits for, which medperf sync reads"


@dataclass(frozen=True)
class Synced:
    """What a sync did; `stopped` says why the rest waits, None if nothing does.

    `lost` are the entries that the registry turned out to have lost, or refer to what it has lost.
    """

    sent: list[Entry]
    rejected: list[Entry]
    stopped: MedPerfError | None
    news: list[str]
    lost: list[Entry] = field(default_factory=list)

    def record(self) -> Entity:
        """The same as JSON."""
        return {
            "sent": [{"uid": entry.uid, "as": entry.real_uid} for entry in self.sent],
            "rejected": [{"uid": entry.uid, "reason": entry.reason} for entry in self.rejected],
            "lost": [{"uid": entry.uid, "reason": entry.reason} for entry in self.lost],
            "news": self.news,
            "stopped": None if self.stopped is None else str(self.stopped),
        }


def sync(sender: Sender, outbox: Outbox, registry: Registry, catalog: Catalog) -> Synced:
    """Send the queue, then bring the catalog up to date and see what is news."""
    news, lost = News(catalog), list[Entry]()
    sending = sender.send(look=lambda: lost.extend(learn(outbox, registry, catalog, news)))
    stopped = sending.stopped
    try:
        pull(registry, catalog, news)
        _ask(registry, catalog, news)
        lost += look_back(outbox, catalog)
        lost += look_back_at_unlogged(outbox, catalog, registry)
    except MedPerfError as error:
        # What was sent has to be told, whatever comes after it.
        stopped = stopped or error
    return Synced(sending.sent, sending.rejected, stopped, news.lines, lost)


def _ask(registry: Registry, catalog: Catalog, news: News) -> None:
    """Read the lists that no change log tells of, and see what is news since that was told."""
    for kind in KINDS.values():
        for uid, path in kind.asked(news):
            (field,) = kind.lists
            try:
                found = kind.checked({"id": uid, field: list(registry.pages(path))})
            except (Offline, Refused):
                # Some registries tell the committee alone; and what cannot be had now can later.
                continue
            with _write(registry, catalog):
                # Not what was read since, such as by a run: nobody was told of that.
                told = catalog.get(past.TOLD + kind.name, uid)
                if told != found:
                    news(kind.name, told, found)
                    catalog.put(past.TOLD + kind.name, found)
                    catalog.put(kind.name, found)


def unnoticed(kind: str, before: Entity | None, after: Entity | None) -> None:
    """Notice for nobody."""


def pull(
    registry: Registry, catalog: Catalog, notice: Notice = unnoticed, hurried: bool = False
) -> None:
    """Make the catalog equal to what the registry shows this member; `notice` sees what changes.

    With `hurried` whoever has a copy to work with does not wait for a registry that is slow, or
    has much to tell.
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


def learn(
    outbox: Outbox, registry: Registry, catalog: Catalog, notice: Notice = unnoticed
) -> list[Entry]:
    """See, before the queue is sent, whether the registry still is what it was; what it has lost.

    Of a registry whose change log was never read there is nothing to compare. Raises as `pull`.
    """
    if catalog.cursor or catalog.log or catalog.is_read_again:
        pull(registry, catalog, notice)
    return look_back(outbox, catalog)


def log_in(registry: Registry, catalog: Catalog) -> Entity:
    """Make the catalog that of the member who holds the registry's token; returns who that is.

    What another member may see is not this member's: it is forgotten.
    """
    member = USER.checked(registry.get("/me/", hurried=True))
    with catalog.transaction():
        before = catalog.me
        if before is not None and before["id"] != member["id"]:
            if before["email"] == member["email"]:
                # The same person: it is the registry that is another one.
                past.doubt(catalog)
                catalog.put(past.FORMER, {"id": 0, "member": before["id"]})
            else:
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
    if catalog.cursor and catalog.log is None:
        # It was read before digests were asked for: whether it still stands cannot be told.
        past.doubt(catalog, suspect=False)
    more, was_reset = True, False
    until = time.monotonic() + registry.connect_timeout
    while more:
        if hurried and time.monotonic() > until:
            raise Offline(MUCH_TO_TELL)
        since, log, doubted = catalog.cursor, catalog.log or "", catalog.doubted()
        known = {"since": since, **({"log": log} if log else {})}
        answer = registry.get("/changes/", hurried, **known, limit=PAGE_SIZE)
        if answer is None:
            return False
        if isinstance(answer, dict) and answer.get("reset") is True and not was_reset:
            was_reset = True
            with _write(registry, catalog):
                past.doubt(catalog)
            continue
        page = answered("changes", answer)
        # Who has more to tell tells something: else a page could follow a page for ever.
        more = page["more"] and page["next"] > since and bool(page["changes"])
        changes = [_checked_change(change) for change in page["changes"]]
        told = str(page.get("log") or "")
        if (page["next"], told) == (since, log) and not doubted:
            break
        with _write(registry, catalog):
            for kind, uid, entity in changes:
                past.take(catalog, kind, uid, entity, notice)
            catalog.cursor, catalog.log = page["next"], told
            more = more or not past.end(catalog, doubted, notice)
    return True


def _checked_change(change: Any) -> tuple[str, int, Entity | None]:
    kind, uid = (answered("change", change)[name] for name in ("type", "id"))
    entity = change.get("entity")
    return kind, uid, None if entity is None else kind_of(kind).checked(entity)


def _pull_lists(registry: Registry, catalog: Catalog, notice: Notice) -> None:
    for kind, entities in plain.listed(registry):
        found = {entity["id"]: entity for entity in entities}
        with _write(registry, catalog):
            known = {entity["id"]: entity for entity in catalog.all(kind)}
            for uid in known.keys() | found.keys():
                if known.get(uid) != found.get(uid):
                    notice(kind, known.get(uid), found.get(uid))
            catalog.replace(kind, found.values())
    for one in catalog.doubted():
        catalog.confirm(*one)
    catalog.is_read_again = False
