"""Each trouble by itself: what was confirmed is sent once, and nothing stands in another's way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import HELD, QUEUED, REFERENCE, REJECTED, SENDING, SENT, Entry
from medperf_client.errors import NotLoggedIn, Offline, Refused, TryLater, UsageError
from medperf_client.exchange.sender import FIRST_WAIT_SECONDS, Sender, Sending
from medperf_client.kinds.association import association_change, association_submission
from medperf_client.kinds.invitation import benchmark_invitation
from medperf_client.kinds.submission import Submission
from medperf_client.registry.client import Registry as Client
from medperf_client.settings.credentials import Credentials
from medperf_client.site import Site
from tests.support.badhost import json_answer
from tests.support.consortium import Member
from tests.support.people import REPORT, Person, behind_proxy, container, names, new, queue
from tests.support.proxy import FINE, LOST, PORTAL, Fault, Request, plain, status, writes
from tests.support.registry import Registry
from tests.support.sockets import SocketLog
from tests.support.town import Town

REFUSED_LOGIN = Fault(reply=json_answer({"detail": "Invalid token."}, "401 Unauthorized"))


def send(person: Person, rest: Callable[[float], None] = lambda seconds: None) -> Sending:
    """What comes of sending the queue; rests are told and not taken."""
    return sender(person.site(), rest=rest).send()


def sender(site: Site, **changes: Any) -> Sender:
    """A site's sender, with a part exchanged."""
    parts = {"complete": site._complete, "acting": site._acting, "rest": lambda seconds: None}
    return Sender(site.queue.outbox, site.registry, site.catalog, **{**parts, **changes})


def states(person: Person) -> list[str]:
    """The states of all entries, in order."""
    return [entry.state for entry in person.site().queue.outbox.entries()]


def with_model(person: Person, direct: Client) -> int:
    """The UID of a container of the member's in the registry."""
    uid: int = direct.post("/mlcubes/", new("model", person).body, f"model-{person.email}")["id"]
    person.sync()
    return uid


def test_a_lost_answer_is_asked_for_again(person: Person, direct: Client) -> None:
    queue(person, new("a", person))
    person.proxy.faults = writes(LOST, LOST)
    assert [entry.attempts for entry in send(person).sent] == [3]
    assert len(names(direct)) == 1


def test_answers_lost_time_and_again_wait_for_the_next_sync(person: Person, direct: Client) -> None:
    queue(person, new("a", person))
    person.proxy.faults = writes(LOST, LOST, LOST, LOST)
    assert isinstance(send(person).stopped, TryLater)
    assert states(person) == [SENDING]
    for change in (lambda: person.site().queue.drop("q1"), lambda: person.site().queue.retry("q1")):
        with pytest.raises(UsageError, match="q1 may have reached the registry"):
            change()
    (sent,) = send(person).sent
    assert [one["id"] for one in direct.pages("/me/mlcubes/")] == [sent.real_uid]


def test_a_chain_with_every_answer_lost_once_exists_once(person: Person, direct: Client) -> None:
    queue(person, new("a", person))
    model = {REFERENCE: "q1"}
    queue(
        person,
        association_submission(model, 1, REPORT),
        association_change(model, 1, approval_status="REJECTED"),
    )
    person.proxy.faults = writes(LOST, FINE, LOST, FINE, LOST, FINE)
    person.sync()
    assert states(person) == [SENT, SENT, SENT]
    (association,) = direct.pages("/me/mlcubes/associations/")
    assert association["approval_status"] == "REJECTED"
    assert person.site().catalog.all("association") == [association]


