"""Whatever state an entry of the queue is in, there is a way out, and the message names it."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from medperf_cache.outbox import HELD, LOST, QUEUED, REFERENCE, REJECTED, SENDING, SENT, SUPERSEDED
from medperf_client.airgap.bundles import export_bundle, import_bundle, send_bundle
from medperf_client.errors import UsageError
from medperf_client.exchange.conditions import condition
from medperf_client.exchange.lost import look_back
from medperf_client.kinds.association import association_submission
from medperf_client.kinds.benchmark import benchmark_decision
from medperf_client.kinds.submission import Submission
from medperf_client.site import Site
from tests.support.people import REPORT, Person, container, new, queue
from tests.support.proxy import FINE
from tests.support.proxy import LOST as ANSWER_LOST

NOBODY = "http://127.0.0.1:9"
STRANGER = 999


def with_typo(person: Person) -> Submission:
    """A container whose parameters are nowhere, and whose hash of them is to be found out."""
    made, url = new("typo", person), f"{NOBODY}/paramters.yaml"
    body = {**made.body, "git_mlcube_url": f"{NOBODY}/config.yaml", "git_parameters_url": url}
    return replace(made, body=body, unknown={"parameters_hash": url})


def requested(uid: str) -> Submission:
    """That a queued container joins benchmark 1."""
    return association_submission({REFERENCE: uid}, 1, REPORT)


def carried_and_back(person: Person) -> None:
    """Have the queue sent from another machine of the member's, and take the receipt."""
    file = person.home.data / "queue.bundle"
    export_bundle(person.site(), file, queue=True)
    send_bundle(person.site(), file)
    import_bundle(person.site(), file.with_name("queue.bundle.receipt"))


def queued(person: Person) -> str:
    return queue(person, new("queued", person))[0].uid


def waiting(person: Person) -> str:
    never = condition("association", {"model_mlcube": 1, "benchmark": 1}, approval_status="NEVER")
    return queue(person, replace(new("waiting", person), until=never))[0].uid


def refused(person: Person) -> str:
    uid = queue(person, container("taken"))[0].uid
    person.sync()
    return uid


def held(person: Person) -> str:
    uid = queue(person, container("taken"))[0].uid
    request = queue(person, requested(uid))[0].uid
    person.sync()
    return request


def needed(person: Person) -> str:
    uid = queued(person)
    queue(person, requested(uid))
    return uid


def file_away(person: Person) -> str:
    uid = queue(person, with_typo(person))[0].uid
    person.sync()
    return uid


def answer_lost(person: Person) -> str:
    uid = queued(person)
    person.proxy.faults = lambda request: ANSWER_LOST if request.method == "POST" else FINE
    person.site().sender.send()
    return uid


def carried(person: Person) -> str:
    uid = needed(person)
    export_bundle(person.site(), person.home.data / "lost.bundle", queue=True)
    return uid


def not_completed(person: Person) -> str:
    uid = queue(person, with_typo(person))[0].uid
    queue(person, requested(uid))
    carried_and_back(person)
    return uid


def behind_it(person: Person) -> str:
    uid = not_completed(person)
    return person.site().queue.outbox.dependents(uid)[0].uid


def given_back(person: Person) -> str:
    uid = behind_it(person)
    person.site().queue.retry("q1")
    return uid


def another_s(person: Person) -> str:
    uid = queued(person)
    person.site().queue.outbox.change(uid, member=STRANGER)
    return uid


def another_s_in_doubt(person: Person) -> str:
    uid = answer_lost(person)
    person.site().queue.outbox.change(uid, member=STRANGER)
    return uid


def sent(person: Person) -> str:
    uid = queued(person)
    person.sync()
    return uid


def lost(person: Person) -> str:
    uid = sent(person)
    person.site().queue.outbox.change(uid, state=LOST, reason="it is not there any more")
    return uid


def lost_and_needed(person: Person) -> str:
    uid = needed(person)
    person.sync()
    person.site().queue.outbox.change(uid, state=LOST, reason="it is not there any more")
    return uid


def superseded(person: Person) -> str:
    # Of a benchmark that is not there, so that it is refused.
    uid = queue(person, benchmark_decision(77, "APPROVED"))[0].uid
    queue(person, benchmark_decision(77, "REJECTED"))
    return uid


FINAL = "nothing"
# What dropping, editing and retrying say: nothing where they are done, else what helps first.
WAYS: dict[Callable[[Person], str], tuple[str, str, str, str]] = {
    queued: (QUEUED, "", "", ""),
    waiting: ("waiting", "", "", ""),
    refused: (REJECTED, "", "", ""),
    held: (HELD, "", "", ""),
    needed: (QUEUED, "", "", ""),
    file_away: (QUEUED, "", "", ""),
    answer_lost: (SENDING, "retry", "retry", ""),
    carried: (SENDING, "retry", "retry", ""),
    not_completed: (REJECTED, "", "", ""),
    behind_it: (HELD, "", "", ""),
    given_back: (QUEUED, "", "", ""),
    another_s: (QUEUED, "", "", ""),
    another_s_in_doubt: (SENDING, "retry", "retry", ""),
    lost: (LOST, "", "resend", "resend"),
    lost_and_needed: (LOST, "", "resend", "resend"),
    superseded: (SUPERSEDED, "", FINAL, FINAL),
    sent: (SENT, FINAL, FINAL, FINAL),
}


def drop(site: Site, uid: str) -> None:
    """As the command does: with what depends on it."""
    site.queue.drop(uid, *(one.uid for one in site.queue.outbox.dependents(uid)))


