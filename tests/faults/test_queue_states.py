"""Entries that take the place of others, and entries that wait until something is so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import (
    HELD,
    LOST,
    QUEUED,
    REFERENCE,
    REJECTED,
    SENDING,
    SENT,
    SUPERSEDED,
    WAITING,
)
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.errors import UsageError
from medperf_client.exchange.conditions import condition
from medperf_client.exchange.lost import look_back
from medperf_client.exchange.sender import Sender
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.benchmark import benchmark_decision
from medperf_client.kinds.submission import Submission
from medperf_client.registry.client import Registry as Client
from tests.support.consortium import Member
from tests.support.people import REPORT, Person, container
from tests.support.proxy import FINE, Fault, Request
from tests.support.proxy import LOST as ANSWER_LOST
from tests.support.registry import Registry


@pytest.fixture
def model(with_benchmark: Registry, person: Person) -> int:
    """A container of the member's that asked to take part in benchmark 1."""
    client = Client(with_benchmark.url, person.token)
    uid: int = client.post("/mlcubes/", container(person.name).body, person.email)["id"]
    request = association_submission(uid, 1, REPORT)
    client.post(request.path, request.body, f"request-{uid}")
    person.sync()
    return uid


def states(person: Person) -> list[str]:
    """The states of all entries, in order."""
    return [entry.state for entry in person.site().queue.outbox.entries()]


def sent_bodies(person: Person) -> list[Any]:
    """What the registry got of the member by a proxy, from now on."""
    seen: list[Any] = []

    def faults(request: Request) -> Fault:
        if request.method != "GET":
            seen.append(request.method)
        return FINE

    person.proxy.faults = faults
    return seen


def reject(model: int, **more: Any) -> Submission:
    """To take one's request back."""
    return association_change(model, 1, approval_status="REJECTED", **more)


def test_a_later_decision_takes_the_place_of_an_earlier(
    with_benchmark: Registry, person: Person, model: int
) -> None:
    here = person.site().queue
    here.add(association_change(model, 1, approval_status="APPROVED"))
    later = here.add(reject(model, reason="a mistake"))
    assert later.instead_of == "q1" and later.after == []
    assert states(person) == [SUPERSEDED, QUEUED]
    assert [entry.uid for entry in here.waiting()] == ["q2"]
    member = Member(person.home.data, person.proxy.url, person.token)
    listed = member.does("queue", "ls")
    assert "superseded" in listed and "q2 took its place" in listed
    for change in (lambda: here.retry("q1"), lambda: here.edit(here.entry("q1"), {"x": 1})):
        with pytest.raises(UsageError, match="q1 is not sent any more: q2 took its place"):
            change()
    seen = sent_bodies(person)
    assert [entry.uid for entry in person.site().sync().sent] == ["q2"]
    assert seen == ["PUT"]
    # It is let go with what took its place.
    assert states(person) == [SENT]
    (association,) = Client(with_benchmark.url, person.token).pages("/me/mlcubes/associations/")
    assert association["approval_status"] == "REJECTED"


def test_what_may_have_been_sent_is_followed(person: Person, model: int) -> None:
    here = person.site().queue
    here.add(reject(model))
    person.proxy.faults = lambda request: ANSWER_LOST if request.method == "PUT" else FINE
    person.site().sender.send()
    assert states(person) == [SENDING]
    later = here.add(reject(model, reason="once more"))
    assert (later.instead_of, later.after) == (None, ["q1"])
    person.proxy.faults = lambda _: FINE
    done = person.site().sender.send()
    assert [entry.uid for entry in done.sent] == ["q1"]
    # It is decided already, as the registry says.
    assert [entry.uid for entry in done.rejected] == ["q2"]


def test_what_is_superseded_when_it_is_about_to_be_sent_is_not(person: Person, model: int) -> None:
    site = person.site()
    site.queue.add(reject(model))
    later = [reject(model, reason="a mistake")]

    def acting() -> dict[str, Any]:
        if later:
            person.site().queue.add(later.pop())
        return site._acting()

    seen = sent_bodies(person)
    sender = Sender(site.queue.outbox, site.registry, site.catalog, site._complete, acting)
    assert [entry.uid for entry in sender.send().sent] == ["q2"]
    assert seen == ["PUT"] and states(person) == [SUPERSEDED, SENT]


def test_one_that_says_something_else_comes_after(person: Person, model: int) -> None:
    here = person.site().queue
    here.add(association_change(model, 1, priority=1))
    assert here.add(reject(model)).after == ["q1"]
    assert here.add(reject(model, id=7)).after == ["q2"]
    assert here.add(association_submission(model, 1, REPORT)).after == ["q3"]
    assert here.add(reject(model, id=7)).after == ["q4"]
    assert here.add(benchmark_decision(1, "APPROVED")).after == []
    assert here.add(benchmark_decision(1, "REJECTED", "0" * 64)).instead_of == "q6"
    assert here.add(benchmark_decision(1, "APPROVED")).after == ["q7"]
    assert SUPERSEDED not in states(person)[:5]


def test_what_was_superseded_comes_not_back_and_is_let_go(person: Person, model: int) -> None:
    here = person.site().queue
    for priority in (1, 2, 3):
        last = here.add(association_change(model, 1, priority=priority))
    assert last.after == [] and states(person) == [SUPERSEDED, SUPERSEDED, QUEUED]
    here.outbox.let_go(0)
    assert [entry.uid for entry in here.outbox.entries()] == ["q2", "q3"]
    here.drop("q3")
    here.outbox.let_go(0)
    assert states(person) == []


