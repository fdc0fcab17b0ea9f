"""The change log: everything that changed, in order, to whoever may see it, and no row missed."""

import sqlite3
import threading
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.api import Body, Member, NewMember, container_body, now, seen, since
from tests.support.registry import Registry


def test_it_tells_what_changed_oldest_first(
    model_owner: Member, admin: Member, model: Body
) -> None:
    start = now(model_owner)
    other = model_owner.container()["id"]
    model_owner.put(f"/mlcubes/{model['id']}/", {"is_valid": False})
    admin.delete(f"/mlcubes/{other}/")
    rows = since(model_owner, start)
    assert [(row["type"], row["id"], row["action"]) for row in rows] == [
        ("mlcube", other, "created"),
        ("mlcube", model["id"], "updated"),
        ("mlcube", other, "deleted"),
    ]
    assert [row["cursor"] for row in rows] == sorted(row["cursor"] for row in rows)
    assert rows[1]["entity"] == model_owner.get(f"/mlcubes/{model['id']}/").json()
    assert rows[0]["entity"] is None and rows[2]["entity"] is None


def test_a_change_that_changes_nothing_is_none(model_owner: Member, model: Body) -> None:
    start = now(model_owner)
    model_owner.put(f"/mlcubes/{model['id']}/", {"is_valid": model["is_valid"]})
    assert since(model_owner, start) == []


def test_it_comes_in_pages(model_owner: Member) -> None:
    start = now(model_owner)
    uids = [model_owner.container()["id"] for _ in range(5)]
    got: list[int] = []
    cursor, more = start, True
    while more:
        page = model_owner.get(f"/changes/?since={cursor}&limit=2").json()
        assert len(page["changes"]) <= 2
        got += [row["id"] for row in page["changes"]]
        cursor, more, log = page["next"], page["more"], page["log"]
    assert got == uids
    assert model_owner.get(f"/changes/?since={cursor}&log={log}").json() == {
        "changes": [],
        "next": cursor,
        "more": False,
        "log": log,
    }


def test_each_page_goes_on_from_the_digest_of_the_one_before(model_owner: Member) -> None:
    start = model_owner.get(f"/changes/?since={now(model_owner)}").json()
    for _ in range(3):
        model_owner.container()
    cursor, log, digests = start["next"], start["log"], [start["log"]]
    for _ in range(3):
        page = model_owner.get(f"/changes/?since={cursor}&log={log}&limit=1").json()
        cursor, log = page["next"], page["log"]
        digests.append(log)
    assert len(set(digests)) == 4 and not page["more"]


@pytest.mark.parametrize("claim", ["another digest", "beyond the end"])
def test_who_has_read_another_past_is_told_to_read_again(model_owner: Member, claim: str) -> None:
    model_owner.container()
    page = model_owner.get(f"/changes/?since={now(model_owner)}").json()
    cursor, log = page["next"], page["log"]
    if claim == "another digest":
        asked = f"since={cursor}&log={sha256(log.encode()).hexdigest()}"
    else:
        asked = f"since={cursor + 1}&log={log}"
    assert model_owner.get(f"/changes/?{asked}").json() == {"reset": True}
    assert "changes" in model_owner.get(f"/changes/?since={cursor}&log={log}").json()


def test_the_beginning_of_every_registry_is_its_own(tmp_path: Path) -> None:
    logs = set()
    for name in ("one", "other"):
        for registry in Registry.serving(tmp_path / name):
            member = Member(registry, "ada")
            logs.add(member.get("/changes/?limit=1").json()["log"])
            # A client that knows an empty log knows whose it was.
            with closing(sqlite3.connect(registry.folder / "registry.db")) as database:
                (genesis,) = database.execute("SELECT genesis FROM change_counter").fetchone()
            assert "changes" in member.get(f"/changes/?since=0&log={genesis}").json()
            assert member.get(f"/changes/?since=0&log={'0' * 64}").json() == {"reset": True}
    assert len(logs) == 2


