"""The outbox keeps what was confirmed: in order, under UIDs never used twice, whatever happens."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import CacheError
from medperf_cache.outbox import HELD, QUEUED, REFERENCE, REJECTED, SENT, Entry, Outbox
from tests.cache.processes import run_together, start
from tests.cache.test_disk_full import small_disk

__all__ = ["small_disk"]

WORKERS, EACH, KILLS = 6, 15, 12


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """An empty outbox."""
    return Outbox(tmp_path / "outbox")


def add(outbox: Outbox, name: str = "model", **body: Any) -> Entry:
    """A container in the outbox."""
    return outbox.add("mlcube", "POST", "/mlcubes/", {"name": name, **body})


def ask(outbox: Outbox, model: str) -> Entry:
    """A request in the outbox that refers to another entry."""
    return outbox.add("association", "PUT", f"/mlcubes/{{{model}}}/benchmarks/1/", {"priority": 1})


def states(outbox: Outbox) -> dict[str, str]:
    """The state of every entry, by UID, in their order."""
    return {entry.uid: entry.state for entry in outbox.entries()}


def test_entries_come_back_as_they_were_in_the_order_of_their_uids(outbox: Outbox) -> None:
    added = [add(outbox, f"model-{number}") for number in range(12)]
    assert [entry.uid for entry in added] == [f"q{number}" for number in range(1, 13)]
    assert outbox.entries() == added
    assert len({entry.key for entry in added}) == 12


def test_a_uid_is_never_used_twice(tmp_path: Path, outbox: Outbox) -> None:
    add(outbox)
    outbox.drop(add(outbox).uid)
    assert add(Outbox(tmp_path / "outbox")).uid == "q3"


def test_uids_go_on_after_those_that_were_restored(tmp_path: Path, outbox: Outbox) -> None:
    carried = [add(outbox), add(outbox)]
    elsewhere = Outbox(tmp_path / "elsewhere")
    elsewhere.restore(carried)
    assert add(elsewhere).uid == "q3"
    assert elsewhere.entries()[:2] == carried


def test_what_is_restored_does_not_undo_what_happened_here(outbox: Outbox) -> None:
    entry = add(outbox)
    outbox.change(entry.uid, state=SENT)
    outbox.restore([entry])
    assert states(outbox) == {"q1": SENT}


def test_a_rejected_entry_holds_what_needs_it_and_nothing_else(outbox: Outbox) -> None:
    rejected, other = add(outbox), add(outbox)
    add(outbox, part={REFERENCE: rejected.uid})
    ask(outbox, "q3")
    outbox.add("mlcube", "POST", "/mlcubes/", {}, after=[rejected.uid])
    outbox.change(rejected.uid, state=REJECTED)
    assert states(outbox) == {"q1": REJECTED, other.uid: QUEUED, "q3": HELD, "q4": HELD, "q5": HELD}
    outbox.change(rejected.uid, state=QUEUED)
    assert set(states(outbox).values()) == {QUEUED}


def test_dependents_are_those_that_refer_to_it_through_others_too(outbox: Outbox) -> None:
    add(outbox), add(outbox)
    add(outbox, part={REFERENCE: "q1"})
    ask(outbox, "q3")
    assert [entry.uid for entry in outbox.dependents("q1")] == ["q3", "q4"]
    assert outbox.dependents("q2") == []


def test_references_become_real_uids_in_body_and_path(outbox: Outbox) -> None:
    add(outbox)
    entry = add(outbox, model={REFERENCE: "q1"})
    resolved = entry.resolved(lambda uid: {"q1": 7}[uid])
    assert resolved == ("/mlcubes/", {"name": "model", "model": 7})
    assert ask(outbox, "q1").resolved(lambda uid: 7)[0] == "/mlcubes/7/benchmarks/1/"


@pytest.mark.parametrize("written", ["q1", "q9", ["q1"], {}, None])
def test_what_a_container_wrote_is_no_reference(outbox: Outbox, written: Any) -> None:
    add(outbox)
    entry = add(outbox, metadata={"results": {REFERENCE: written}})
    assert entry.needs == set() and outbox.dependents("q1") == []
    assert entry.resolved(lambda uid: 7)[1] == entry.body


def test_what_refers_to_nothing_is_not_taken(outbox: Outbox) -> None:
    with pytest.raises(CacheError, match="q1 refers to q9, which is not in the queue"):
        add(outbox, part={REFERENCE: "q9"})
    assert outbox.entries() == []


def test_who_read_an_entry_before_it_was_edited_does_not_change_it(outbox: Outbox) -> None:
    read = add(outbox)
    edited = outbox.change(read.uid, key="another", body={"name": "edited"})
    assert outbox.update(read, state=SENT) is None
    assert outbox.entries() == [edited]
    outbox.drop(read.uid)
    assert outbox.update(edited, state=SENT) is None
    assert outbox.entries() == []


def test_a_transaction_that_raises_changes_nothing(outbox: Outbox) -> None:
    entry = add(outbox)
    with pytest.raises(RuntimeError), outbox.transaction():
        outbox.drop(entry.uid)
        add(outbox)
        raise RuntimeError
    assert outbox.entries() == [entry]
    assert add(outbox).uid == "q2"


def test_processes_that_add_at_once_get_uids_of_their_own(tmp_path: Path) -> None:
    def work() -> None:
        outbox = Outbox(tmp_path / "outbox")
        for _ in range(EACH):
            add(outbox, str(os.getpid()))

    run_together(*[work] * WORKERS)
    entries = Outbox(tmp_path / "outbox").entries()
    assert [entry.uid for entry in entries] == [f"q{n}" for n in range(1, WORKERS * EACH + 1)]
    assert len({entry.key for entry in entries}) == WORKERS * EACH


def test_only_one_process_sends_at_a_time(tmp_path: Path) -> None:
    inside = tmp_path / "inside"

    def work() -> None:
        outbox = Outbox(tmp_path / "outbox")
        for _ in range(EACH):
            with outbox.alone():
                inside.touch(exist_ok=False)
                inside.unlink()

    run_together(*[work] * WORKERS)


def test_what_was_added_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    moments = random.Random(3)
    told = tmp_path / "told"
    told.touch()

    def work() -> None:
        outbox = Outbox(tmp_path / "outbox")
        with open(told, "a", buffering=1) as file:
            while True:
                file.write(f"{add(outbox).uid}\n")

    def check() -> None:
        uids = [entry.uid for entry in Outbox(tmp_path / "outbox").entries()]
        promised = told.read_text().split("\n")[:-1]
        # What was stored but not told of is there too; nothing is there twice or missing.
        assert set(promised) <= set(uids)
        assert uids == [f"q{number}" for number in range(1, len(uids) + 1)]

    for _ in range(KILLS):
        process = start(work)
        process.join(moments.uniform(0.01, 0.2))
        process.kill()
        process.join()
        run_together(check)
    assert told.read_text()


def test_a_full_disk_is_an_error_and_leaves_the_outbox_as_it_was(small_disk: Path) -> None:
    kept = [add(Outbox(small_disk / "outbox"), str(number)) for number in range(3)]
    ballast = small_disk / "ballast"

    def work() -> None:
        outbox = Outbox(small_disk / "outbox")
        assert outbox.entries() == kept
        with pytest.raises(OSError, match="No space left"), open(ballast, "wb", 0) as file:
            while True:
                file.write(os.urandom(4096))
        for _ in range(2):
            with pytest.raises(Exception, match="disk is full|disk I/O error"):
                add(outbox, "large" * 10_000)
        assert outbox.entries() == kept
        ballast.unlink()
        assert add(outbox, "small").uid == "q4"

    run_together(work)
    assert [entry.uid for entry in Outbox(small_disk / "outbox").entries()] == [
        *(entry.uid for entry in kept),
        "q4",
    ]