def test_a_request_that_is_refused_is_not_one_that_was_rejected_before(town: Town) -> None:
    uid = town.ada.site().submit(container("ada's")).real_uid
    assert uid is not None
    town.ada.site().submit(association_submission(uid, 1, REPORT))
    town.ada.site().submit(association_change(uid, 1, approval_status="REJECTED"))
    town.client().put("/benchmarks/1/", {"approval_status": "REJECTED"}, "reject")
    (again,) = queue(town.ada, association_submission(uid, 1, REPORT))
    town.ada.site().queue.outbox.change(again.uid, state=SENDING, attempts=1)
    town.ada.site().sync()
    entry = town.ada.site().queue.entry(again.uid)
    assert entry.state == REJECTED and "not APPROVED" in entry.reason


def test_two_syncs_at_once_send_each_thing_once(person: Person, direct: Client) -> None:
    queue(person, *(new(str(number), person) for number in range(6)))
    person.proxy.faults = writes(LOST, FINE, LOST)
    member = Member(person.home.data, person.proxy.url, person.token)
    for process in [member.start("sync", "--json") for _ in range(2)]:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert states(person) == [SENT] * 6
    assert len(names(direct)) == 6


def test_one_error_does_not_stop_the_others(person: Person, direct: Client) -> None:
    queue(person, new("broken", person), new("fine", person))
    person.proxy.faults = writes(*[status("500 Internal Server Error")] * 4)
    outcome = send(person)
    assert [entry.uid for entry in outcome.sent] == ["q2"]
    assert "500" in person.site().queue.entry("q1").reason
    assert [entry.uid for entry in send(person).sent] == ["q1"]
    assert len(names(direct)) == 2


@pytest.mark.parametrize("error", ["503 Service Unavailable", "429 Too Many Requests"])
def test_a_registry_that_asks_for_a_long_rest_gets_it(person: Person, error: str) -> None:
    queue(person, new("a", person), new("b", person))
    person.proxy.faults = lambda _: status(error, "Retry-After: 3600")
    before = len(person.proxy.requests)
    assert "Retry" not in str(send(person).stopped)
    assert len(person.proxy.requests) == before + 1
    person.proxy.faults = writes()
    assert len(send(person).sent) == 2


def test_a_rest_until_a_moment_that_cannot_be_is_chosen_here(person: Person) -> None:
    queue(person, new("a", person))
    never = "Retry-After: Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    person.proxy.faults = writes(
        status("503 Service Unavailable", "Date: Mon, 01 Jan 2001 00:00:00 GMT", never)
    )
    rests: list[float] = []
    assert len(send(person, rests.append).sent) == 1
    assert len(rests) == 1 and 0 < rests[0] <= FIRST_WAIT_SECONDS


@pytest.mark.parametrize(
    "headers",
    [
        ["Retry-After: 7"],
        # A registry whose clock is years off says when by that clock.
        ["Date: Mon, 01 Jan 2001 00:00:00 GMT", "Retry-After: Mon, 01 Jan 2001 00:00:07 GMT"],
    ],
)
def test_a_short_rest_is_taken_as_asked(person: Person, headers: list[str]) -> None:
    queue(person, new("a", person))
    person.proxy.faults = writes(status("503 Service Unavailable", *headers))
    rests: list[float] = []
    assert len(send(person, rests.append).sent) == 1
    assert rests == [7.0]


def test_a_lost_login_in_the_middle_keeps_the_rest_as_it_was(person: Person) -> None:
    queue(person, *(new(name, person) for name in "abc"))
    person.proxy.faults = writes(FINE, REFUSED_LOGIN)
    outcome = send(person)
    assert isinstance(outcome.stopped, NotLoggedIn)
    # Nothing arrived, so the member may still change their mind.
    assert states(person) == [SENT, QUEUED, QUEUED]
    assert [entry.attempts for entry in person.site().queue.outbox.entries()] == [1, 1, 0]
    assert [entry.uid for entry in send(person).sent] == ["q2", "q3"]


def test_a_sync_tells_what_it_sent_though_it_may_not_read_any_more(person: Person) -> None:
    queue(person, new("a", person))
    sent: list[Request] = []

    def faults(request: Request) -> Fault:
        sent.extend([request] if request.method == "POST" else [])
        return REFUSED_LOGIN if sent and request.method == "GET" else FINE

    person.proxy.faults = faults
    done = person.site().sync()
    assert [entry.uid for entry in done.sent] == ["q1"]
    assert isinstance(done.stopped, NotLoggedIn)


