"""A registry that is put back again and again: a UID means what it meant when it was written."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import HELD, LOST, QUEUED, REFERENCE, REJECTED, SENT, Entry
from medperf_client.errors import MedPerfError
from medperf_client.exchange.sync import pull
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.invitation import benchmark_invitation
from medperf_client.registry.client import Registry as Client
from tests.support.people import REPORT, Person, container
from tests.support.proxy import LOST as ANSWER_LOST
from tests.support.proxy import NO_FAULTS, writes
from tests.support.registry import copy_database
from tests.support.town import Town, benchmark_of

NUMBERS = itertools.count(1)


def kept(town: Town) -> Path:
    """A copy of the registry's database as it is."""
    copy = town.registry.folder / f"kept-{next(NUMBERS)}.db"
    copy_database(town.registry.folder / "registry.db", copy)
    return copy


def put_back(town: Town, copy: Path) -> None:
    """The registry is as it was; whoever has read what came since notices by the next change."""
    copy_database(copy, town.registry.folder / "registry.db")
    number = next(NUMBERS)
    town.registry.token_for(f"newcomer-{number}@example.org")


def entries(person: Person) -> dict[str, Entry]:
    """A member's queue, by UID."""
    return {entry.uid: entry for entry in person.site().queue.outbox.entries()}


def states(person: Person) -> list[str]:
    """The states of a member's entries, in order."""
    return [entry.state for entry in entries(person).values()]


def waiting(town: Town, person: Person, submission: Any) -> Entry:
    """What a member submits while the registry is away."""
    town.at.stop()
    entry = person.site().submit(submission)
    town.at.start()
    assert entry.state in (QUEUED, HELD)
    return entry


def asked(town: Town) -> list[tuple[str, str]]:
    """The names of the containers that asked to take part, each with what became of it."""
    client = town.client()
    requests = Client(town.registry.url, town.committee.token).pages("/me/mlcubes/associations/")
    return [
        (client.get(f"/mlcubes/{one['model_mlcube']}/")["name"], one["approval_status"])
        for one in requests
    ]


def lose_and_give_its_uid_to_another(town: Town, owner: Person, reader: Person) -> int:
    """A UID that was that of a container called first, and is now that of one called second."""
    start = kept(town)
    first = owner.site().submit(container("first")).real_uid
    reader.site().sync()
    put_back(town, start)
    assert [one.state for one in owner.site().sync().lost] == [LOST]
    second = owner.site().submit(container("second")).real_uid
    assert first == second is not None
    reader.site().sync()
    return first


def suspect_another_past(town: Town, person: Person) -> None:
    """The registry is put back again, which costs what is sent last."""
    before = kept(town)
    town.bob.site().submit(container(f"late-{next(NUMBERS)}"))
    pull(person.site().registry, person.site().catalog)
    put_back(town, before)


def test_a_request_is_of_the_container_that_had_the_uid_when_it_was_made(town: Town) -> None:
    uid = lose_and_give_its_uid_to_another(town, town.ada, town.ada)
    request = waiting(town, town.ada, association_submission(uid, 1, REPORT))
    # Then the first is still lost, and had the UID, too.
    suspect_another_past(town, town.ada)
    assert town.ada.site().sync().lost == []
    assert (entries(town.ada)[request.uid].state, states(town.ada)[0]) == (SENT, LOST)
    assert asked(town) == [("second", "PENDING")]


def test_what_refers_to_another_members_is_not_lost_for_what_had_its_uid(town: Town) -> None:
    uid = lose_and_give_its_uid_to_another(town, town.bob, town.committee)
    request = waiting(town, town.committee, association_submission(uid, 1, REPORT))
    suspect_another_past(town, town.committee)
    assert town.committee.site().sync().lost == []
    assert entries(town.committee)[request.uid].state == SENT
    assert asked(town) == [("second", "PENDING")]


