"""However large what members wrote, an answer is of bounded size, and so is the server's memory."""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from medperf_server.base import db
from medperf_server.config import MAX_JSON_BYTES, MAX_PAGE_BYTES
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.container.table import Container
from medperf_server.models import AuditEntry
from tests.server.visitor import signed_in
from tests.support.api import Body, Member, benchmark_body, container_body, created
from tests.support.registry import Registry

# As large as an entity could be before there was a bound.
LARGE = {"test_result": {"auroc": 0.5}, "notes": "x" * 1_900_000}
MANY = 30
AT_ONCE = 3
MOST_MEMORY = 300 << 20
# One such row, whatever a page may hold, and what surrounds the JSON.
LARGEST_PAGE = MAX_PAGE_BYTES + len(json.dumps(LARGE))


class Executed(Registry):
    """A registry whose memory is its own: a fork also counts what its parent has imported."""

    popen = subprocess.Popen


class Large:
    """A registry with thirty containers, requests and audit entries of before there was a bound."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.admin = Member(registry, "admin", admin=True)
        self.benchmark = created(self.admin.post("/benchmarks/", benchmark_body(self.admin)))["id"]
        self.admin.put(f"/benchmarks/{self.benchmark}/", {"approval_status": "APPROVED"})
        self.containers: list[int] = []
        with registry.app.app_context():
            for number in range(MANY):
                self._add(number)
            db.session.commit()

    def _add(self, number: int) -> None:
        """A container and its approved request, logged as they would be if they were small."""
        container = Container(**container_body(), owner=self.admin.uid)
        db.session.add(container)
        db.session.flush()
        pair = {"model_mlcube": container.id, "benchmark": self.benchmark}
        # Several requests of one model, too.
        pair["model_mlcube"] = self.containers[0] if number > MANY // 2 else container.id
        request = Association(**pair, initiated_by=self.admin.uid, approval_status="APPROVED")
        db.session.add(request)
        db.session.flush()
        # Behind the log's back.
        for model, row in ((Container, container), (Association, request)):
            table = model.__table__
            changed = table.update().where(table.c.id == row.id).values(metadata=LARGE)
            db.session.execute(changed)
        entry = {"actor": "ada", "action": "updated", "entity_type": "mlcube", "after": LARGE}
        db.session.execute(insert(AuditEntry).values(**entry, entity_id=f"of-old-{container.id}"))
        self.containers.append(container.id)

    def peak_memory(self) -> int:
        """The most memory that the server has had, in bytes."""
        (line,) = (
            line
            for line in Path(f"/proc/{self.registry.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        return int(line.split()[1]) << 10


@pytest.fixture(scope="module")
def large(database_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    """A registry on each engine, with large rows."""
    for registry in Executed.serving(tmp_path_factory.mktemp("large"), database_url):
        yield Large(registry)


def listed(member: Member, path: str) -> list[Any]:
    """Every row of a list, page by page as MedPerf's client asks; no page may be too large."""
    found: list[Any] = []
    while True:
        answer = member.get(f"{path}?limit=1000&offset={len(found)}")
        assert answer.status_code == 200 and len(answer.content) < LARGEST_PAGE, answer.text[:500]
        page = answer.json()
        found += page["results"]
        if page["next"] is None:
            return found
        assert page["results"] and f"offset={len(found)}" in page["next"]


def changed(member: Member) -> list[Any]:
    """Every change, page by page as our client asks; no page may be too large."""
    found: list[Any] = []
    since, log, more = 0, "", True
    while more:
        answer = member.get(f"/changes/?since={since}&limit=1000{log}")
        assert answer.status_code == 200 and len(answer.content) < LARGEST_PAGE, answer.text[:500]
        page = answer.json()
        found += page["changes"]
        since, log, more = page["next"], f"&log={page['log']}", page["more"]
    return found


def check_everything(large: Large) -> None:
    """Page through all that there is: everything arrives once."""
    member = Member(large.registry, "admin", admin=True)
    member.session.headers.update(large.admin.session.headers)
    cursors = [one["cursor"] for one in changed(member)]
    assert cursors == list(range(1, len(cursors) + 1)) and len(cursors) > 2 * MANY
    for path, least in (("/mlcubes/", MANY + 1), ("/me/mlcubes/associations/", MANY)):
        rows = listed(member, path)
        uids = [row["id"] for row in rows]
        assert uids == sorted(set(uids)) and len(uids) >= least
        assert sum(row["metadata"] == LARGE for row in rows) == MANY
    entries = [entry["id"] for entry in listed(member, "/audit/")]
    assert entries == sorted(set(entries), reverse=True) and len(entries) > 3 * MANY


def test_three_at_once_read_everything_and_the_server_stays_small(large: Large) -> None:
    failures: list[BaseException] = []

    def read() -> None:
        try:
            check_everything(large)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(AT_ONCE)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert failures == []
    assert large.peak_memory() < MOST_MEMORY


