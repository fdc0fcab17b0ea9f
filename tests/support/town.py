"""A registry at an address, its members, and what becomes of it: restores, rollbacks, a new one."""

import itertools
from collections.abc import Iterator
from typing import Any

from medperf_client.kinds.benchmark import benchmark_decision, benchmark_submission, seen_digest
from medperf_client.registry.client import Registry as Client
from medperf_client.settings.credentials import Credentials
from tests.support.people import REPORT, Person, container
from tests.support.proxy import Proxy, proxy
from tests.support.registry import Registry, copy_database

PERSON = itertools.count(1)


class Town:
    """A registry at an address, its members at machines of their own, and what becomes of it."""

    def __init__(self, registry: Registry, at: Proxy) -> None:
        self.registry, self.at = registry, at
        self.committee, self.admin, self.ada, self.bob = (Person(registry, at) for _ in range(4))
        self.people = (self.admin, self.committee, self.ada, self.bob)
        self.registry.command("user", "set", self.admin.email, "--admin")
        self.snapshot = registry.folder / "snapshot.db"
        self.backup = registry.folder / "registry.backup"

    def keep(self) -> None:
        """Make a backup, and a snapshot of the database."""
        self.registry.command("backup", str(self.backup))
        copy_database(self.registry.folder / "registry.db", self.snapshot)

    def restore(self) -> None:
        """Put the backup back, as the manual says."""
        self.registry.restore(self.backup)

    def put_snapshot_back(self) -> None:
        """Put the snapshot back under the registry while it serves, and let others use its UIDs."""
        copy_database(self.snapshot, self.registry.folder / "registry.db")
        stranger = Client(self.registry.url, self.committee.token)
        for _ in range(4):
            number = next(PERSON)
            stranger.post("/mlcubes/", container(f"stranger-{number}").body, f"stranger-{number}")

    def begin_anew(self) -> None:
        """Another registry at the same address; its members get other UIDs, and new tokens."""
        self.registry.stop()
        other = Registry(self.registry.folder / "new")
        other.port = self.registry.port
        other.initialise()
        for person in reversed(self.people):
            person.token = other.token_for(person.email, admin=person is self.admin)
            Credentials(person.home.data).store(self.at.url, person.token)
        self.registry = other
        other.start()

    def client(self) -> Client:
        """The registry as an administrator sees it."""
        return Client(self.registry.url, self.admin.token)


def benchmark_of(
    preparator: Any, reference: Any, metrics: Any, name: str = "benchmark", private: bool = False
) -> Any:
    return benchmark_submission(
        name=name,
        description="",
        docs_url="",
        demo_url="https://example.org/demo.tar.gz",
        demo_hash="0" * 64,
        containers={
            "data_preparation_mlcube": preparator,
            "reference_model_mlcube": reference,
            "data_evaluator_mlcube": metrics,
        },
        operational=True,
        private=private,
        report={**REPORT, "generated_uid": "1" * 64, "already_prepared": False},
    )


def towns(registry: Registry) -> Iterator[Town]:
    """A town with benchmark 1 of the committee, approved, and everybody in the know."""
    with proxy(registry.url) as at:
        town = Town(registry, at)
        site = town.committee.site()
        uids = [site.submit(container(name)).uid for name in ("preparator", "reference", "metrics")]
        preparator, reference, metrics = (site.queue.reference(uid) for uid in uids)
        site.submit(benchmark_of(preparator, reference, metrics))
        town.admin.site().sync()
        seen = seen_digest(town.admin.site().catalog.get, 1)
        assert seen is not None
        town.admin.site().submit(benchmark_decision(1, "APPROVED", seen))
        for person in town.people:
            person.site().sync()
        yield town
        town.registry.stop()