def test_an_association_is_news_to_its_two_sides_and_admins(
    model_owner: Member,
    committee: Member,
    admin: Member,
    stranger: Member,
    requested: Body,
    pair: str,
) -> None:
    start = now(admin)
    committee.put(pair, {"approval_status": "APPROVED"})
    admin.delete(pair)
    news = [("association", requested["id"], action) for action in ("updated", "deleted")]
    for member in (model_owner, committee, admin):
        assert seen(member, start) == news
    assert seen(stranger, start) == []
    assert stranger.get(f"/changes/?since={start}").json()["next"] == now(admin)


def test_it_is_news_too_when_its_benchmark_goes(
    model_owner: Member, admin: Member, requested: Body
) -> None:
    start = now(admin)
    admin.delete(f"/benchmarks/{requested['benchmark']}/")
    assert set(seen(model_owner, start)) == {
        ("association", requested["id"], "deleted"),
        ("benchmark", requested["benchmark"], "deleted"),
    }


def test_a_member_is_news_to_themselves_and_admins(
    admin: Member, stranger: Member, model_owner: Member
) -> None:
    start = now(admin)
    admin.put(f"/users/{stranger.uid}/", {"first_name": "Ada"})
    for member in (admin, stranger):
        assert seen(member, start) == [("user", stranger.uid, "updated")]
    assert seen(model_owner, start) == []


def test_a_refused_write_is_no_change(model_owner: Member, model: Body) -> None:
    start = now(model_owner)
    model_owner.post("/mlcubes/", container_body(name=model["name"]))
    model_owner.put(f"/mlcubes/{model['id']}/", {"name": "frozen"})
    assert since(model_owner, start) == []


def test_a_reader_misses_nothing_that_concurrent_writers_do(
    served: Registry, join: NewMember, model_owner: Member
) -> None:
    writers, each = [join("writer") for _ in range(6)], 12
    cursor = now(model_owner)
    done = threading.Event()
    got: list[int] = []

    def read() -> None:
        nonlocal cursor
        finished = False
        while not finished:
            finished = done.is_set()
            page = model_owner.get(f"/changes/?since={cursor}&limit=1000").json()
            got.extend(row["id"] for row in page["changes"] if row["type"] == "mlcube")
            cursor = page["next"]

    reader = threading.Thread(target=read)
    made: list[int] = []
    threads = [
        threading.Thread(
            target=lambda w=writer: made.extend(w.container()["id"] for _ in range(each))
        )
        for writer in writers
    ]
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert len(made) == len(writers) * each
    assert sorted(got) == sorted(made)


def test_a_cursor_is_not_passed_while_its_writer_is_still_to_commit(
    served: Registry, model_owner: Member, stranger: Member
) -> None:
    """A slow writer holds cursor N; a fast one must not show N + 1 to readers before N is there."""
    from medperf_server.models import db

    start = now(model_owner)
    with served.app.app_context():
        db.session.execute(text("UPDATE change_counter SET value = value + 1"))
        fast = threading.Thread(target=stranger.container)
        fast.start()
        while fast.is_alive() and not _waits(served):
            time.sleep(0.01)
        page = model_owner.get(f"/changes/?since={start}").json()
        assert (page["changes"], page["next"]) == ([], start)
        db.session.execute(
            text(
                "INSERT INTO changes (cursor, entity_type, entity_id, action, created_at)"
                " SELECT value, 'mlcube', :nobodys, 'deleted', :now FROM change_counter"
            ),
            # One that may be: clients of other tests read this log too.
            {"now": "2026-01-01 00:00:00.000000", "nobodys": 2**31 - 1},
        )
        db.session.commit()
    fast.join()
    assert [row["cursor"] for row in since(model_owner, start)] == [start + 1, start + 2]


def _waits(served: Registry) -> bool:
    """Whether a writer is known to wait for a lock; SQLite cannot tell, and need not."""
    if served.database_url.startswith("sqlite"):
        return True
    from medperf_server.models import db

    with db.engine.connect() as connection:
        locks = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(connection.execute(text(locks)).scalar())