def test_pages_do_not_load_the_json_that_they_do_not_show(large: Large) -> None:
    visitor = signed_in(large.admin)
    request = large.admin.get("/me/mlcubes/associations/?limit=1").json()["results"][0]["id"]
    for path in (
        "/",
        "/containers/",
        "/associations/",
        f"/containers/{large.containers[0]}",
        f"/benchmarks/{large.benchmark}",
        f"/benchmarks/{large.benchmark}/leaderboard",
        f"/associations/{request}",
    ):
        page = visitor.opens(path)
        assert page.status_code == 200 and len(page.content) < 1 << 20, path
    assert large.peak_memory() < MOST_MEMORY


def test_the_leaderboard_has_every_model_however_large_the_tests(large: Large) -> None:
    page = signed_in(large.admin).opens(f"/benchmarks/{large.benchmark}/leaderboard").text
    assert page.count("0.5000") + page.count(">0.5<") >= MANY // 2
    assert "auroc" in page


def test_of_many_large_requests_of_a_pair_the_newest_come(large: Large) -> None:
    path = f"/mlcubes/{large.containers[0]}/benchmarks/{large.benchmark}/"
    answer = large.admin.get(path)
    uids = [one["id"] for one in answer.json()]
    everything = listed(large.admin, "/me/mlcubes/associations/")
    of_the_pair = [one["id"] for one in everything if one["model_mlcube"] == large.containers[0]]
    assert len(answer.content) < LARGEST_PAGE
    assert uids and uids == of_the_pair[-len(uids) :]


def test_a_committees_list_of_models_is_whole(large: Large) -> None:
    page = large.admin.get(f"/benchmarks/{large.benchmark}/models/?limit=1000").json()
    assert (len(page["results"]), page["next"]) == (MANY, None)
    assert set(page["results"][0]) == {"model_mlcube", "approval_status", "created_at"}


def test_what_was_larger_before_there_was_a_bound_is_named(large: Large) -> None:
    shown = large.registry.command("check")
    (line,) = (line for line in shown.splitlines() if f"more than {MAX_JSON_BYTES} bytes" in line)
    assert line.startswith("ok ") and f": {2 * MANY} (" in line
    assert f"container {large.containers[0]}" in line and line.endswith(", ...)")


def test_a_large_container_can_still_be_changed_and_deleted(large: Large) -> None:
    # The last one, so that nothing else counts it.
    made = large.admin.container()["id"]
    with large.registry.app.app_context():
        table = Container.__table__
        db.session.execute(table.update().where(table.c.id == made).values(metadata=LARGE))
        db.session.commit()
    path = f"/mlcubes/{made}/"
    answer = large.admin.put(path, {"user_metadata": {"checked": True}})
    assert answer.status_code == 200 and answer.json()["metadata"] == LARGE
    assert large.admin.delete(path).status_code == 204


def test_a_pair_with_many_large_requests_is_removed_bit_by_bit(large: Large) -> None:
    path = f"/mlcubes/{large.containers[0]}/benchmarks/{large.benchmark}/"
    assert large.admin.delete(path).status_code == 204
    assert large.admin.get(path).json() == []
    assert large.peak_memory() < MOST_MEMORY


def json_of(size: int) -> Body:
    """An object of so many bytes as compact JSON."""
    return {"a": "x" * (size - len('{"a":""}'))}


@pytest.mark.parametrize("field", ["metadata", "user_metadata"])
def test_an_entity_holds_so_much_json_and_no_more(model_owner: Member, field: str) -> None:
    most = created(
        model_owner.post("/mlcubes/", container_body(**{field: json_of(MAX_JSON_BYTES)}))
    )
    assert most[field] == json_of(MAX_JSON_BYTES)
    larger = {field: json_of(MAX_JSON_BYTES + 1)}
    for answer in (
        model_owner.post("/mlcubes/", container_body(**larger)),
        model_owner.put(f"/mlcubes/{most['id']}/", larger),
        model_owner.post("/benchmarks/", benchmark_body(model_owner, **larger)),
    ):
        assert answer.status_code == 400
        (told,) = answer.json()[field]
        assert str(MAX_JSON_BYTES + 1) in told and str(MAX_JSON_BYTES) in told


def test_a_request_holds_so_much_json_and_no_more(model_owner: Member, request_body: Body) -> None:
    body = {**request_body, "metadata": json_of(MAX_JSON_BYTES + 1)}
    answer = model_owner.post("/mlcubes/benchmarks/", body)
    assert answer.status_code == 400 and list(answer.json()) == ["metadata"]


def test_json_that_indents_to_a_hundred_times_its_size_is_cut_off(model_owner: Member) -> None:
    deep: Any = [0] * 100_000
    for _ in range(200):
        deep = [deep]
    made = model_owner.container(metadata={"deep": deep})
    page = signed_in(model_owner).opens(f"/containers/{made['id']}")
    assert page.status_code == 200 and len(page.content) < 1 << 20
