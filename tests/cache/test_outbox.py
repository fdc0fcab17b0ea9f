"""The outbox keeps what was confirmed: in order, under UIDs never used twice, whatever happens."""

import os
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medperf_cache import CacheError, Storage
from medperf_cache.disk import JsonDisk, open_store
from medperf_cache.outbox import HELD, LOST, QUEUED, REFERENCE, REJECTED, SENT, Entry, Outbox
from medperf_cache.pins import Keeping, Pins
from tests.cache.processes import run_together, start

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


def about(entry: Entry) -> tuple[tuple[str, str], ...]:
    """What an entry is about, for tests: as it says itself."""
    return (("mlcube", str(entry.body["about"])),) if "about" in entry.body else ()


def test_ahead_is_what_waits_about_the_same_thing_and_has_nothing_behind_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", about)
    first, _, alone = add(outbox, about=5), add(outbox, about=6), add(outbox)
    assert outbox.ahead(first) == [] and outbox.ahead(alone) == []
    second = add(outbox, about=5)
    assert outbox.ahead(second) == ["q1"]
    outbox.change(second.uid, after=["q1"])
    third = add(outbox, about=5)
    assert outbox.ahead(third) == ["q4"]
    outbox.change("q4", state=REJECTED)
    assert outbox.ahead(third) == ["q1"]
    outbox.change("q1", state=SENT)
    assert outbox.ahead(third) == []


