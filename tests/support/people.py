"""Members at machines of their own, driven as their commands are, without a process each."""

import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from medperf_cache.outbox import Entry
from medperf_client.errors import MedPerfError, Refused
from medperf_client.exchange.sender import Sender
from medperf_client.kinds.submission import Submission
from medperf_client.registry.client import Registry as Client
from medperf_client.settings.config import Config, Home, Profile, save_config
from medperf_client.settings.credentials import Credentials
from medperf_client.site import Site
from tests.support.consortium import Member
from tests.support.proxy import NO_FAULTS, Faults, Proxy
from tests.support.registry import Registry

REPORT: dict[str, Any] = {"results": {"auroc": 0.9}, "steps": []}
_numbers = itertools.count(1)
# One that is away refuses; that a machine is busy is no reason to take a registry for away.
PATIENCE_SECONDS = 30.0


class Crash(BaseException):
    """The process ends here."""


def container(name: str) -> Submission:
    """A container in OPERATION whose content is as unique as its name."""
    digest = sha256(name.encode()).hexdigest()
    body = {
        "name": name,
        "git_mlcube_url": f"https://example.org/{name}.yaml",
        "mlcube_hash": digest,
        "git_parameters_url": "",
        "parameters_hash": "",
        "additional_files_tarball_url": "",
        "additional_files_tarball_hash": "",
        "image_tarball_url": "",
        "image_tarball_hash": "",
        "image_hash": digest,
        "state": "OPERATION",
        "is_valid": True,
        "metadata": {},
        "user_metadata": {},
    }
    return Submission("mlcube", "POST", "/mlcubes/", body)


def log_in(home: Home, server_url: str, token: str) -> None:
    """Have a machine know a registry, and a member there; a slow answer counts as an answer."""
    profile = Profile(server_url=server_url, connect_timeout=PATIENCE_SECONDS)
    save_config(Config(profiles={"default": profile}), home.config_file)
    Credentials(home.data).store(server_url, token)


class Person:
    """A member at a machine of their own, and what they were told is safe."""

    def __init__(self, registry: Registry, proxy: Proxy) -> None:
        self.name = f"member-{next(_numbers)}"
        self.email = f"{self.name}@example.org"
        self.token = registry.token_for(self.email)
        self.proxy = proxy
        folder = Path(mkdtemp(prefix="medperf-machine-"))
        self.home = Home(folder, folder / "cache")
        log_in(self.home, proxy.url, self.token)
        self.containers: dict[int | str, str] = {}
        self.requests: dict[int | str, int | str] = {}
        self.datasets: dict[int | str, str] = {}
        self.asked: list[int | str] = []
        self.released: list[int | str] = []

    def site(self) -> Site:
        """What a new command would work with; it does not rest between tries."""
        site = Site(self.home)
        site.__dict__["sender"] = Sender(
            site.queue.outbox,
            site.registry,
            site.catalog,
            site._complete,
            site._acting,
            rest=lambda seconds: None,
        )
        return site

    def submit(self, submission: Submission, crash: str) -> int | str | None:
        """Confirm a submission; its UID, or None if it was refused at once."""
        site = self.site()
        before = {entry.uid for entry in site.queue.outbox.entries()}
        crashing(site.registry, crash)
        try:
            entry = site.submit(submission)
        except Refused:
            return None
        except (Crash, MedPerfError):
            # Who comes back finds it in the queue: it was stored before anything was tried.
            (entry,) = (one for one in self.site().queue.outbox.entries() if one.uid not in before)
        return entry.uid

    def sync(self, crash: str = "no") -> None:
        """One sync, which may be cut off."""
        site = self.site()
        crashing(site.registry, crash)
        with suppress(Crash, MedPerfError):
            site.sync()

    def killed_sync(self, after_seconds: float) -> None:
        """A sync in a process of its own, killed with SIGKILL."""
        member = Member(self.home.data, self.proxy.url, self.token)
        process = member.start("sync")
        try:
            process.communicate(timeout=after_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def crashing(client: Client, when: str) -> None:
    """Make a client's process end before, or after, its next write reaches the registry."""
    send: Callable[..., Any] = client._send

    def sends(method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "GET" or when == "no":
            return send(method, *args, **kwargs)
        if when == "after":
            send(method, *args, **kwargs)
        raise Crash

    client.__dict__["_send"] = sends


def queue(person: Person, *submissions: Submission) -> list[Entry]:
    """Submissions that wait."""
    return [person.site().queue.add(submission) for submission in submissions]


def names(direct: Client) -> list[str]:
    """The member's containers in the registry."""
    return [one["name"] for one in direct.pages("/me/mlcubes/")]


def new(name: str, person: Person) -> Submission:
    """A container whose name is nobody else's."""
    return container(f"{name}-{person.name}")


def behind_proxy(registry: Registry, faults: Faults = NO_FAULTS) -> Iterator[Person]:
    """A member who reaches the registry through a proxy with these faults, and has synced."""
    proxy = Proxy(registry.url, faults)
    person = Person(registry, proxy)
    person.sync()
    yield person
    proxy.stop()
