"""A registry that comes back with another past: all notice, and nothing is lost in the end."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from medperf_cache.outbox import HELD, LOST, QUEUED, SENT
from medperf_client.errors import Refused, UsageError
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.invitation import benchmark_invitation
from medperf_client.registry.client import Registry as Client
from medperf_client.site import Site
from tests.support.consortium import Member
from tests.support.people import REPORT, Person, container
from tests.support.proxy import FINE, NO_FAULTS, Fault, Request, status
from tests.support.registry import copy_database
from tests.support.town import Town

Fall = Callable[[Town], None]
FALLS = {
    "a restore": Town.restore,
    "a snapshot under a running registry": Town.put_snapshot_back,
    "a new registry": Town.begin_anew,
}


def lost(person: Person) -> list[str]:
    """The UIDs of a member's entries that their queue says are lost."""
    return [entry.uid for entry in person.site().queue.outbox.entries() if entry.state == LOST]


def put_right(person: Person) -> None:
    """What a member does who is told that something was lost."""
    person.site().sync()
    site = person.site()
    site.resend()
    for entry in site.queue.waiting():
        with suppress(UsageError):
            site.queue.retry(entry.uid)
    person.site().sync()


@pytest.mark.parametrize("fall", FALLS)
def test_what_was_sent_since_exists_once_in_the_end(town: Town, fall: str) -> None:
    town.keep()
    ada, bob = town.ada.site(), town.bob.site()
    model = ada.submit(container("ada's"))
    reference = ada.queue.reference(model.uid)
    ada.submit(association_submission(reference, 1, REPORT))
    bob.submit(container("bob's"))
    town.committee.site().sync()
    uid = model.real_uid
    assert uid is not None
    decision = association_change(uid, 1, approval_status="APPROVED", reason="Well done")
    town.committee.site().submit(decision)
    FALLS[fall](town)
    told = {person.email: person.site().sync().lost for person in (town.ada, town.bob)}
    assert [entry.uid for entry in told[town.ada.email]] == ["q1", "q2"]
    assert [entry.uid for entry in told[town.bob.email]] == ["q1"]
    for _ in range(3):
        for person in town.people:
            put_right(person)
    client = town.client()
    names = [one["name"] for one in client.pages("/mlcubes/")]
    assert names.count("ada's") == names.count("bob's") == 1
    (now,) = (one for one in client.pages("/mlcubes/") if one["name"] == "ada's")
    (benchmark,) = client.pages("/benchmarks/")
    (request,) = client.get(f"/mlcubes/{now['id']}/benchmarks/{benchmark['id']}/")
    assert (request["approval_status"], request["reason"]) == ("APPROVED", "Well done")
    assert request["metadata"]["test_result"] == REPORT["results"]
    for person in town.people:
        person.site().sync()
    for person in town.people:
        site = person.site()
        assert {entry.state for entry in site.queue.outbox.entries()} <= {SENT}
        assert site.sync().record() == {
            **dict.fromkeys(("sent", "rejected", "lost", "news"), []),
            "stopped": None,
        }
        assert site.catalog.all("mlcube") == list(client.pages("/mlcubes/"))


def test_what_arrived_at_a_second_try_is_missed_too_when_another_has_its_uid(town: Town) -> None:
    town.keep()
    tried: list[Request] = []

    def busy_at_first(request: Request) -> Fault:
        if request.method == "GET" or tried:
            return FINE
        tried.append(request)
        return status("503 Service Unavailable")

    town.at.faults = busy_at_first
    sent = town.ada.site().submit(container("ada's"))
    town.at.faults = NO_FAULTS
    assert tried and sent.state == SENT
    town.put_snapshot_back()
    assert town.client().get(f"/mlcubes/{sent.real_uid}/")["name"].startswith("stranger")
    assert [entry.uid for entry in town.ada.site().sync().lost] == ["q1"]
    put_right(town.ada)
    assert [one["name"] for one in town.ada.site().listed("mlcube", mine=True)] == ["ada's"]


@pytest.mark.parametrize("fall", FALLS)
def test_ghosts_go_from_every_catalog(town: Town, fall: str) -> None:
    town.keep()
    town.bob.site().submit(container("bob's"))
    town.ada.site().sync()
    assert "bob's" in [one["name"] for one in town.ada.site().catalog.all("mlcube")]
    FALLS[fall](town)
    done = town.ada.site().sync()
    assert done.stopped is None and done.lost == []
    own = Client(town.registry.url, town.ada.token)
    catalog = town.ada.site().catalog
    assert catalog.all("mlcube") == list(own.pages("/mlcubes/"))
    assert catalog.all("benchmark") == list(own.pages("/benchmarks/"))