@pytest.mark.parametrize(
    "portal", [PORTAL, Fault(reply=json_answer({"approval_status_of_terms": "not accepted"}))]
)
def test_a_captive_portal_takes_nothing(person: Person, direct: Client, portal: Fault) -> None:
    uid = with_model(person, direct)
    queue(person, association_submission(uid, 1, REPORT), new("other", person))
    person.proxy.faults = lambda _: portal
    before = len(person.proxy.requests)
    assert isinstance(send(person).stopped, Offline)
    assert SENT not in states(person)
    assert len(person.proxy.requests) == before + 1
    person.proxy.faults = writes()
    assert len(send(person).sent) == 2


def test_what_is_edited_while_its_hashes_are_found_out_is_sent_as_edited(
    person: Person, direct: Client
) -> None:
    site = person.site()
    waiting = Submission("mlcube", "POST", "/mlcubes/", new("a", person).body, {"x": "somewhere"})
    entry = site.queue.add(waiting)
    edited = new("edited", person).body

    def complete(found: Entry) -> dict[str, Any]:
        if found.body != edited:
            person.site().queue.edit(entry, edited)
        return found.body

    assert len(sender(site, complete=complete).send().sent) == 1
    assert names(direct) == [edited["name"]]


def test_what_is_dropped_while_its_hashes_are_found_out_is_not_sent(
    person: Person, direct: Client
) -> None:
    site = person.site()
    waiting = Submission("mlcube", "POST", "/mlcubes/", new("a", person).body, {"x": "somewhere"})
    site.queue.add(waiting)
    queue(person, new("b", person))

    def complete(found: Entry) -> dict[str, Any]:
        person.site().queue.drop(found.uid)
        return found.body

    assert [entry.uid for entry in sender(site, complete=complete).send().sent] == ["q2"]
    assert names(direct) == [new("b", person).body["name"]]


def test_what_is_on_its_way_cannot_be_edited_or_dropped(person: Person, direct: Client) -> None:
    (entry,) = queue(person, new("a", person))
    refusals: list[str] = []

    def meddle(request: Request) -> Fault:
        if request.method == "POST":
            mine = person.site().queue
            for change in (lambda: mine.edit(entry, {"name": "x"}), lambda: mine.drop("q1")):
                try:
                    change()
                except UsageError as error:
                    refusals.append(str(error))
        return FINE

    person.proxy.faults = meddle
    assert len(send(person).sent) == 1
    assert len(refusals) == 2 and "may have reached" in refusals[0]
    assert names(direct) == [entry.body["name"]]


def test_a_refused_submission_stays_if_something_depends_on_it_by_then(person: Person) -> None:
    def depend(request: Request) -> Fault:
        if request.method == "POST":
            queue(person, association_submission({REFERENCE: "q1"}, 1, REPORT))
        return FINE

    person.proxy.faults = depend
    with pytest.raises(Refused, match="The name 'taken' is taken"):
        person.site().submit(container("taken"))
    assert states(person) == [REJECTED, HELD]
    person.site().queue.drop("q2", "q1")
    assert states(person) == []


def test_what_came_to_depend_meanwhile_is_not_dropped_unasked(person: Person) -> None:
    queue(person, new("a", person), association_submission({REFERENCE: "q1"}, 1, REPORT))
    with pytest.raises(UsageError, match="q2 came to depend on q1 meanwhile"):
        person.site().queue.drop("q1")
    assert states(person) == [QUEUED, QUEUED]