def test_the_place_is_that_behind_what_the_earlier_one_came_after(
    person: Person, model: int
) -> None:
    here = person.site().queue
    here.add(association_submission(model, 1, REPORT))
    here.add(association_change(model, 1, priority=1))
    assert here.add(association_change(model, 1, priority=2)).after == ["q1"]
    assert states(person) == [QUEUED, SUPERSEDED, QUEUED]


def approved(model: int | dict[str, str]) -> dict[str, Any]:
    """That a model takes part in benchmark 1."""
    return condition(
        "association", {"model_mlcube": model, "benchmark": 1}, approval_status="APPROVED"
    )


def until_approved(person: Person, model: int | dict[str, str]) -> Submission:
    """A container that is to be sent once a model takes part."""
    return replace(container(f"later-{person.name}"), until=approved(model))


def approve(with_benchmark: Registry, model: int) -> None:
    """The benchmark's owner takes a model in."""
    committee = Client(with_benchmark.url, with_benchmark.token_for("committee@example.org"))
    path = f"/mlcubes/{model}/benchmarks/1/"
    committee.put(path, {"approval_status": "APPROVED"}, f"yes-{model}")


def test_an_entry_waits_until_something_is_so(
    with_benchmark: Registry, person: Person, model: int
) -> None:
    person.site().queue.add(until_approved(person, model))
    assert states(person) == [WAITING]
    seen = sent_bodies(person)
    assert person.site().sync().sent == [] and seen == []
    assert states(person) == [WAITING]
    member = Member(person.home.data, person.proxy.url, person.token)
    listed = " ".join(member.does("queue", "ls").split())
    assert WAITING in listed and f"container {model} in benchmark 1" in listed
    approve(with_benchmark, model)
    # One sync is enough: it looks before it sends.
    assert [entry.uid for entry in person.site().sync().sent] == ["q1"]
    assert seen == ["POST"]


def test_what_it_waits_for_may_be_queued_too(with_benchmark: Registry, person: Person) -> None:
    here = person.site().queue
    here.add(container(person.name))
    here.add(association_submission({REFERENCE: "q1"}, 1, REPORT))
    last = here.add(until_approved(person, {REFERENCE: "q1"}))
    assert last.needs == {"q1"} and "container q1" in last.reason
    assert [entry.uid for entry in person.site().sync().sent] == ["q1", "q2"]
    approve(with_benchmark, here.entry("q1").real_uid or 0)
    assert [entry.uid for entry in person.site().sync().sent] == ["q3"]


def test_what_is_refused_holds_what_waits_for_it_and_editing_does_not_send_it(
    person: Person, model: int
) -> None:
    here = person.site().queue
    entry = here.add(until_approved(person, model))
    edited = here.edit(entry, {**entry.body, "metadata": {"x": 1}})
    again = here.retry("q1")
    assert edited.state == again.state == WAITING
    assert "until container" in edited.reason and edited.reason == again.reason
    here.add(container("taken"))
    here.add(until_approved(person, {REFERENCE: "q2"}))
    person.site().sender.send()
    assert states(person) == [WAITING, REJECTED, HELD]


def test_what_was_carried_away_before_its_time_waits_here_too(
    with_benchmark: Registry, person: Person, model: int
) -> None:
    here = person.site().queue
    here.add(until_approved(person, model))
    # As an export marks it, so that it is not edited; it was never tried.
    here.outbox.change("q1", state=SENDING)
    assert person.site().sync().sent == [] and states(person) == [SENDING]
    approve(with_benchmark, model)
    assert len(person.site().sync().sent) == 1


def test_a_bundle_carries_what_waits_and_it_is_sent_from_there_in_its_time(
    with_benchmark: Registry, person: Person, model: int, tmp_path: Path
) -> None:
    person.site().queue.add(until_approved(person, model))
    person.site().queue.add(container(f"now-{person.name}"))
    file = tmp_path / "queue.bundle"
    export_bundle(person.site(), file, queue=True)
    assert [entry.uid for entry in send_bundle(person.site(), file).sent] == ["q2"]
    import_bundle(person.site(), tmp_path / "queue.bundle.receipt")
    assert states(person) == [SENDING, SENT]
    approve(with_benchmark, model)
    assert [entry.uid for entry in send_bundle(person.site(), file).sent] == ["q1"]
    import_bundle(person.site(), tmp_path / "queue.bundle.receipt")
    assert states(person) == [SENT, SENT]


def test_what_may_have_arrived_is_not_asked_again(person: Person, model: int) -> None:
    here = person.site().queue
    here.add(until_approved(person, model))
    here.outbox.change("q1", state=SENDING, attempts=1)
    assert len(person.site().sync().sent) == 1


def test_what_waits_for_what_the_registry_lost_is_lost(person: Person, model: int) -> None:
    site = person.site()
    site.queue.add(until_approved(person, model))
    ghost = site.catalog.get("mlcube", model)
    assert ghost is not None
    site.catalog.put("ghost-mlcube", ghost)
    site.catalog.remove("mlcube", model)
    site.catalog.losses += 1
    assert [entry.state for entry in look_back(site.queue.outbox, site.catalog)] == [LOST]
