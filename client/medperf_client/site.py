"""One site: its profile, its cache, its copy of the registry, and the registry if it answers."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from medperf_cache import Catalog, Storage
from medperf_cache.locks import hold
from medperf_cache.outbox import REJECTED, Entry, Outbox
from medperf_client.assets import Fetcher, Progress, silent
from medperf_client.compatibility import CompatibilityTest, Reports
from medperf_client.config import Home, load_config
from medperf_client.containers.library import Library
from medperf_client.containers.platforms import Platforms
from medperf_client.containers.runner import Limits
from medperf_client.credentials import Credentials
from medperf_client.errors import MedPerfError, Offline, Refused, UsageError
from medperf_client.outgoing import Sender
from medperf_client.queue import Queue
from medperf_client.registry import LOGIN_HINT, Registry
from medperf_client.submissions import OPERATION, ContainerChecker, Submission
from medperf_client.sync import Synced, known_member, pull, sync

Entity = dict[str, Any]
KINDS = {"benchmark": "benchmark", "mlcube": "container"}


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
        progress: Progress = silent,
    ) -> None:
        self.home = home or Home.from_environment()
        self.config = load_config(self.home.config_file)
        self.profile = self.config.profile
        self.offline = offline or os.environ.get("MEDPERF_OFFLINE", "") not in ("", "0")
        self.tell, self.progress = tell, progress

    @property
    def folder(self) -> Path:
        """Where what belongs to this registry is kept."""
        return self.home.registry(self.profile.server_url)

    @cached_property
    def credentials(self) -> Credentials:
        """The tokens of this member."""
        return Credentials(self.home.data)

    @cached_property
    def registry(self) -> Registry:
        """The registry of the active profile, as the member who is logged in."""
        url = self.profile.server_url
        return self.registry_with(None if self.offline else self.credentials.token(url))

    def registry_with(self, token: str | None) -> Registry:
        """The registry of the active profile, as whoever holds a token."""
        profile = self.profile
        return Registry(
            profile.server_url, token, profile.connect_timeout, profile.read_timeout, self.offline
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
    def fetcher(self) -> Fetcher:
        """Brings files into the cache."""
        timeouts = (self.profile.connect_timeout, self.profile.read_timeout)
        return Fetcher(self.storage, timeouts, self.offline, self.progress)

    @cached_property
    def platforms(self) -> Platforms:
        """What runs containers."""
        return Platforms(
            self.profile.allow_process, self.storage.scratch, self.offline, self.progress
        )

    @cached_property
    def reports(self) -> Reports:
        """The compatibility tests that were run."""
        return Reports(self.folder / "reports")

    @cached_property
    def checker(self) -> ContainerChecker:
        """Checks containers before they are submitted."""
        return ContainerChecker(self.storage, self.fetcher, self.platforms.runner_for, self.tell)

    def compatibility_test(self, refetch: bool = False) -> CompatibilityTest:
        """Runs compatibility tests; with `refetch`, images at URLs are asked for again."""
        limits = Limits(self.profile.task_timeout, self.profile.pids_limit, self.profile.memory)
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
    def sender(self) -> Sender:
        """Sends the queue."""
        return self.sender_of(self.queue.outbox)

    def sender_of(self, outbox: Outbox) -> Sender:
        """Sends an outbox to the registry, as this member."""
        return Sender(outbox, self.registry, self.catalog, self._complete)

    def _complete(self, entry: Entry) -> Entity:
        return self.checker.completed(entry.body)

    def submit(self, submission: Submission) -> Entry:
        """Queue a submission and send it, if the registry answers; else it waits.

        Returns the entry, sent or not. Raises `Refused` with the registry's words if it says no:
        then nothing stays in the queue, for who submitted is there to decide what to do.
        """
        entry = self.queue.add(submission)
        self.sender.send(only=entry.uid)
        entry = self.queue.entry(entry.uid)
        if entry.state == REJECTED:
            self.queue.drop(entry.uid)
            raise Refused(entry.reason)
        return entry

    def sync(self) -> Synced:
        """Send the queue, then learn what is new. Raises `Refused`."""
        return sync(self.sender, self.registry, self.catalog)

    def watching(self) -> AbstractContextManager[None]:
        """Be the one who watches this registry for this site; raises `InUse` if another does."""
        busy = "another `medperf sync --watch` is watching this registry"
        return hold(self.folder / "watch.lock", busy, wait=False)

    def freshen(self) -> None:
        """Bring the catalog up to date; if the registry is away say so, and work with the copy.

        Raises `Refused`, and `Offline` if there is no copy.
        """
        if not self.offline and self.credentials.token(self.profile.server_url) is None:
            raise MedPerfError(f"not logged in to {self.profile.server_url}", hint=LOGIN_HINT)
        try:
            pull(self.registry, self.catalog)
        except Offline as error:
            moment = self.catalog.fetched_at
            if moment is None:
                raise Offline(
                    f"{error}, and there is no copy of it here yet",
                    hint="Run the command once while the registry can be reached.",
                ) from error
            shown = datetime.fromisoformat(moment).astimezone()
            why = "" if self.offline else f" ({error})"
            self.tell(f"offline: showing the copy of {shown:%Y-%m-%d %H:%M}{why}")

    @property
    def member(self) -> Entity | None:
        """The member who is logged in, if the registry ever said who that is."""
        return self.catalog.me if self.offline else known_member(self.registry, self.catalog)

    @cached_property
    def me(self) -> Entity:
        """The member who is logged in. Raises `Offline` if that was never asked."""
        if self.member is None:
            self.freshen()
        if self.member is None:
            raise Offline("the registry never said who you are", hint=LOGIN_HINT)
        return self.member

    def listed(self, kind: str, mine: bool = False) -> list[Entity]:
        """The entities of a type: the registry's, then those in the queue with UIDs such as q1."""
        known = self.catalog.all(kind)
        if mine:
            known = [entity for entity in known if entity["owner"] == self.me["id"]]
        return [*known, *self.queue.entities(kind)]

    def entity(self, kind: str, uid: int | str) -> Entity:
        """A benchmark ("benchmark") or container ("mlcube") by UID, queued ones too.

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
            word = KINDS[kind]
            raise UsageError(f"there is no {word} with UID {uid}", hint=f"See: medperf {word} ls")
        return known
