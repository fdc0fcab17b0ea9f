"""A data owner's chain, through each trouble: dataset, state, request and result exist once."""

from collections.abc import Iterator
from typing import Any

import pytest

from medperf_cache.outbox import REFERENCE, SENT, WAITING
from medperf_client.kinds.dataset import dataset_operational, dataset_progress, dataset_submission
from medperf_client.kinds.dataset_association import dataset_request
from medperf_client.kinds.result import result_submission
from medperf_client.registry.client import Registry as Client
from tests.support.people import Person, behind_proxy, queue
from tests.support.proxy import FINE, LOST, plain, status, writes
from tests.support.registry import Registry

DATA = {REFERENCE: "q1"}


@pytest.fixture
def plainly(with_benchmark: Registry) -> Iterator[Person]:
    """A member of a plain MedPerf server."""
    yield from behind_proxy(with_benchmark, plain())


def queue_road(person: Person) -> None:
    """Register a dataset, report its progress, set it operational, ask to take part, release."""
    queue(
        person,
        dataset_submission(
            name="north",
            description="",
            location="",
            preparator=1,
            data_hash=f"{person.name:0>64}"[-64:],
            as_prepared=False,
        ),
        dataset_progress(DATA, {"execution_status": "finished", "progress": {}}),
        dataset_operational(DATA, "ab" * 32, f"{person.name:0<64}"[:64], {"scans": 3}),
        dataset_request(DATA, 1, {"auc": 0.9}),
        result_submission(
            benchmark=1, model=2, dataset=DATA, name="b1m2", results={"auc": 0.9}, partial=False
        ),
    )


def states(person: Person) -> list[str]:
    """The states of all entries, in order."""
    return [entry.state for entry in person.site().queue.outbox.entries()]


def approve(registry: Registry, dataset: int) -> None:
    """The committee's approval."""
    committee = Client(registry.url, registry.token_for("committee@example.org"))
    path = f"/datasets/{dataset}/benchmarks/1/"
    committee.put(path, {"approval_status": "APPROVED"}, f"approve-dataset-{dataset}")


def there(registry: Registry, person: Person) -> tuple[Any, Any, Any]:
    """The one dataset, association and result of a member's; more, or none, is an error."""
    client = Client(registry.url, person.token)
    (dataset,) = client.pages("/me/datasets/")
    (association,) = client.pages("/me/datasets/associations/")
    (result,) = client.pages("/me/results/")
    return dataset, association, result


@pytest.mark.parametrize("kind", ["ours", "plain"])
@pytest.mark.parametrize("trouble", [LOST, status("502 Bad Gateway")], ids=["lost", "broken"])
def test_the_whole_road_exists_once(
    with_benchmark: Registry,
    person: Person,
    plainly: Person,
    kind: str,
    trouble: Any,
) -> None:
    member, faults = (person, writes) if kind == "ours" else (plainly, plain)
    queue_road(member)
    member.proxy.faults = faults(*(trouble, FINE) * 9)
    member.sync()
    assert states(member) == [SENT] * 4 + [WAITING]
    uid = member.site().queue.real_uid("q1")
    assert isinstance(uid, int)
    approve(with_benchmark, uid)
    member.site().freshen()
    member.proxy.faults = faults(*(trouble, FINE) * 9)
    member.sync()
    member.sync()
    assert states(member) == [SENT] * 5
    dataset, association, result = there(with_benchmark, member)
    assert dataset["state"] == "OPERATION" and dataset["report"]["execution_status"] == "finished"
    assert association["approval_status"] == "APPROVED"
    assert result["results"] == {"auc": 0.9} and result["dataset"] == uid
    # What a plain server tells of one's own dataset is what the member reads.
    (known,) = (one for one in member.site().catalog.all("dataset") if one["id"] == uid)
    assert known["owner"] == dataset["owner"] and known["report"] == dataset["report"]


def test_an_equal_result_is_not_sent_to_a_plain_server_again(
    with_benchmark: Registry, plainly: Person
) -> None:
    queue_road(plainly)
    plainly.sync()
    approve(with_benchmark, int(plainly.site().queue.real_uid("q1")))
    plainly.sync()
    again = result_submission(
        benchmark=1,
        model=2,
        dataset=plainly.site().queue.reference("q1"),
        name="b1m2",
        results={"auc": 0.9},
        partial=False,
    )
    queue(plainly, again)
    plainly.sync()
    assert states(plainly) == [SENT] * 6
    there(with_benchmark, plainly)


def test_a_later_report_takes_the_place_of_an_earlier_one_that_waits(person: Person) -> None:
    reports = [{"execution_status": "failed", "progress": {}}, {"execution_status": "finished"}]
    queue(person, *(dataset_progress(7, report) for report in reports))
    waiting = person.site().queue.waiting()
    assert [entry.body["report"]["execution_status"] for entry in waiting] == ["finished"]


def test_a_result_whose_dataset_is_rejected_goes_on_waiting(
    with_benchmark: Registry, person: Person
) -> None:
    queue_road(person)
    person.sync()
    uid = int(person.site().queue.real_uid("q1"))
    committee = Client(with_benchmark.url, with_benchmark.token_for("committee@example.org"))
    rejected = {"approval_status": "REJECTED"}
    committee.put(f"/datasets/{uid}/benchmarks/1/", rejected, f"reject-dataset-{uid}")
    person.sync()
    entry = person.site().queue.entry("q5")
    assert (entry.state, entry.attempts) == (WAITING, 0)
    assert entry.reason == f"until dataset {uid} in benchmark 1 is APPROVED"