def test_a_container_is_the_same_by_the_uid_that_it_had_here(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", about)
    made, waits = add(outbox), add(outbox, about="q1")
    by_number = add(outbox, about=17)
    assert outbox.ahead(by_number) == []
    outbox.change(made.uid, state=SENT, answer={"id": 17})
    assert outbox.ahead(by_number) == ["q2"] and outbox.ahead(waits) == ["q3"]
    assert outbox.subject(waits) == outbox.subject(by_number) == (("mlcube", "17"),)
    outbox.change(made.uid, state=LOST)
    assert outbox.ahead(by_number) == []


def test_what_changed_is_told_once_whoever_changed_it(tmp_path: Path, outbox: Outbox) -> None:
    entry, other = add(outbox), add(outbox)
    count, changed = outbox.changed()
    assert changed == []
    elsewhere = Outbox(tmp_path / "outbox")
    elsewhere.change(entry.uid, reason="because")
    elsewhere.change(entry.uid, reason="why not")
    new = add(elsewhere)
    count, changed = outbox.changed(count)
    assert [(one.uid, one.reason) for one in changed] == [("q1", "why not"), (new.uid, "")]
    assert outbox.changed(count) == (count, [])
    outbox.drop(other.uid)
    assert outbox.changed(count) == (count, [])


def test_what_needs_an_entry_is_found_as_long_as_it_needs_it(outbox: Outbox) -> None:
    add(outbox), add(outbox)
    add(outbox, part={REFERENCE: "q1"})
    assert outbox.needing("q1") == {"q3"}
    outbox.change("q3", body={"part": {REFERENCE: "q2"}})
    assert (outbox.needing("q1"), outbox.needing("q2")) == (set(), {"q3"})
    outbox.drop("q3")
    assert outbox.needing("q2") == set()


def test_what_an_earlier_version_stored_goes_on(tmp_path: Path) -> None:
    made = add(Outbox(tmp_path / "new"), about=5)
    later = ("before", "uploads", "sent_day")
    stored = {name: value for name, value in asdict(made).items() if name not in later}
    store = open_store(tmp_path / "outbox", durable=True)
    store["entry/q1"], store["last"] = stored, 2
    store["entry/q2"] = {**stored, "uid": "q2", "after": ["q1"]}
    store.close()
    outbox = Outbox(tmp_path / "outbox", about)
    assert states(outbox) == {"q1": QUEUED, "q2": QUEUED}
    assert outbox.get("q1") == made
    assert [entry.uid for entry in Outbox(tmp_path / "outbox").dependents("q1")] == ["q2"]
    third = add(outbox, about=5)
    assert third.uid == "q3"
    outbox.change("q1", state=REJECTED)
    assert states(outbox) == {"q1": REJECTED, "q2": HELD, "q3": QUEUED}


def keeping(folder: Path) -> Keeping:
    """What an outbox keeps in a cache."""
    return Keeping("queue", lambda: Storage(folder / "cache").pins)


def kept(folder: Path) -> list[str]:
    """The files that are kept for the queue."""
    return [digest for _, digest in Storage(folder / "cache").pins.get("queue")]


def test_files_are_kept_before_an_entry_is_stored_and_until_after_it_is_gone(
    tmp_path: Path,
) -> None:
    stored: list[list[str]] = []

    def pins() -> Pins:
        stored.append(list(states(Outbox(tmp_path / "outbox"))))
        return Storage(tmp_path / "cache").pins

    outbox = Outbox(tmp_path / "outbox", keeping=Keeping("queue", pins))
    for uploads in (["a", "b"], ["b", "c"]):
        outbox.add("mlcube", "POST", "/mlcubes/", {}, uploads=uploads)
    outbox.change("q1", state=REJECTED)
    assert stored == [[], ["q1"]] and kept(tmp_path) == ["a", "b", "c"]
    outbox.drop("q1")
    assert kept(tmp_path) == ["a", "b", "c"]
    outbox.keep_no_more()
    assert stored[2:] == [["q2"]] and kept(tmp_path) == ["b", "c"]
    outbox.change("q2", state=SENT)
    assert [entry.uid for entry in outbox.let_go(0)] == ["q2"]
    assert stored[3:] == [[]] and kept(tmp_path) == []


def test_what_is_not_stored_after_all_is_let_go_later(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", keeping=keeping(tmp_path))
    with pytest.raises(RuntimeError), outbox.transaction():
        outbox.add("mlcube", "POST", "/mlcubes/", {}, uploads=["a"])
        raise RuntimeError
    assert outbox.entries() == [] and kept(tmp_path) == ["a"]
    outbox.keep_no_more()
    assert kept(tmp_path) == []


def test_who_lets_go_leaves_what_another_process_adds(tmp_path: Path) -> None:
    def add_files() -> None:
        outbox = Outbox(tmp_path / "outbox", keeping=keeping(tmp_path))
        for number in range(EACH):
            uploads = [f"{os.getpid()}-{number}"]
            outbox.add("mlcube", "POST", "/mlcubes/", {}, uploads=uploads)

    def let_go() -> None:
        outbox = Outbox(tmp_path / "outbox", keeping=keeping(tmp_path))
        for _ in range(EACH):
            outbox.keep_no_more()

    run_together(add_files, let_go, add_files)
    waiting = {one for entry in Outbox(tmp_path / "outbox").entries() for one in entry.uploads}
    assert len(waiting) == 2 * EACH and waiting == set(kept(tmp_path))


def test_what_entries_were_found_by_before_is_forgotten(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", about)
    entry = add(outbox, about=5)
    outbox.change(entry.uid, state=REJECTED)
    store = open_store(tmp_path / "outbox", durable=True)
    store["about/mlcube/mlcube:5/q1"], store["indexed"] = [], 0
    again = Outbox(tmp_path / "outbox", about)
    assert again.ahead(add(again, about=5)) == []
    assert [key for key, _ in store.with_prefix("about/")] == ["about/mlcube/mlcube:5/q2"]


def test_whatever_was_done_entries_are_found_by_what_they_are_now(tmp_path: Path) -> None:
    dice = random.Random(5)
    outbox = Outbox(tmp_path / "outbox", about)
    for _ in range(150):
        uids = list(states(outbox))
        chosen = dice.choice([*uids, None])
        refers = {"part": {REFERENCE: dice.choice(uids)}} if uids and dice.random() < 0.5 else {}
        body = {"about": dice.choice([5, 6, *uids[:2]]), **refers}
        if chosen is None or dice.random() < 0.4:
            add(outbox, **body)
        elif dice.random() < 0.2:
            outbox.drop(chosen)
        else:
            after, state = dice.sample(uids, 1), dice.choice([QUEUED, SENT, REJECTED, LOST])
            outbox.change(chosen, state=state, after=after, body=body, answer={"id": 7})
    store = open_store(tmp_path / "outbox", durable=True)

    def found_by() -> list[tuple[str, Any]]:
        return [row for way in ("needed/", "about/", "made/") for row in store.with_prefix(way)]

    before = found_by()
    store["indexed"] = 0
    add(Outbox(tmp_path / "outbox", about))
    assert before == found_by() and len(before) > 50
    changed = [uid for _, uid in store.with_prefix("changed/")]
    assert sorted(changed) == sorted(states(outbox))


@pytest.fixture
def values_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Tells how many values were read from stores since it was asked last."""
    read: list[int] = []
    fetch = JsonDisk.fetch

    def fetched(*args: Any) -> Any:
        read.append(1)
        return fetch(*args)

    def told() -> int:
        count = len(read)
        read.clear()
        return count

    monkeypatch.setattr(JsonDisk, "fetch", fetched)
    return told


def test_however_much_waits_as_little_is_read(
    outbox: Outbox, values_read: Callable[[], int]
) -> None:
    counts = []
    for _ in range(2):
        entry = add(outbox)
        ask(outbox, entry.uid)
        values_read()
        ask(outbox, entry.uid)
        outbox.change(entry.uid, reason="because")
        outbox.get(entry.uid)
        counts.append(values_read())
        for _ in range(30):
            add(outbox)
    assert counts[0] == counts[1]


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


def test_what_a_newer_version_stored_is_not_guessed_at(outbox: Outbox, tmp_path: Path) -> None:
    entry = add(outbox)
    store = open_store(tmp_path / "outbox", durable=True)
    key = f"entry/{entry.uid}"
    store[key] = {**store[key], "mood": "hopeful"}
    with pytest.raises(CacheError, match="q1 of the queue has mood: a newer medperf wrote it"):
        Outbox(tmp_path / "outbox").entries()
