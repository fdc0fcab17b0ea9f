"""One site: its profile, its cache, its copy of the registry, and the registry if it answers."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from diskcache import Timeout

from medperf_cache import CacheError, Catalog, Storage
from medperf_cache.locks import hold
from medperf_cache.outbox import REJECTED, Entry, Outbox
from medperf_client.errors import LOGIN_HINT, MedPerfError, Offline, Refused, UsageError
from medperf_client.exchange.queue import Queue
from medperf_client.kinds import Entity, kind_of
from medperf_client.kinds.submission import OPERATION
from medperf_client.settings.config import Home, load_config
from medperf_client.settings.credentials import Credentials

# Whoever lists or looks things up does not wait for what tests, fetches or sends.
if TYPE_CHECKING:
    from medperf_client.containers.platforms import Platforms
    from medperf_client.exchange.sender import Sender
    from medperf_client.exchange.sync import Synced
    from medperf_client.execution.checker import ContainerChecker
    from medperf_client.execution.compatibility import CompatibilityTest, Reports
    from medperf_client.kinds.submission import Submission
    from medperf_client.registry.client import Registry
    from medperf_client.transfer.fetcher import Fetcher, Progress
    from medperf_client.transfer.own_files import OwnFiles


class Site:
    """Everything a command works with; each part is opened when it is first asked for.

    `tell` gets one-line notices for the user, such as that the registry is away; `progress` is told
    of transfers.
    """

    def __init__(
        self,
        home: Home | None = None,
        offline: bool = False,
        tell: Callable[[str], None] = lambda line: None,
        progress: "Progress | None" = None,
    ) -> None:
        self.home = home or Home.from_environment()
        self.config = load_config(self.home.config_file)
        self.profile = self.config.profile
        self.offline = offline or os.environ.get("MEDPERF_OFFLINE", "") not in ("", "0")
        self.tell = tell
        self.progress: Progress = progress or (lambda what, done, total: None)

    @property
    def folder(self) -> Path:
        """Where what belongs to this registry is kept."""
        return self.home.registry(self.profile.server_url)

    @cached_property
    def credentials(self) -> Credentials:
        """The tokens of this member."""
        return Credentials(self.home.data)

    @cached_property
    def registry(self) -> "Registry":
        """The registry of the active profile, as the member who is logged in."""
        url = self.profile.server_url
        return self.registry_with(None if self.offline else self.credentials.token(url))

    def registry_with(self, token: str | None) -> "Registry":
        """The registry of the active profile, as whoever holds a token."""
        from medperf_client.registry.client import Registry

        profile = self.profile
        return Registry(
            profile.server_url,
            token,
            profile.connect_timeout,
            profile.read_timeout,
            self.offline,
            profile.answer_timeout,
            profile.download_speed,
        )

    @cached_property
    def catalog(self) -> Catalog:
        """The last known copy of the registry's entities."""
        return Catalog(self.folder / "catalog")

    @cached_property
    def storage(self) -> Storage:
        """The cache of files and results."""
        return Storage(self.home.cache)

    @cached_property
    def fetcher(self) -> "Fetcher":
        """Brings files into the cache."""
        from medperf_client.transfer.downloads import Bounds
        from medperf_client.transfer.fetcher import Fetcher

        timeouts = (self.profile.connect_timeout, self.profile.read_timeout)
        return Fetcher(
            self.storage,
            timeouts,
            self.offline,
            self.progress,
            self.profile.mirrors,
            own=self.own_files,
            bounds=Bounds(self.profile.download_bytes, self.profile.download_speed),
        )

    @property
    def own_files(self) -> "OwnFiles":
        """The files that the registry stores for its members."""
        from medperf_client.transfer.own_files import OwnFiles

        url = self.profile.server_url
        return OwnFiles(url, lambda: self.credentials.token(url))

    @cached_property
    def platforms(self) -> "Platforms":
        """What runs containers."""
        from medperf_client.containers.platforms import Platforms

        return Platforms(
            self.profile.allow_process,
            self.storage.scratch,
            self.offline,
            self.progress,
            self.storage.images,
        )

    @cached_property
    def reports(self) -> "Reports":
        """The compatibility tests that were run."""
        from medperf_client.execution.compatibility import Reports

        return Reports(self.folder / "reports")

    @cached_property
    def checker(self) -> "ContainerChecker":
        """Checks containers before they are submitted."""
        from medperf_client.execution.checker import ContainerChecker

        return ContainerChecker(self.storage, self.fetcher, self.platforms.runner_for, self.tell)

    def compatibility_test(self, refetch: bool = False) -> "CompatibilityTest":
        """Runs compatibility tests; with `refetch`, images at URLs are asked for again."""
        from medperf_client.containers.library import Library
        from medperf_client.containers.runner import Limits
        from medperf_client.execution.compatibility import CompatibilityTest

        profile = self.profile
        limits = Limits(
            profile.task_timeout,
            profile.pids_limit,
            profile.memory,
            profile.output_bytes,
            profile.output_files,
        )
        return CompatibilityTest(
            self.storage,
            Library(self.storage, self.fetcher, refetch),
            self.entity,
            self.freshen,
            self.platforms.runner_for,
            limits,
            self.reports,
            self.tell,
        )

    @cached_property
    def queue(self) -> Queue:
        """What waits to be sent to the registry."""
        return Queue(Outbox(self.folder / "outbox"))

    @cached_property
    def sender(self) -> "Sender":
        """Sends the queue."""
        return self.sender_of(self.queue.outbox)

    def sender_of(self, outbox: Outbox) -> "Sender":
        """Sends an outbox to the registry, as this member."""
        from medperf_client.exchange.sender import Sender

        return Sender(outbox, self.registry, self.catalog, self._complete, self._acting)

    @property
    def _whose(self) -> int | str | None:
        """Whose a submission is: the member's, or of who holds this token if that is unknown."""
        if self.member is not None:
            uid: int = self.member["id"]
            return uid
        known = not self.offline and self.credentials.token(self.profile.server_url)
        return self.registry.token_digest if known else None

    def _complete(self, entry: Entry) -> Entity:
        from medperf_client.registry.uploads import Uploader

        body = self.checker.completed(entry.body) if entry.unknown else entry.body
        uploader = Uploader(self.storage, self.registry, self.progress)
        for digest in entry.uploads:
            # An edit may have put something else in its place.
            if self.own_files.url(digest) in body.values():
                uploader.upload(digest)
        return body

    def keep_queued(self) -> None:
        """Keep from `storage gc` the files that the registry has to have, and let go the others.

        Those are what waits to be uploaded, and what was, as long as the registry may lose it.
        """
        name = f"queue of {self.profile.server_url}"
        with self.queue.outbox.transaction():
            needed = {digest for entry in self.queue.outbox.entries() for digest in entry.uploads}
            if needed:
                self.storage.pins.put(name, (("blob", digest) for digest in needed))
            else:
                self.storage.pins.remove(name)

    def _acting(self) -> Entity:
        """Who sends: the member whose token it is, asked if the registry never said."""
        from medperf_client.exchange.sync import known_member, log_in

        known = known_member(self.registry, self.catalog)
        return known or log_in(self.registry, self.catalog)

    def submit(self, submission: "Submission") -> Entry:
        """Queue a submission and send it, if the registry answers; else it waits.

        Returns the entry, sent or not. Raises `Refused` with the registry's words if it says no:
        then it does not stay in the queue, unless something has come to depend on it there, for
        who submitted is there to decide what to do.
        """
        self._look_back()
        entry = self.queue.add(submission, self._whose)
        if entry.uploads:
            self.keep_queued()
        self.sender.send(only=entry.uid, look=self._learn)
        entry = self.queue.entry(entry.uid)
        if entry.state == REJECTED:
            with suppress(UsageError):
                self.queue.drop(entry.uid)
        if entry.uploads:
            self.keep_queued()
        if entry.state == REJECTED:
            raise Refused(entry.reason)
        return entry

    def sync(self) -> "Synced":
        """Send the queue, then learn what is new."""
        from medperf_client.exchange.sync import sync

        done = sync(self.sender, self.queue.outbox, self.registry, self.catalog)
        gone = self.queue.outbox.let_go(self.profile.resend_days)
        if any(entry.uploads for entry in gone):
            self.keep_queued()
        return done

    def resend(self, uids: Sequence[str] = ()) -> tuple[list[Entry], list[Entry]]:
        """Queue anew what the registry has lost; see `past.resend`."""
        from medperf_client.exchange import past

        return past.resend(self.queue, self.catalog, uids, self._whose)

    def _learn(self) -> None:
        from medperf_client.exchange.sync import learn

        self.tell_lost(learn(self.queue.outbox, self.registry, self.catalog))

    def _look_back(self) -> None:
        """See what of the queue the registry has lost, if it turned out to have another past."""
        if self.catalog.losses:
            from medperf_client.exchange import past

            self.tell_lost(past.look_back(self.queue.outbox, self.catalog))

    def tell_lost(self, lost: Sequence[Entry]) -> None:
        """Say what the registry turned out to have lost."""
        for entry in lost:
            self.tell(f"lost: {entry.uid}, {entry.reason}. See: medperf queue resend --help")

    def watching(self) -> AbstractContextManager[None]:
        """Be the one who watches this registry for this site; raises `InUse` if another does."""
        busy = "another `medperf sync --watch` is watching this registry"
        return hold(self.folder / "watch.lock", busy, wait=False)

    def freshen(self) -> None:
        """Bring the catalog up to date; if the registry is away say so, and work with the copy.

        Raises `Refused`, and `Offline` if there is no copy.
        """
        if self.offline:
            self._show_copy("working offline, as asked", "")
            return
        if self.credentials.token(self.profile.server_url) is None:
            raise MedPerfError(f"not logged in to {self.profile.server_url}", hint=LOGIN_HINT)
        from medperf_client.exchange.sync import pull

        try:
            pull(self.registry, self.catalog, hurried=True)
            self._look_back()
        except Offline as error:
            self._show_copy(str(error), f" ({error})")
        except (CacheError, OSError, sqlite3.Error, Timeout) as error:
            if self.catalog.fetched_at is None:
                raise
            self.tell(
                f"the copy of the registry cannot be freshened, here it is as it was: {error}"
            )

    def _show_copy(self, reason: str, why: str) -> None:
        """Say that the copy is what there is, as of when. Raises `Offline` if there is none."""
        moment = self.catalog.fetched_at
        if moment is None:
            raise Offline(
                f"{self.profile.server_url}: {reason}, and there is no copy of it here yet",
                hint="Run the command once while the registry can be reached.",
            )
        shown = datetime.fromisoformat(moment).astimezone()
        self.tell(f"offline: showing the copy of {shown:%Y-%m-%d %H:%M}{why}")

    @property
    def member(self) -> Entity | None:
        """The member who is logged in, if the registry ever said who that is."""
        if self.offline:
            return self.catalog.me
        from medperf_client.exchange.sync import known_member

        return known_member(self.registry, self.catalog)

    @cached_property
    def me(self) -> Entity:
        """The member who is logged in. Raises `Offline` if that was never asked."""
        if self.member is None:
            self.freshen()
        if self.member is None:
            raise Offline("the registry never said who you are", hint=LOGIN_HINT)
        return self.member

    def listed(self, kind: str, mine: bool = False, limit: int = 0) -> list[Entity]:
        """The entities of a type: the registry's, then those in the queue with UIDs such as q1.

        With `mine` only this member's, with a `limit` only so many of the newest; 0 is all.
        """
        if mine:
            known = [e for e in self.catalog.all(kind) if e["owner"] == self.me["id"]][-limit:]
        else:
            known = self.catalog.newest(kind, limit) if limit else self.catalog.all(kind)
        return [*known, *self.queue.entities(kind)]

    def entity(self, kind: str, uid: int | str) -> Entity:
        """An entity of a kind by UID, queued ones too.

        What is in OPERATION can no longer change in what a test reads, so the copy decides; for
        all else the registry is asked first. Raises `UsageError` if there is none.
        """
        uid = self.queue.real_uid(uid)
        if isinstance(uid, str):
            return self.queue.entity(kind, uid)
        known = self.catalog.get(kind, uid)
        if known is not None and known["state"] == OPERATION:
            return known
        self.freshen()
        known = self.catalog.get(kind, uid)
        if known is None:
            word = kind_of(kind).word
            raise UsageError(f"there is no {word} with UID {uid}", hint=f"See: medperf {word} ls")
        return known