def test_two_members_on_one_machine_send_each_their_own(
    with_benchmark: Registry, person: Person, direct: Client
) -> None:
    person.proxy.stop()
    person.site().submit(new("first", person))
    person.proxy.start()
    second = Person(with_benchmark, person.proxy)
    Credentials(person.home.data).store(person.proxy.url, second.token)
    person.site().submit(new("second", second))
    assert states(person) == [QUEUED, SENT]
    assert person.site().sync().sent == []
    assert "queued under another login" in person.site().queue.entry("q1").reason
    Credentials(person.home.data).store(person.proxy.url, person.token)
    assert [entry.uid for entry in person.site().sync().sent] == ["q1"]
    assert names(direct) == [new("first", person).body["name"]]


def test_what_nobody_was_logged_in_for_is_of_who_sends_it(person: Person) -> None:
    Credentials(person.home.data).forget(person.proxy.url)
    person.site().submit(new("a", person))
    assert states(person) == [QUEUED]
    Credentials(person.home.data).store(person.proxy.url, person.token)
    assert [entry.uid for entry in person.site().sync().sent] == ["q1"]


def test_an_old_answer_does_not_undo_what_was_learnt_since(
    with_benchmark: Registry, person: Person, direct: Client
) -> None:
    model = with_model(person, direct)
    queue(person, association_submission(model, 1, REPORT))
    person.proxy.faults = writes(LOST, LOST, LOST, LOST)
    send(person)
    committee = Client(with_benchmark.url, with_benchmark.token_for("committee@example.org"))
    committee.put(f"/mlcubes/{model}/benchmarks/1/", {"approval_status": "APPROVED"}, "yes")
    person.site().freshen()
    person.sync()
    (association,) = person.site().catalog.all("association")
    assert association["approval_status"] == "APPROVED"
    assert states(person) == [SENT]


@pytest.fixture
def plainly(with_benchmark: Registry) -> Iterator[Person]:
    """A member of a plain MedPerf server."""
    yield from behind_proxy(with_benchmark, plain())


@pytest.fixture
def registered(with_benchmark: Registry, plainly: Person) -> Client:
    """What the plain server's member has there."""
    return Client(with_benchmark.url, plainly.token)


def test_a_plain_server_is_asked_for_a_container_before_it_gets_it_again(
    plainly: Person, registered: Client
) -> None:
    queue(plainly, new("a", plainly))
    plainly.proxy.faults = plain(LOST)
    (sent,) = send(plainly).sent
    assert [one["id"] for one in registered.pages("/me/mlcubes/")] == [sent.real_uid]
    writes_seen = [one for one in plainly.proxy.requests if one.method == "POST"]
    assert len(writes_seen) == 1


def test_what_never_reached_a_plain_server_is_sent_again(
    plainly: Person, registered: Client
) -> None:
    queue(plainly, new("a", plainly))
    plainly.proxy.faults = plain(status("502 Bad Gateway"))
    assert len(send(plainly).sent) == 1
    assert len(names(registered)) == 1


def test_a_plain_server_gets_a_request_once_even_if_it_was_decided_meanwhile(
    with_benchmark: Registry, plainly: Person, registered: Client
) -> None:
    model = with_model(plainly, registered)
    queue(plainly, association_submission(model, 1, REPORT))
    plainly.proxy.faults = plain(LOST, LOST, LOST, LOST)
    committee = Client(with_benchmark.url, with_benchmark.token_for("committee@example.org"))

    def reject(_: float) -> None:
        pair = f"/mlcubes/{model}/benchmarks/1/"
        committee.put(pair, {"approval_status": "REJECTED"}, f"no-{model}")

    assert len(send(plainly, reject).sent) == 1
    (association,) = registered.pages("/me/mlcubes/associations/")
    assert association["approval_status"] == "REJECTED"


def test_an_older_request_does_not_stand_for_a_newer_one(
    with_benchmark: Registry, plainly: Person, registered: Client
) -> None:
    model = with_model(plainly, registered)
    queue(plainly, association_submission(model, 1, REPORT))
    queue(plainly, association_change(model, 1, approval_status="REJECTED"))
    plainly.proxy.faults = plain(LOST, LOST)
    assert len(send(plainly).sent) == 2
    queue(plainly, association_submission(model, 1, REPORT))
    plainly.proxy.faults = plain(status("502 Bad Gateway"))
    assert len(send(plainly).sent) == 1
    found = registered.pages("/me/mlcubes/associations/")
    assert sorted(one["approval_status"] for one in found) == ["PENDING", "REJECTED"]


