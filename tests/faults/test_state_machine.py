"""Whatever happens to two clients and their registry: each thing confirmed exists once in the end.

MEDPERF_TEST_EXAMPLES and MEDPERF_TEST_STEPS say how many histories are tried, and how long.
"""

import itertools
import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from medperf_cache.outbox import HELD, REJECTED
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.dataset import dataset_operational, dataset_progress, dataset_submission
from medperf_client.kinds.dataset_association import dataset_request
from medperf_client.kinds.result import result_submission
from medperf_client.registry.client import Registry as Client
from tests.support.people import REPORT, Person, container
from tests.support.proxy import FINE, LOST, PORTAL, RESET, Fault, Proxy, Request, status
from tests.support.registry import Registry, copy_database

EXAMPLES = int(os.environ.get("MEDPERF_TEST_EXAMPLES", "8"))
STEPS = int(os.environ.get("MEDPERF_TEST_STEPS", "20"))

FAULTS = {
    "none": FINE,
    "answer lost": LOST,
    "reset": RESET,
    "captive portal": PORTAL,
    "error": status("500 Internal Server Error"),
    "busy": status("429 Too Many Requests", "Retry-After: 0"),
    "unavailable": status("503 Service Unavailable"),
    "another year": Fault(clock_days=4000),
}
_numbers = itertools.count(1)


def snapshot_of(registry: Registry) -> Path:
    """A copy of a registry's database as it is."""
    snapshot = registry.folder / f"snapshot-{next(_numbers)}.db"
    copy_database(registry.folder / "registry.db", snapshot)
    return snapshot