def test_what_was_lost_refers_to_what_it_referred_to_whoever_had_the_uid_since(
    town: Town,
) -> None:
    start = kept(town)
    uid = town.bob.site().submit(container("first")).real_uid
    assert uid is not None
    town.committee.site().sync()
    request = waiting(town, town.committee, association_submission(uid, 1, REPORT))
    put_back(town, start)
    town.bob.site().sync()
    assert town.bob.site().submit(container("second")).real_uid == uid
    assert [one.uid for one in town.committee.site().sync().lost] == [request.uid]
    put_back(town, start)
    assert town.bob.site().submit(container("third")).real_uid == uid
    town.committee.site().sync()
    again, left = town.committee.site().resend()
    assert again == [] and "(first)" in left[0].reason
    town.bob.site().resend()
    town.bob.site().sync()
    town.committee.site().sync()
    again, left = town.committee.site().resend()
    assert ([one.uid for one in again], left) == ([request.uid], [])
    town.committee.site().sync()
    assert asked(town) == [("first", "PENDING")]


def test_a_sync_that_is_killed_before_it_looked_at_the_queue_changes_no_meaning(
    town: Town,
) -> None:
    start = kept(town)
    town.ada.site().submit(container("first"))
    put_back(town, start)
    town.bob.site().submit(container("bob's"))
    # The sync was killed when it had read what the registry is now.
    pull(town.ada.site().registry, town.ada.site().catalog)
    reference = town.ada.site().queue.reference("q1")
    request = waiting(town, town.ada, association_submission(reference, 1, REPORT))
    town.ada.site().sync()
    town.ada.site().resend()
    town.ada.site().sync()
    assert entries(town.ada)[request.uid].state == SENT
    assert asked(town) == [("first", "PENDING")]


@pytest.mark.parametrize("meanwhile", ["queued again", "sent again"])
def test_what_comes_back_after_it_was_queued_anew_exists_once(town: Town, meanwhile: str) -> None:
    start = kept(town)
    ada, committee = town.ada, town.committee
    withdrawn = ada.site().submit(container("withdrawn")).real_uid
    decided = ada.site().submit(container("decided")).real_uid
    assert withdrawn and decided
    for uid in (withdrawn, decided):
        ada.site().submit(association_submission(uid, 1, REPORT))
    ada.site().submit(association_change(withdrawn, 1, approval_status="REJECTED"))
    committee.site().sync()
    request = committee.site().catalog.all("association")[-1]["id"]
    decision = association_change(decided, 1, approval_status="APPROVED", id=request)
    committee.site().submit(decision)
    later = kept(town)
    wanted = asked(town)
    put_back(town, start)
    town.bob.site().submit(container("bob's"))
    for _ in range(3):
        for person in (ada, committee):
            person.site().sync()
            assert LOST in states(person) or meanwhile == "sent again"
            person.site().resend()
            if meanwhile == "sent again":
                person.site().sync()
        if meanwhile == "queued again":
            break
    # The failover is undone.
    put_back(town, later)
    for _ in range(3):
        for person in (ada, committee):
            person.site().sync()
            person.site().resend()
    assert {*states(ada), *states(committee)} == {SENT}
    assert asked(town) == wanted == [("withdrawn", "REJECTED"), ("decided", "APPROVED")]
    names = [one["name"] for one in town.client().pages("/mlcubes/")]
    assert names.count("withdrawn") == names.count("decided") == 1


def test_what_arrived_and_comes_back_with_what_it_refers_to_exists_once(town: Town) -> None:
    start = kept(town)
    uid = town.ada.site().submit(container("ada's")).real_uid
    assert uid is not None
    town.at.faults = writes(*[ANSWER_LOST] * 9)
    request = town.ada.site().submit(association_submission(uid, 1, REPORT))
    town.at.faults = NO_FAULTS
    later = kept(town)
    put_back(town, start)
    town.bob.site().submit(container("bob's"))
    assert [one.uid for one in town.ada.site().sync().lost] == ["q1"]
    town.ada.site().resend()
    put_back(town, later)
    town.ada.site().sync()
    assert entries(town.ada)[request.uid].state == SENT
    assert asked(town) == [("ada's", "PENDING")]


def test_an_edit_of_what_was_lost_is_a_new_thing(town: Town) -> None:
    start = kept(town)
    town.ada.site().submit(container("ada's"))
    put_back(town, start)
    town.ada.site().sync()
    ((entry,), _) = town.ada.site().resend()
    edited = town.ada.site().queue.edit(entry, {**entry.body, "name": "preparator"})
    assert edited.key != entry.key and edited.answer is None
    town.ada.site().sync()
    assert states(town.ada) == [REJECTED]