def test_a_plain_server_which_would_show_it_to_all_gets_no_private_benchmark(
    plainly: Person, registered: Client
) -> None:
    listed = list(registered.pages("/benchmarks/"))
    body = {**registered.get("/benchmarks/1/"), "name": "secret", "is_private": True}
    queue(plainly, Submission("benchmark", "POST", "/benchmarks/", body))
    queue(plainly, benchmark_invitation(1, "grace@example.org"))
    assert len(send(plainly).rejected) == 2
    assert list(registered.pages("/benchmarks/")) == listed
    assert not [one for one in plainly.proxy.requests if one.method == "POST"]


def test_a_decision_is_found_on_a_plain_server_whatever_reason_it_has_there(
    with_benchmark: Registry, plainly: Person, registered: Client
) -> None:
    model = with_model(plainly, registered)
    queue(plainly, association_submission(model, 1, REPORT))
    send(plainly)
    queue(plainly, association_change(model, 1, approval_status="REJECTED", reason="a mistake"))
    plainly.proxy.faults = plain(status("502 Bad Gateway"))
    committee = Client(with_benchmark.url, with_benchmark.token_for("committee@example.org"))

    def reject(_: float) -> None:
        decision = {"approval_status": "REJECTED", "reason": "another"}
        committee.put(f"/mlcubes/{model}/benchmarks/1/", decision, f"no-{model}")

    assert len(send(plainly, reject).sent) == 1


@pytest.mark.parametrize("change", [{"approval_status": "APPROVED"}, {"priority": 3}])
def test_a_plain_server_is_not_asked_to_change_a_request_that_it_does_not_have(
    plainly: Person, registered: Client, change: dict[str, Any]
) -> None:
    model = with_model(plainly, registered)
    queue(plainly, association_change(model, 1, **change))
    # What MedPerf's server answers for a pair of which it has nothing, however often it is asked.
    plainly.proxy.faults = plain(*[status("500 Internal Server Error")] * 9)
    (refused,) = send(plainly).rejected
    assert refused.reason == f"the registry has no request: container {model} in benchmark 1"
    assert not [one for one in plainly.proxy.requests if one.method == "PUT"]


def test_another_container_of_that_name_is_not_taken_for_ones_own(
    plainly: Person, registered: Client
) -> None:
    queue(plainly, new("a", plainly))
    plainly.proxy.faults = plain(*[status("502 Bad Gateway")] * 4)
    send(plainly)
    other = {**new("a", plainly).body, "mlcube_hash": f"other-{plainly.email.partition('@')[0]}"}
    registered.post("/mlcubes/", other, "from-another-machine")
    (refused,) = send(plainly).rejected
    assert "is taken" in refused.reason


def test_a_sync_with_nothing_new_costs_one_request(person: Person) -> None:
    before, moved = len(person.proxy.requests), person.proxy.moved
    person.sync()
    (only,) = person.proxy.requests[before:]
    assert (only.method, only.path.partition("?")[0]) == ("GET", "/api/v0/changes/")
    head = sum(len(name) + len(value) + 4 for name, value in only.headers.items())
    assert head + len(only.path) + person.proxy.moved - moved < 512


def test_an_offline_sync_opens_no_socket(person: Person, tmp_path: Path) -> None:
    queue(person, new("a", person))
    member = Member(person.home.data, person.proxy.url, person.token)
    sockets = SocketLog(member, tmp_path / "sockets")
    member.does("sync", "--offline")
    assert sockets.taken() == [] and states(person) == [QUEUED]
    member.does("sync")
    assert "socket.connect" in sockets.taken() and states(person) == [SENT]