def test_what_waits_never_names_another_container_than_was_meant(town: Town) -> None:
    town.keep()
    uid = town.ada.site().submit(container("ada's")).real_uid
    town.bob.site().submit(container("bob's"))
    town.ada.site().sync()
    (bobs,) = (one for one in town.ada.site().catalog.all("mlcube") if one["name"] == "bob's")
    town.at.stop()
    mine = town.ada.site().submit(association_submission(uid, 1, REPORT))
    theirs = town.ada.site().submit(association_submission(bobs["id"], 1, REPORT))
    assert (mine.state, theirs.state) == (QUEUED, QUEUED)
    town.put_snapshot_back()
    town.at.start()
    done = town.ada.site().sync()
    assert done.sent == [] and done.rejected == []
    entries = {entry.uid: entry for entry in town.ada.site().queue.outbox.entries()}
    # One's own is referred to by its entry from now on, and waits for it.
    assert entries[mine.uid].state == HELD and entries[mine.uid].needs == {"q1"}
    # What another member registered has to come back first.
    assert entries[theirs.uid].state == LOST and "(bob's)" in entries[theirs.uid].reason
    again, left = town.ada.site().resend()
    assert [one.uid for one in again] == ["q1"] and [one.uid for one in left] == [theirs.uid]
    town.ada.site().sync()
    associations = list(town.client().pages("/me/mlcubes/associations/"))
    assert [one["model_mlcube"] for one in town_requests(town)] == [
        town.ada.site().queue.real_uid("q1")
    ], associations
    put_right(town.bob)
    town.ada.site().sync()
    again, left = town.ada.site().resend([theirs.uid])
    (now,) = (one for one in town.client().pages("/mlcubes/") if one["name"] == "bob's")
    assert left == [] and again[0].body["model_mlcube"] == now["id"]


def town_requests(town: Town) -> list[dict[str, Any]]:
    """All requests in the committee's benchmark."""
    return list(Client(town.registry.url, town.committee.token).pages("/me/mlcubes/associations/"))


def test_a_command_notices_before_it_sends_anything(town: Town) -> None:
    town.keep()
    uid = town.ada.site().submit(container("ada's")).real_uid
    town.put_snapshot_back()
    told: list[str] = []
    site = Site(town.ada.home, tell=told.append)
    entry = site.submit(association_submission(uid, 1, REPORT))
    assert entry.state == HELD and town_requests(town) == []
    assert any("q1" in line and "does not have it any more" in line for line in told)


def test_a_resend_that_comes_twice_sends_once(town: Town) -> None:
    town.keep()
    town.ada.site().submit(container("ada's"))
    town.restore()
    town.ada.site().sync()
    first, second = town.ada.site(), town.ada.site()
    assert [one.uid for one in first.resend()[0]] == ["q1"] and second.resend() == ([], [])
    with pytest.raises(UsageError, match="q1 was not lost"):
        second.resend(["q1"])
    town.ada.site().sync()
    names = [one["name"] for one in town.client().pages("/mlcubes/")]
    assert names.count("ada's") == 1


def test_what_comes_back_by_itself_is_not_lost(town: Town) -> None:
    town.keep()
    town.ada.site().submit(container("ada's"))
    later = town.registry.folder / "later.db"
    copy_database(town.registry.folder / "registry.db", later)
    town.put_snapshot_back()
    assert [entry.uid for entry in town.ada.site().sync().lost] == ["q1"]
    # The failover is undone: the first database is the right one after all.
    copy_database(later, town.registry.folder / "registry.db")
    assert town.ada.site().sync().lost == [] and lost(town.ada) == []
    assert town.ada.site().queue.real_uid("q1") == 4


def test_what_was_deleted_is_not_lost(town: Town) -> None:
    town.ada.site().submit(container("ada's"))
    uid = town.ada.site().queue.real_uid("q1")
    town.registry.token_for("root@example.org", admin=True)
    client = Client(town.registry.url, town.registry.token_for("root@example.org"))
    client._exchange("DELETE", f"/mlcubes/{uid}/", 60, 60)
    town.ada.site().sync()
    town.keep()
    town.ada.site().submit(container("another"))
    town.restore()
    assert [entry.uid for entry in town.ada.site().sync().lost] == ["q2"]