@pytest.mark.parametrize("named", ["by its UID", "by its entry"])
def test_an_invitation_is_lost_with_its_benchmark_and_goes_with_it(town: Town, named: str) -> None:
    start = kept(town)
    committee = town.committee
    private = committee.site().submit(benchmark_of(1, 2, 3, "private", private=True))
    assert private.real_uid is not None
    uid = private.real_uid if named == "by its UID" else {REFERENCE: private.uid}
    committee.site().submit(benchmark_invitation(uid, town.bob.email))
    put_back(town, start)
    # Another benchmark has its UID, whose invitations nobody may read.
    town.bob.site().submit(benchmark_of(1, 2, 3, "bob's"))
    done = committee.site().sync()
    assert done.stopped is None
    assert [one.kind for one in done.lost] == ["benchmark", "member"]
    suspect_another_past(town, committee)
    assert committee.site().sync().lost == []
    committee.site().resend()
    committee.site().sync()
    assert set(states(committee)) == {SENT}
    (now,) = (one for one in town.client().pages("/benchmarks/") if one["name"] == "private")
    client = Client(town.registry.url, committee.token)
    members = client.pages(f"/benchmarks/{now['id']}/members/")
    assert [one["email"] for one in members] == [town.bob.email]


def test_an_invitation_to_what_was_deleted_is_not_looked_for(town: Town) -> None:
    committee = town.committee
    uid = committee.site().submit(benchmark_of(1, 2, 3, "private", private=True)).real_uid
    assert uid is not None
    committee.site().submit(benchmark_invitation(uid, town.bob.email))
    town.client()._exchange("DELETE", f"/benchmarks/{uid}/", 60, 60)
    committee.site().sync()
    suspect_another_past(town, committee)
    done = committee.site().sync()
    assert (done.stopped, done.lost) == (None, [])


def test_what_was_deleted_does_not_hide_that_another_with_its_uid_is_lost(town: Town) -> None:
    start = kept(town)
    uid = town.ada.site().submit(container("deleted")).real_uid
    town.client()._exchange("DELETE", f"/mlcubes/{uid}/", 60, 60)
    town.ada.site().sync()
    put_back(town, start)
    town.ada.site().sync()
    another = town.ada.site().submit(container("another"))
    assert another.real_uid == uid
    put_back(town, start)
    town.bob.site().submit(container("bob's"))
    assert [one.uid for one in town.ada.site().sync().lost] == [another.uid]


def test_a_decision_that_waits_is_lost_with_the_request_that_it_is_on(town: Town) -> None:
    uid = town.ada.site().submit(container("ada's")).real_uid
    assert uid is not None
    town.committee.site().sync()
    start = kept(town)
    town.ada.site().submit(association_submission(uid, 1, REPORT))
    town.committee.site().sync()
    (request,) = town.committee.site().catalog.all("association")
    decision = association_change(uid, 1, approval_status="APPROVED", id=request["id"])
    waiting(town, town.committee, decision)
    put_back(town, start)
    town.bob.site().submit(container("bob's"))
    # Another request, of another test, comes to have its UID.
    town.ada.site().sync()
    other = {**REPORT, "results": {"auroc": 0.999}}
    town.ada.site().submit(association_submission(uid, 1, other))
    done = town.committee.site().sync()
    assert [one.kind for one in done.lost] == ["association"]
    assert asked(town) == [("ada's", "PENDING")]


def test_what_refers_to_a_uid_of_another_past_is_not_queued(town: Town) -> None:
    ann = Person(town.registry, town.at)
    ann.sync()
    before = kept(town)
    ann.submit(container("mine"), "no")
    site = ann.site()
    model = site.queue.reference("q1")
    put_back(town, before)
    # While the command still thinks, its member's other one learns of it.
    ann.sync()
    with pytest.raises(MedPerfError, match="put back just now"):
        site.submit(association_submission(model, 1, REPORT))
    assert list(entries(ann)) == ["q1"]
    again = ann.site()
    again.submit(association_submission(again.queue.reference("q1"), 1, REPORT))
    assert entries(ann)["q2"].body["model_mlcube"] == {REFERENCE: "q1"}