class Histories(RuleBasedStateMachine):
    """Commands, outages, crashes, kills, syncs and lost pasts of two members, in any order."""

    registry: Registry
    benchmark: int
    committee: str

    def __init__(self) -> None:
        super().__init__()
        self.proxy = Proxy(self.registry.url)
        self.there = True
        self.people = [Person(self.registry, self.proxy) for _ in range(2)]
        self.snapshot: Path | None = None
        self.backup: Path | None = None
        self.restores = 0
        for person in self.people:
            person.sync()

    def fault(self, name: str) -> None:
        """What goes wrong with the next write; reads are fine."""
        waiting = [FAULTS[name]]

        def faults(request: Request) -> Fault:
            return waiting.pop() if request.method != "GET" and waiting else FINE

        self.proxy.faults = faults

    @rule(
        who=st.integers(0, 1),
        fault=st.sampled_from(sorted(FAULTS)),
        crash=st.sampled_from(["no", "no", "no", "before", "after"]),
    )
    def submit_a_container(self, who: int, fault: str, crash: str) -> None:
        """A new container."""
        self.fault(fault)
        person = self.people[who]
        name = f"container-{next(_numbers)}"
        uid = person.submit(container(name), crash)
        assert uid is not None
        person.containers[uid] = name

    @rule(who=st.integers(0, 1))
    def submit_a_taken_name(self, who: int) -> None:
        """A container that the registry will refuse."""
        self.fault("none")
        self.people[who].submit(container("taken"), "no")

    @rule(
        who=st.integers(0, 1),
        which=st.integers(0),
        fault=st.sampled_from(sorted(FAULTS)),
        crash=st.sampled_from(["no", "no", "before", "after"]),
    )
    def request_to_take_part(self, who: int, which: int, fault: str, crash: str) -> None:
        """A request for one of the member's containers, queued or not."""
        person = self.people[who]
        free = [uid for uid in person.containers if uid not in person.requests.values()]
        if not free:
            return
        self.fault(fault)
        model = free[which % len(free)]
        reference = person.site().queue.reference(model)
        uid = person.submit(association_submission(reference, self.benchmark, REPORT), crash)
        assert uid is not None
        person.requests[uid] = model

    @rule(who=st.integers(0, 1), which=st.integers(0), fault=st.sampled_from(sorted(FAULTS)))
    def withdraw(self, who: int, which: int, fault: str) -> None:
        """Reject one's own request; to say so twice is refused, which is fine."""
        person = self.people[who]
        if not person.requests:
            return
        self.fault(fault)
        model = list(person.requests.values())[which % len(person.requests)]
        reference = person.site().queue.reference(model)
        change = association_change(reference, self.benchmark, approval_status="REJECTED")
        person.submit(change, "no")

    @rule(
        who=st.integers(0, 1),
        fault=st.sampled_from(sorted(FAULTS)),
        crash=st.sampled_from(["no", "no", "before", "after"]),
    )
    def register_a_dataset(self, who: int, fault: str, crash: str) -> None:
        """A dataset, how far its preparation is, and that it is operational."""
        self.fault(fault)
        person, number = self.people[who], next(_numbers)
        name, uid_hash = f"data-{number}", f"{number:064x}"
        words = {"name": name, "description": "", "location": "", "preparator": 1}
        made = dataset_submission(**words, data_hash=uid_hash, as_prepared=False)
        uid = person.submit(made, crash)
        assert uid is not None
        person.datasets[uid] = name
        data = person.site().queue.reference(uid)
        person.submit(dataset_progress(data, {"execution_status": "finished"}), "no")
        person.submit(dataset_operational(data, uid_hash, uid_hash, {"scans": number}), crash)

    @rule(
        who=st.integers(0, 1),
        which=st.integers(0),
        fault=st.sampled_from(sorted(FAULTS)),
        crash=st.sampled_from(["no", "no", "before", "after"]),
    )
    def ask_to_take_part_with_a_dataset(self, who: int, which: int, fault: str, crash: str) -> None:
        """A request for one of the member's datasets, and a result that waits for its approval."""
        person = self.people[who]
        free = [uid for uid in person.datasets if uid not in person.asked]
        if not free:
            return
        self.fault(fault)
        uid = free[which % len(free)]
        data = person.site().queue.reference(uid)
        assert person.submit(dataset_request(data, self.benchmark, {"auc": 0.5}), crash) is not None
        person.asked.append(uid)
        # As in a command of its own: the registry may have turned out to have another past.
        data = person.site().queue.reference(uid)
        result = result_submission(
            benchmark=self.benchmark,
            model=2,
            dataset=data,
            name="b1m2",
            results={"auc": 0.5, "of": person.datasets[uid]},
            partial=False,
        )
        assert person.submit(result, crash) is not None
        person.released.append(uid)

    @rule()
    def the_committee_approves_datasets(self) -> None:
        """Every request that there is, whatever may become of the registry after that."""
        committee = Client(self.registry.url, self.committee)
        for one in list(committee.pages("/me/datasets/associations/")):
            if one["approval_status"] == "PENDING":
                path = f"/datasets/{one['dataset']}/benchmarks/{one['benchmark']}/"
                key = f"approve-{next(_numbers)}"
                committee.put(path, {"approval_status": "APPROVED"}, key)

    @rule(
        who=st.integers(0, 1),
        fault=st.sampled_from(sorted(FAULTS)),
        crash=st.sampled_from(["no", "before", "after"]),
    )
    def sync(self, who: int, fault: str, crash: str) -> None:
        """A sync, which may be cut off."""
        self.fault(fault)
        self.people[who].sync(crash)

    @rule(who=st.integers(0, 1), after=st.floats(0.1, 0.6))
    def kill_a_sync(self, who: int, after: float) -> None:
        """A sync killed with SIGKILL."""
        self.fault("none")
        self.people[who].killed_sync(after)

    @rule()
    def the_registry_is_backed_up(self) -> None:
        """A snapshot of its database, and a backup as the manual says."""
        self.snapshot = snapshot_of(self.registry)
        self.backup = self.registry.folder / f"backup-{next(_numbers)}"
        self.registry.command("backup", str(self.backup))

    @rule()
    def a_snapshot_is_put_back(self) -> None:
        """The registry's past becomes another one while it serves."""
        if self.snapshot is not None:
            copy_database(self.snapshot, self.registry.folder / "registry.db")

    @precondition(lambda self: self.restores < 1)
    @rule()
    def a_backup_is_restored(self) -> None:
        """The same, as the manual says; once in a history, for it takes seconds."""
        if self.backup is not None:
            self.restores += 1
            self.registry.restore(self.backup)

    @rule(who=st.integers(0, 1))
    def resend(self, who: int) -> None:
        """Queue anew what is known to be lost."""
        self.people[who].site().resend()

    @rule()
    def the_network_goes_or_comes(self) -> None:
        """An outage begins, or ends."""
        self.proxy.stop() if self.there else self.proxy.start()
        self.there = not self.there

    def teardown(self) -> None:
        """All is well again; then everything confirmed exists once, and nothing else does."""
        if not self.there:
            self.proxy.start()
        self.fault("none")
        try:
            for _ in range(2):
                for _ in range(3):
                    for person in self.people:
                        person.sync()
                        person.site().resend()
                # What waits for a decision gets it.
                self.the_committee_approves_datasets()
            for person in self.people:
                person.sync()
            for person in self.people:
                self.check(person)
        finally:
            self.proxy.stop()

    def check(self, person: Person) -> None:
        """One member's queue, things in the registry, and catalog."""
        site = person.site()
        left = site.queue.waiting()
        assert {entry.state for entry in left} <= {REJECTED, HELD}, [
            (entry.uid, entry.state, entry.reason) for entry in left
        ]
        refused = [entry for entry in left if entry.body.get("name") != "taken"]
        # Only a withdrawal that came twice, or after the request it withdraws, may be refused.
        assert all(entry.method == "PUT" for entry in refused), refused
        client = Client(self.registry.url, person.token)
        mine = [one["name"] for one in client.pages("/me/mlcubes/")]
        assert sorted(mine) == sorted(person.containers.values())
        associations = list(client.pages("/me/mlcubes/associations/"))
        real = sorted(site.queue.real_uid(uid) for uid in person.requests.values())
        assert sorted(one["model_mlcube"] for one in associations) == real
        assert site.catalog.all("association") == associations
        datasets = list(client.pages("/me/datasets/"))
        assert sorted(one["name"] for one in datasets) == sorted(person.datasets.values())
        assert {one["state"] for one in datasets} <= {"OPERATION"}
        requests = list(client.pages("/me/datasets/associations/"))
        asked = sorted(site.queue.real_uid(uid) for uid in person.asked)
        assert sorted(one["dataset"] for one in requests) == asked
        assert {one["approval_status"] for one in requests} <= {"APPROVED"}
        released = {site.queue.real_uid(uid): person.datasets[uid] for uid in person.released}
        results = list(client.pages("/me/results/"))
        assert {one["dataset"]: one["results"]["of"] for one in results} == released
        assert len(results) == len(released)
        assert site.catalog.all("dataset_association") == requests
        assert site.catalog.all("result") == results
        assert site.catalog.all("mlcube") == list(client.pages("/mlcubes/"))


def test_everything_confirmed_exists_once_whatever_happens(with_benchmark: Registry) -> None:
    committee = with_benchmark.token_for("committee@example.org")
    parts = {"registry": with_benchmark, "benchmark": 1, "committee": committee}
    machine = type("Machine", (Histories,), parts)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