def test_an_invitation_that_was_lost_is_found_out(town: Town) -> None:
    client = Client(town.registry.url, town.committee.token)
    client.put("/benchmarks/1/", {"is_private": True}, "private")
    town.committee.site().sync()
    town.keep()
    town.committee.site().submit(benchmark_invitation(1, town.bob.email))
    town.restore()
    done = town.committee.site().sync()
    assert [entry.kind for entry in done.lost] == ["member"]
    town.committee.site().resend()
    assert [entry.kind for entry in town.committee.site().sync().sent] == ["member"]
    (member,) = client.pages("/benchmarks/1/members/")
    assert member["email"] == town.bob.email


def test_a_decision_is_on_the_request_that_was_seen(town: Town) -> None:
    town.keep()
    uid = town.ada.site().submit(container("ada's")).real_uid
    town.ada.site().submit(association_submission(uid, 1, REPORT))
    town.committee.site().sync()
    town.committee.site().submit(association_change(uid, 1, approval_status="APPROVED"))
    town.restore()
    town.ada.site().sync()
    site = town.ada.site()
    again, _ = site.resend(["q1"])
    site.sync()
    # What comes now is another test than the committee saw.
    other = {**REPORT, "results": {"auroc": 0.999}}
    town.ada.site().submit(association_submission(site.queue.reference("q1"), 1, other))
    town.committee.site().sync()
    again, left = town.committee.site().resend()
    assert again == [] and "has to send it again first" in left[0].reason
    (request,) = town_requests(town)
    assert request["approval_status"] == "PENDING"


def test_a_reading_that_is_cut_off_goes_on(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    from medperf_client.exchange import sync
    from tests.support.proxy import FINE, RESET, Fault, Request

    town.keep()
    town.ada.site().submit(container("ada's"))
    town.restore()
    monkeypatch.setattr(sync, "PAGE_SIZE", 2)
    pages: list[str] = []

    def faults(request: Request) -> Fault:
        if "/changes/" not in request.path:
            return FINE
        pages.append(request.path)
        return RESET if len(pages) % 3 == 0 else FINE

    town.at.faults = faults
    for _ in range(20):
        done = town.ada.site().sync()
        if done.stopped is None:
            break
    assert [entry.uid for entry in done.lost] == ["q1"]
    assert len(pages) > 4 and sum("since=0" in path for path in pages) <= 2
    own = Client(town.registry.url, town.ada.token)
    assert town.ada.site().catalog.all("mlcube") == list(own.pages("/mlcubes/"))


def test_the_commands_say_what_was_lost_and_send_it_again(town: Town) -> None:
    town.keep()
    member = Member(town.ada.home.data, town.at.url, town.ada.token)
    site = town.ada.site()
    site.submit(container("ada's"))
    town.restore()
    done = member.run("sync")
    assert done.returncode == 0
    assert "lost q1: the registry does not have it any more: container 4 (ada's)" in done.stdout
    assert "medperf queue resend" in done.stderr
    assert "lost" in member.does("queue", "ls")
    assert "ada's" in member.does("container", "ls")
    refused = member.run("queue", "retry", "q1")
    assert refused.returncode == 2 and "medperf queue resend q1" in refused.stderr
    assert member.json("queue", "resend") == {"queued": ["q1"], "left": []}
    assert member.json("sync")["sent"] == [{"uid": "q1", "as": 1004}]
    assert member.does("queue", "resend") == "Nothing was lost.\n"


def test_what_was_sent_is_kept_for_so_many_days_that_the_registry_saw(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medperf_cache import outbox

    site = town.ada.site()
    site.submit(container("ada's"))
    real = outbox.datetime

    class Jumping(real):
        days = 0

        @classmethod
        def now(cls, zone: Any = None) -> Any:
            return real.now(zone) + timedelta(days=cls.days)

    monkeypatch.setattr(outbox, "datetime", Jumping)
    # A clock that jumps by a year makes one day more.
    Jumping.days = 400
    town.ada.site().sync()
    assert [entry.uid for entry in town.ada.site().queue.outbox.entries()] == ["q1"]
    for day in range(401, 431):
        Jumping.days = day
        town.ada.site().sync()
    assert town.ada.site().queue.outbox.entries() == []
    # Its number is never used again.
    assert town.ada.site().submit(container("another")).uid == "q2"


def test_a_refusal_stays_a_refusal(town: Town) -> None:
    """What was never there is not lost."""
    with pytest.raises(Refused):
        town.ada.site().submit(container("preparator"))
    town.keep()
    town.restore()
    assert town.ada.site().sync().lost == []