def edit(site: Site, uid: str) -> None:
    entry = site.queue.entry(uid)
    site.queue.edit(entry, {**entry.body, "metadata": {"edited": True}})


def retry(site: Site, uid: str) -> None:
    """As the command does, for who agrees."""
    in_doubt = site.queue.entry(uid).state == SENDING
    (site.queue.take_back if in_doubt else site.queue.retry)(uid)


def follow(person: Person, hint: str) -> str:
    """Do what a hint says; the word of the command, of the queue's, that does it."""
    found = re.search(r"medperf queue (retry|resend) (q\d+)", hint)
    if found is None:
        return FINAL
    if found[1] == "retry":
        retry(person.site(), found[2])
    else:
        person.site().resend([found[2]])
    return found[1]


@pytest.mark.parametrize("verb", [drop, edit, retry])
@pytest.mark.parametrize("state", WAYS, ids=lambda state: state.__name__)
def test_what_cannot_be_done_names_what_has_to_be_done_first(
    person: Person, state: Callable[[Person], str], verb: Callable[[Site, str], None]
) -> None:
    uid = state(person)
    expected, *ways = WAYS[state]
    assert person.site().queue.entry(uid).state == expected
    first = dict(zip((drop, edit, retry), ways, strict=True))[verb]
    if first:
        with pytest.raises(UsageError) as told:
            verb(person.site(), uid)
        assert follow(person, told.value.hint) == first
    if first == FINAL:
        return
    # An entry of a bundle that is not to be sent leaves one after the other.
    while (refusal := _refusal(person, verb, uid)) is not None:
        assert follow(person, refusal.hint) != FINAL, refusal
    left = person.site().queue.outbox.find(uid)
    assert left is None if verb is drop else left is not None and left.state in (QUEUED, "waiting")


def _refusal(person: Person, verb: Callable[[Site, str], None], uid: str) -> UsageError | None:
    try:
        verb(person.site(), uid)
    except UsageError as error:
        return error
    return None


def nothing(person: Person) -> None:
    pass


def synced(person: Person) -> None:
    person.proxy.faults = lambda _: FINE
    person.sync()


def carried_there_and_back(person: Person) -> None:
    person.proxy.faults = lambda _: FINE
    # Some have nothing to carry, some belong to another member.
    with suppress(UsageError):
        carried_and_back(person)


def replaced(person: Person) -> None:
    """The registry turns out to have another past, without what its member made and referred to."""
    site = person.site()
    for kind in ("mlcube", "benchmark", "association"):
        for entity in site.catalog.all(kind):
            site.catalog.put(f"ghost-{kind}", entity)
            site.catalog.remove(kind, entity["id"])
    site.catalog.losses += 1
    look_back(site.queue.outbox, site.catalog)


@pytest.mark.parametrize("event", [nothing, synced, carried_there_and_back, replaced])
@pytest.mark.parametrize("state", WAYS, ids=lambda state: state.__name__)
def test_whatever_happens_an_entry_is_sent_or_can_be_dropped(
    person: Person, state: Callable[[Person], str], event: Callable[[Person], None]
) -> None:
    state(person)
    event(person)
    outbox = person.site().queue.outbox
    for entry in outbox.entries():
        for _ in range(3):
            found = outbox.find(entry.uid)
            if found is None or found.state == SENT:
                break
            refusal = _refusal(person, drop, entry.uid)
            assert refusal is None or follow(person, refusal.hint) != FINAL, refusal
    assert {entry.state for entry in outbox.entries()} <= {SENT}
    outbox.let_go(0)
    assert outbox.entries() == []


def test_what_could_not_be_completed_elsewhere_is_mended_at_home(
    person: Person, tmp_path: Path
) -> None:
    uid = not_completed(person)
    entry = person.site().queue.entry(uid)
    assert "could not be completed where it was carried to" in entry.reason
    assert "127.0.0.1:9" in entry.reason
    # Nobody sends it from there any more, whatever becomes of the file.
    again = send_bundle(person.site(), person.home.data / "queue.bundle")
    assert (again.sent, again.rejected) == ([], [])

    right = {**entry.body, "git_parameters_url": f"{NOBODY}/parameters.yaml"}
    assert person.site().queue.edit(entry, right).unknown == {
        "parameters_hash": f"{NOBODY}/parameters.yaml"
    }
    entry = person.site().queue.entry(uid)
    person.site().queue.edit(entry, {**entry.body, "parameters_hash": "1" * 64})
    carried_and_back(person)
    assert [one.state for one in person.site().queue.outbox.entries()] == [SENT, SENT]


def test_what_counts_as_not_sent_happens_once_all_the_same(person: Person) -> None:
    uid = answer_lost(person)
    person.site().queue.take_back(uid)
    synced(person)
    assert person.site().queue.entry(uid).state == SENT
    with pytest.raises(UsageError, match="was sent already"):
        person.site().queue.take_back(uid)
    assert len(list(person.site().registry.pages("/me/mlcubes/"))) == 1


def test_what_was_sent_is_carried_along_without_what_it_needed(person: Person) -> None:
    uid = queued(person)
    request = queue(person, requested(uid))[0].uid
    person.site().sender.send(only=uid)
    later = queue(person, association_submission(1, 1, REPORT))[0].uid
    # It comes after the request, as what is about the same two does.
    person.site().queue.outbox.change(later, after=[request])
    person.site().sender.send(only=request)
    assert person.site().queue.entry(request).state == SENT
    file = person.home.data / "queue.bundle"
    export_bundle(person.site(), file, queue=True)
    assert import_bundle(person.site(), file).unsent == 2
