"""One site: its profile, its cache, its copy of the registry, and the registry if it answers."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf_cache import CacheError, Catalog
from medperf_cache.locks import hold
from medperf_cache.outbox import REJECTED, Entry, Outbox
from medperf_cache.pins import Keeping
from medperf_client.errors import (
    LOGIN_HINT,
    MedPerfError,
    NotAdmitted,
    Offline,
    Refused,
    UsageError,
)
from medperf_client.exchange.queue import Queue, subject
from medperf_client.kinds import Entity, kind_of
from medperf_client.kinds.submission import OPERATION
from medperf_client.settings.config import Home, load_config, offline_as_set
from medperf_client.settings.credentials import Credentials

# Whoever lists or looks things up does not wait for what tests, fetches or sends.
if TYPE_CHECKING:
    from medperf_cache import Storage
    from medperf_cache.private import Private
    from medperf_client.consent.requests import Request, Requests
    from medperf_client.consent.standing import Standing
    from medperf_client.containers.job import Limits
    from medperf_client.containers.library import Library
    from medperf_client.containers.platforms import Platforms
    from medperf_client.datasets.orders import Orders
    from medperf_client.datasets.records import Datasets
    from medperf_client.disclosure.clearances import Clearances, Decisions
    from medperf_client.disclosure.review import Reviewed
    from medperf_client.evidence.keys import Keys, Pair
    from medperf_client.exchange.sender import Sender
    from medperf_client.exchange.sync import Synced
    from medperf_client.execution.awaited import AwaitedModels
    from medperf_client.execution.checker import ContainerChecker
    from medperf_client.execution.compatibility import CompatibilityTest
    from medperf_client.execution.evaluation import Evaluations
    from medperf_client.execution.provisions import Provisions
    from medperf_client.execution.reports import Reports
    from medperf_client.execution.results import Results
    from medperf_client.execution.steps import Watch
    from medperf_client.kinds.submission import Submission
    from medperf_client.ledger.records import Ledger
    from medperf_client.registry.client import Registry
    from medperf_client.settings.policy import Policy
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
        self.offline = offline or offline_as_set()
        self.tell = tell
        self.progress: Progress = progress or (lambda what, done, total: None)
        # What was said of the copy of the registry, which one command may look at again and again.
        self._said_of_copy = ""

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
            self.ledger,
        )

    @cached_property
    def keys(self) -> "Keys":
        """The private keys of this member at this machine."""
        from medperf_client.evidence.keys import Keys

        return Keys(self.folder / "keys")

    def signing_key(self) -> "Pair | None":
        """The newest key here that was not revoked; None if there is none."""
        from medperf_client.kinds.key import KEY

        ids = self.keys.ids()
        if not ids:
            return None
        revoked = {one["keyid"] for one in self.catalog.all(KEY.name) if one.get("revoked_at")}
        good = [keyid for keyid in ids if keyid not in revoked]
        return self.keys.get(good[-1]) if good else None

    def require_key(self, why: str) -> "Pair":
        """The newest key here that was not revoked. Raises `UsageError` if there is none."""
        pair = self.signing_key()
        if pair is None:
            raise UsageError(
                f"{why}, and this machine has no key", "Make one with: medperf key create"
            )
        return pair

    @cached_property
    def ledger(self) -> "Ledger":
        """What left this site for this registry."""
        from medperf_client.ledger.records import Ledger

        url = self.profile.server_url
        folder = self.folder / "ledger"
        return Ledger(folder, url, lambda: self.member, self.tell, self._agreed)

    @cached_property
    def catalog(self) -> Catalog:
        """The last known copy of the registry's entities."""
        catalog = Catalog(self.folder / "catalog")
        if not (self.offline or self.home.is_writable):
            # News are looked at and not kept. Where there is no room for them, it is told later.
            with suppress(CacheError, OSError, sqlite3.Error):
                catalog.stand_in()
        return catalog

    @cached_property
    def storage(self) -> "Storage":
        """The cache of files and results."""
        from medperf_cache import Storage

        return Storage(self.home.cache, self.shared_caches, self.tell, self.progress)

    @property
    def shared_caches(self) -> list[Path]:
        """Where the caches are that others keep, and this site reads."""
        folders = self.profile.shared_caches
        return [self.home.data / os.path.expanduser(folder) for folder in folders]

    @contextmanager
    def where_it_can_run(self) -> Iterator["Site"]:
        """This site, for tests to run at; where it can only be read, one like it for the block.

        What steps make at that one is gone after the block, but for the reports: the user is told
        where those are.
        """
        if self.home.is_writable and self.storage.is_writable:
            yield self
            return
        from tempfile import mkdtemp

        from medperf_client.execution.reports import Reports

        like = Site(self.home, self.offline, self.tell, self.progress)
        with ExitStack() as stack:
            if not self.storage.is_writable:
                like.storage = stack.enter_context(self.storage.stand_in())
            if not self.home.is_writable:
                folder = Path(mkdtemp(prefix="medperf-reports-"))
                stack.callback(_drop_empty, folder)
                like.reports = Reports(folder)
                self.tell(f"{self.home.data} can only be read: report and logs will be in {folder}")
            yield like

    @cached_property
    def private(self) -> "Private":
        """What was made of this member's own data. It is no cache."""
        from medperf_cache.private import Private

        # Beside the datasets, so that what a container wrote of them is moved and not copied.
        return Private(self.datasets_folder / ".private")

    @property
    def datasets_folder(self) -> Path:
        """Where the member's datasets in this registry are."""
        chosen = self.profile.datasets_folder
        if chosen is None:
            return self.folder / "datasets"
        return self.home.data.joinpath(chosen).expanduser() / self.folder.name

    @cached_property
    def fetcher(self) -> "Fetcher":
        """Brings files into the cache."""
        from medperf_client.transfer.bounds import Bounds
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
            self.offline,
            self.progress,
            self.storage,
            self.profile.platform,
        )

    @cached_property
    def reports(self) -> "Reports":
        """The compatibility tests that were run."""
        from medperf_client.execution.reports import Reports

        return Reports(self.folder / "reports")

    @cached_property
    def checker(self) -> "ContainerChecker":
        """Checks containers before they are submitted."""
        from medperf_client.execution.checker import ContainerChecker

        return ContainerChecker(self.storage, self.fetcher, self.platforms.runner_for, self.tell)

    def library(self, refetch: bool = False) -> "Library":
        """Containers by UID or path; with `refetch`, images at URLs are asked for again."""
        from medperf_client.containers.library import Library

        return Library(self.storage, self.fetcher, refetch)

    @property
    def limits(self) -> "Limits":
        """The bounds on each run of a task."""
        from medperf_client.containers.job import Limits

        profile = self.profile
        return Limits(
            profile.task_timeout,
            profile.pids_limit,
            profile.memory,
            profile.output_bytes,
            profile.output_files,
            profile.read_only_root,
        )

    @cached_property
    def provisions(self) -> "Provisions":
        """Knows, and gets, what benchmarks need with no network."""
        from medperf_client.execution.provisions import Provisions

        runner_for = self.platforms.runner_for
        return Provisions(self.storage, self.catalog, self.fetcher, runner_for, self.queue)

    def compatibility_test(self, refetch: bool = False) -> "CompatibilityTest":
        """Runs compatibility tests; with `refetch`, images at URLs are asked for again."""
        from medperf_client.execution.compatibility import CompatibilityTest

        return CompatibilityTest(
            self.storage,
            self.library(refetch),
            self.entity,
            self.freshen,
            self.platforms.runner_for,
            self.limits,
            self.reports,
            lambda: self.private,
            self.admit,
            self.tell,
        )

    @cached_property
    def datasets(self) -> "Datasets":
        """The member's own datasets at this site."""
        from medperf_client.datasets.records import Datasets

        return Datasets(self.datasets_folder, self.private, self._real_uid)

    @cached_property
    def results(self) -> "Results":
        """What models gave on them, released or not."""
        from medperf_client.execution.results import Results

        return Results(self.folder / "results", self._real_uid)

    @property
    def policy(self) -> "Policy":
        """What holds at this site by now. Raises `UsageError` for a file that is no policy."""
        from medperf_client.settings.policy import load_policy

        return load_policy(self.home.policy_file)

    def admit(self, listed: str, entity: Entity) -> None:
        """Raise `NotAdmitted` for what the policy does not let run on data of this site.

        `listed` is the list of the policy that has to name it, see `admission.lists`.
        """
        why = self.why_not(listed, entity, self.policy)
        if why:
            raise NotAdmitted(why)

    def why_not(self, listed: str, entity: Entity, policy: "Policy") -> str:
        """Why a policy does not let something run on data of this site; empty if it does."""
        # What waits in the queue is this member's own.
        mine = self.member if isinstance(entity.get("id"), str) else None
        owner = {"owner": mine["id"]} if mine else {}
        return policy.admission.why_not(listed, {**owner, **entity}, self.profile.server_url)

    @cached_property
    def clearances(self) -> "Clearances":
        """What was decided on the findings in documents of this site."""
        from medperf_client.disclosure.clearances import Clearances

        return Clearances(self.folder / "clearances")

    def reviewed(
        self, document: Mapping[str, Any], decided: "Decisions | None" = None
    ) -> "Reviewed":
        """A document about data as it may leave this site, and what stands in its way.

        That goes by what was decided here, or by what is given as `decided`.
        """
        from medperf_client.disclosure.review import review

        made = self.clearances.of(document) if decided is None else decided
        return review(document, self.policy.rules, made)

    @cached_property
    def requests(self) -> "Requests":
        """What members of this site ask others to agree to."""
        from medperf_client.consent.requests import Requests

        own, chosen = self.folder / "requests", self.profile.releases_folder
        if chosen is None:
            # Where the members of a site have their datasets together, they find each other.
            return Requests(own, self.datasets_folder / ".releases")
        named = self.home.data / Path(chosen).expanduser()
        return Requests(own, named / self.folder.name, named)

    def _agreed(self, body: bytes) -> list[Entity]:
        """Who agreed to what is about to go, beside the member who sends it."""
        # Where one person releases, nobody pays for it.
        if not (self.folder / "requests").exists():
            return []
        from medperf_client.consent.requests import told_digests

        return self.requests.agreed_to(told_digests(body))

    def standing(self, request: "Request") -> "Standing":
        """How a request of this member's stands, by the verdicts of others that count."""
        from medperf_client.consent.standing import standing_of
        from medperf_client.kinds.key import KEY

        keys = {one["keyid"]: one for one in self.catalog.all(KEY.name)}
        reviewers = self.policy.release.reviewers
        return standing_of(request, self.requests.said(request.uid), keys.get, reviewers)

    @cached_property
    def orders(self) -> "Orders":
        """What is to run on them as it is approved."""
        from medperf_client.datasets.orders import Orders

        return Orders(self.folder / "orders", self._real_uid)

    @cached_property
    def awaited(self) -> "AwaitedModels":
        """The models that were left to a queue, and not collected yet."""
        from medperf_client.execution.awaited import AwaitedModels

        return AwaitedModels(self.folder / "awaited", self._real_uid)

    def evaluations(self, watch: "Watch", refetch: bool = False) -> "Evaluations":
        """Runs models on datasets; with `refetch`, images at URLs are asked for again."""
        from medperf_client.admission.lists import CONTAINERS
        from medperf_client.execution.evaluation import Evaluations

        return Evaluations(
            partial(self.admit, CONTAINERS),
            self.storage,
            self.library(refetch),
            self.platforms.runner_for,
            self.limits,
            self.private,
            self.results,
            watch,
            self.tell,
            self.progress,
        )

    def _real_uid(self, uid: int | str) -> int | str:
        """What the registry calls what the queue made; the same, if that is not known here."""
        entry = self.queue.outbox.find(uid) if isinstance(uid, str) else None
        return uid if entry is None or entry.real_uid is None else entry.real_uid

    @cached_property
    def queue(self) -> Queue:
        """What waits to be sent to the registry."""
        keeping = Keeping(f"queue of {self.profile.server_url}", lambda: self.storage.pins)
        outbox = Outbox(self.folder / "outbox", subject, keeping)
        return Queue(outbox, self._is_plain, self._look_back)

    def _is_plain(self) -> bool:
        """Whether what was read of the registry came without a change log."""
        catalog = self.catalog
        return bool(catalog.fetched_at) and not catalog.cursor and not catalog.is_read_again

    @cached_property
    def sender(self) -> "Sender":
        """Sends the queue."""
        return self.sender_of(self.queue.outbox)

    def sender_of(self, outbox: Outbox, may_wait: bool = True) -> "Sender":
        """Sends an outbox to the registry, as this member.

        What cannot be completed, or may not leave, waits; where it may not wait, the first is
        refused, and the second was decided where it was carried from.
        """
        from medperf_client.exchange.sender import Sender

        complete = partial(self._complete, may_wait=may_wait)
        parts = (outbox, self.registry, self.catalog, complete, self._acting)
        return Sender(*parts, held=self.unagreed) if may_wait else Sender(*parts)

    def unagreed(self, entry: Entry) -> str:
        """Why what tells of data may not leave yet: two persons have to agree, and one did.

        So it is with what was queued before the policy said so. Empty if it may.
        """
        from medperf_client.consent.requests import told_digests

        told = told_digests(entry.body)
        if not told:
            return ""
        try:
            release = self.policy.release
        except UsageError as error:
            return f"the policy cannot be read: {error}"
        if release.persons < 2 or self.requests.agreed_to(told):
            return ""
        return f"{release.where}: a release takes two persons; drop it, and ask for it anew"

    @property
    def _whose(self) -> int | str | None:
        """Whose a submission is: the member's, or of who holds this token if that is unknown."""
        if self.member is not None:
            uid: int = self.member["id"]
            return uid
        known = not self.offline and self.credentials.token(self.profile.server_url)
        return self.registry.token_digest if known else None

    def _complete(self, entry: Entry, may_wait: bool = True) -> Entity:
        from medperf_client.registry.uploads import Uploader

        body = self._completed(entry, may_wait)
        uploader = Uploader(self.storage, self.registry, self.progress)
        for digest in entry.uploads:
            # An edit may have put something else in its place.
            if self.own_files.url(digest) in body.values():
                uploader.upload(digest)
        return body

    def _completed(self, entry: Entry, may_wait: bool) -> Entity:
        if not entry.unknown:
            return entry.body
        try:
            return self.checker.completed(entry.body)
        except Offline as error:
            if may_wait:
                raise
            raise Refused(f"it could not be completed where it was carried to: {error}") from error

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
        entry = self.queue.add(submission, self._whose)
        self.sender.send(only=entry.uid, look=self._learn)
        entry = self.queue.entry(entry.uid)
        if entry.state == REJECTED:
            with suppress(UsageError):
                self.queue.drop(entry.uid)
            raise Refused(entry.reason)
        return entry

    def sync(self) -> "Synced":
        """Send the queue, then learn what is new."""
        from medperf_client.exchange.sync import sync

        done = sync(self.sender, self.queue.outbox, self.registry, self.catalog)
        self._bind()
        self.queue.outbox.let_go(self.profile.resend_days)
        return done

    def _bind(self) -> None:
        """Note what the registry calls what is kept here, before the queue forgets its own UIDs."""
        if self.datasets_folder.exists():
            for record in self.datasets.all():
                self.datasets.bound(record)
        if (self.folder / "results").exists():
            self.results.bind()
        if (self.folder / "orders").exists():
            self.orders.bind()
        if (self.folder / "awaited").exists():
            self.awaited.bind()

    def resend(self, uids: Sequence[str] = ()) -> tuple[list[Entry], list[Entry]]:
        """Queue anew what the registry has lost; see `lost.resend`."""
        from medperf_client.exchange import lost

        return lost.resend(self.queue, self.catalog, uids, self._whose)

    def _learn(self) -> None:
        from medperf_client.exchange.sync import learn

        self.tell_lost(learn(self.queue.outbox, self.registry, self.catalog))

    def _look_back(self) -> None:
        """See what of the queue the registry has lost, if it turned out to have another past."""
        if self.catalog.losses:
            from medperf_client.exchange.lost import look_back

            self.tell_lost(look_back(self.queue.outbox, self.catalog))

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
        except (CacheError, OSError, sqlite3.Error) as error:
            if self.catalog.fetched_at is None:
                raise
            self._say_of_copy(
                f"the copy of the registry cannot be freshened, here it is as it was: {error}"
            )

    def _say_of_copy(self, line: str) -> None:
        if line != self._said_of_copy:
            self._said_of_copy = line
            self.tell(line)

    def _show_copy(self, reason: str, why: str) -> None:
        """Say that the copy is what there is, as of when. Raises `Offline` if there is none."""
        moment = self.catalog.fetched_at
        if moment is None:
            raise Offline(
                f"{self.profile.server_url}: {reason}, and there is no copy of it here yet",
                hint="Run the command once while the registry can be reached.",
            )
        shown = datetime.fromisoformat(moment).astimezone()
        self._say_of_copy(f"offline: showing the copy of {shown:%Y-%m-%d %H:%M}{why}")

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
            known = [e for e in self.catalog.all(kind) if self.is_mine(e)][-limit:]
        else:
            known = self.catalog.newest(kind, limit) if limit else self.catalog.all(kind)
        return [*known, *self.queue.entities(kind)]

    def is_mine(self, entity: Entity) -> bool:
        """Whether the member owns an entity; whose others' datasets are, nobody is told."""
        return bool(entity.get("owner") == self.me["id"])

    def entity(self, kind: str, uid: int | str) -> Entity:
        """An entity of a kind by UID, queued ones too.

        What is in OPERATION can no longer change in what a test reads, so the copy decides; for
        all else the registry is asked first. Raises `UsageError` if there is none.
        """
        uid = self.queue.real_uid(uid)
        if isinstance(uid, str):
            return self.queue.entity(kind, uid)
        known = self.catalog.get(kind, uid)
        if known is not None and known.get("state") == OPERATION:
            return known
        self.freshen()
        known = self.catalog.get(kind, uid)
        if known is None:
            word = kind_of(kind).word
            raise UsageError(
                f"there is no {word} with UID {uid}", hint=f"See: medperf {kind_of(kind).group} ls"
            )
        return known

    def as_asked(self, kind: str, uid: int | str) -> Entity:
        """The same, as it will be once what waits in the queue was sent."""
        (entity,) = self.queue.changed(kind, [self.entity(kind, uid)])
        return entity


def _drop_empty(folder: Path) -> None:
    """Delete a folder that turned out to be needed for nothing."""
    with suppress(OSError):
        folder.rmdir()
