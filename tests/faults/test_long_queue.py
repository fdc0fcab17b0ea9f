"""A long queue: what each entry costs does not depend on how many wait, and order is kept."""

from collections.abc import Callable
from typing import Any

import pytest

from medperf_cache.disk import JsonDisk
from medperf_cache.outbox import REFERENCE, REJECTED, SENT, Entry
from medperf_client.kinds.association import association_change, association_submission
from tests.support.people import REPORT, Person, container
from tests.support.proxy import FINE, Fault, Request


def queue(person: Person, number: int) -> list[Entry]:
    """So many containers, and as many requests for them, that wait."""
    here = person.site().queue
    made = [here.add(container(f"{number}-{one}-{person.name}")) for one in range(number)]
    requests = [association_submission({REFERENCE: one.uid}, 1, REPORT) for one in made]
    return [*made, *map(here.add, requests)]


def values_read(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> int:
    """How many values some work reads from stores."""
    read: list[int] = []
    fetch = JsonDisk.fetch

    def fetched(*args: Any) -> Any:
        read.append(1)
        return fetch(*args)

    with monkeypatch.context() as patched:
        patched.setattr(JsonDisk, "fetch", fetched)
        work()
    return len(read)


def test_what_an_entry_costs_does_not_depend_on_how_many_wait(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding, sending = [], []
    for number in (2, 4, 12):
        adding.append(values_read(monkeypatch, lambda n=number: queue(person, n)) / number)
        sending.append(values_read(monkeypatch, person.site().sender.send) / number)
        person.site().queue.outbox.let_go(0)
    assert person.site().queue.outbox.entries() == []
    assert adding[2] <= adding[1] and sending[2] <= sending[1]


def test_what_is_queued_while_others_are_sent_goes_too_in_its_order(person: Person) -> None:
    queue(person, 1)
    sent: list[str] = []

    def faults(request: Request) -> Fault:
        if request.method != "GET":
            sent.append(request.method)
            if len(sent) == 1:
                # Another process does this, and what it adds has to wait for what waits here.
                change = association_change({REFERENCE: "q1"}, 1, approval_status="REJECTED")
                assert person.site().queue.add(change).after == ["q2"]
        return FINE

    person.proxy.faults = faults
    assert [entry.uid for entry in person.site().sender.send().sent] == ["q1", "q2", "q3"]
    assert sent == ["POST", "POST", "PUT"]


def test_what_is_edited_to_need_another_takes_it_along(person: Person) -> None:
    here = person.site().queue
    first, other = (here.add(container(f"{one}-{person.name}")) for one in "ab")
    request = here.add(association_submission({REFERENCE: first.uid}, 1, REPORT))
    edits = [{**request.body, "model_mlcube": {REFERENCE: other.uid}}]

    def faults(seen: Request) -> Fault:
        if seen.method == "POST" and edits:
            person.site().queue.edit(request, edits.pop())
        return FINE

    person.proxy.faults = faults
    done = person.site().sender.send(only="q3")
    assert [entry.uid for entry in done.sent] == ["q1", "q2", "q3"]


def test_those_about_the_same_association_keep_their_order_when_one_is_refused(
    person: Person,
) -> None:
    here = person.site().queue
    first = here.add(association_change(2, 1, priority=1))
    second = here.add(association_change(2, 1, approval_status="REJECTED"))
    here.outbox.change(first.uid, state=REJECTED)
    third = here.add(association_change(2, 1, priority=3))
    assert (second.after, third.after) == (["q1"], ["q2"])
    here.retry("q1")
    assert here.add(association_submission(2, 1, REPORT)).after == ["q3"]
    assert here.add(association_change(3, 1, priority=4)).after == []


def test_what_was_sent_is_let_go_once_nothing_needs_it(person: Person) -> None:
    queue(person, 1)
    person.site().sender.send(only="q1")
    assert person.site().queue.outbox.let_go(0) == []
    person.site().sender.send()
    assert [entry.state for entry in person.site().queue.outbox.let_go(0)] == [SENT, SENT]
