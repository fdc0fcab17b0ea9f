"""Who decides decides on what they saw, however long the decision waits."""

from pathlib import Path
from uuid import uuid4

import pytest

from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.benchmark import benchmark_decision, seen_digest
from medperf_client.registry.client import Registry as Client
from tests.support.consortium import Member
from tests.support.people import REPORT, Person, container
from tests.support.town import Town, benchmark_of


@pytest.fixture
def second(town: Town) -> int:
    """Another benchmark of the committee, in DEVELOPMENT."""
    body = {**benchmark_of(1, 2, 3).body, "name": "second", "state": "DEVELOPMENT"}
    uid: int = Client(town.registry.url, town.committee.token).post("/benchmarks/", body, "2")["id"]
    return uid


def change(town: Town, uid: int, **values: object) -> None:
    """Something the committee does to its benchmark."""
    client = Client(town.registry.url, town.committee.token)
    client.put(f"/benchmarks/{uid}/", dict(values), str(uuid4()))


def at_the_shell(person: Person, town: Town) -> Member:
    """The same member, at a shell."""
    return Member(person.home.data, town.at.url, person.token)


def test_the_registry_and_its_members_count_the_same_digest(town: Town) -> None:
    town.admin.site().sync()
    (benchmark,) = town.admin.site().catalog.all("benchmark")
    assert benchmark["approved_digest"] == seen_digest(town.admin.site().catalog.get, 1) != ""


def test_an_approval_is_of_what_was_shown(town: Town, second: int) -> None:
    change(town, second, state="OPERATION")
    town.admin.site().sync()
    admin = at_the_shell(town.admin, town)
    admin.does("benchmark", "approve", str(second), "-y")
    assert town.client().get(f"/benchmarks/{second}/")["approval_status"] == "APPROVED"


@pytest.mark.parametrize(
    "changed", [{"demo_dataset_tarball_hash": "f" * 64}, {"metadata": {"test_result": 1}}]
)
def test_an_approval_that_waited_is_not_of_what_came_meanwhile(
    town: Town,
    second: int,
    changed: dict[str, object],
) -> None:
    town.admin.site().sync()
    admin = at_the_shell(town.admin, town)
    admin.does("benchmark", "approve", str(second), "-y", "--offline")
    change(town, second, **changed)
    change(town, second, state="OPERATION")
    done = admin.run("sync")
    assert done.returncode == 1 and "it has changed since you looked" in done.stdout
    assert town.client().get(f"/benchmarks/{second}/")["approval_status"] == "PENDING"


def test_a_request_that_took_the_place_of_another_is_not_approved_for_it(
    town: Town,
) -> None:
    site = town.ada.site()
    uid = site.submit(container("ada's")).real_uid
    site.submit(association_submission(uid, 1, REPORT))
    town.committee.site().sync()
    committee = at_the_shell(town.committee, town)
    pair = ("--benchmark", "1", "--model_uid", str(uid))
    committee.does("association", "approve", *pair, "-y", "--offline")
    # Withdrawn, and asked again with other figures.
    site.submit(association_change(uid, 1, approval_status="REJECTED"))
    better = {**REPORT, "results": {"auroc": 1.0}}
    site.submit(association_submission(uid, 1, better))
    done = committee.run("sync")
    assert done.returncode == 1 and "look at that one" in done.stdout
    requests = Client(town.registry.url, town.ada.token).get(f"/mlcubes/{uid}/benchmarks/1/")
    assert [one["approval_status"] for one in requests] == ["REJECTED", "PENDING"]
    # Whoever has seen the newer one decides on it.
    committee.does("association", "approve", *pair, "-y")


def test_an_approval_that_was_lost_is_of_the_same_content_only(
    town: Town,
    second: int,
    tmp_path: Path,
) -> None:
    change(town, second, state="OPERATION")
    town.admin.site().sync()
    town.keep()
    seen = seen_digest(town.admin.site().catalog.get, second)
    town.admin.site().submit(benchmark_decision(second, "APPROVED", seen))
    town.restore()
    assert [one.kind for one in town.admin.site().sync().lost] == ["benchmark"]
    again, left = town.admin.site().resend()
    assert [one.body["seen"] for one in again] == [seen] and left == []
    town.admin.site().sync()
    assert town.client().get(f"/benchmarks/{second}/")["approved_digest"] == seen
