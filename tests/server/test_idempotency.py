"""Exactly once: the same key and body, whenever and however often, make one entity."""

import contextlib
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests

from tests.support.api import (
    Body,
    Member,
    benchmark_body,
    container_body,
    dataset_body,
    now,
    since,
    together,
)
from tests.support.registry import Registry


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def test_a_repeated_post_answers_the_same(model_owner: Member, key: str) -> None:
    body = container_body()
    first = model_owner.post("/mlcubes/", body, key)
    assert first.status_code == 201 and "Idempotent-Replayed" not in first.headers
    for _ in range(2):
        again = model_owner.post("/mlcubes/", body, key)
        assert again.status_code == 201
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first.json()
    assert model_owner.get("/me/mlcubes/").json()["count"] == 1


def test_a_repeated_put_is_done_once(
    committee: Member, requested: Body, pair: str, key: str
) -> None:
    decision = {"approval_status": "APPROVED"}
    first = committee.put(pair, decision, key)
    again = committee.put(pair, decision, key)
    assert again.status_code == 200 and again.json() == first.json()
    assert committee.put(pair, decision).status_code == 400


@pytest.mark.parametrize("difference", ["body", "path", "method"])
def test_a_key_with_another_request_is_refused(
    model_owner: Member, key: str, difference: str
) -> None:
    body = container_body(state="DEVELOPMENT")
    uid = model_owner.post("/mlcubes/", body, key).json()["id"]
    method = "PUT" if difference == "method" else "POST"
    path = "/benchmarks/" if difference == "path" else f"/mlcubes/{uid if method == 'PUT' else ''}"
    other = container_body() if difference == "body" else body
    answer = model_owner.ask(method, path, json=other, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert "another request" in answer.json()["detail"]
    assert model_owner.get("/me/mlcubes/").json()["count"] == 1


def test_a_key_belongs_to_its_caller(model_owner: Member, stranger: Member, key: str) -> None:
    mine = model_owner.post("/mlcubes/", container_body(), key)
    theirs = stranger.post("/mlcubes/", container_body(), key)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert theirs.json()["owner"] == stranger.uid


def test_a_refused_request_may_be_mended_under_its_key(model_owner: Member, key: str) -> None:
    taken = model_owner.container()["name"]
    assert model_owner.post("/mlcubes/", container_body(name=taken), key).status_code == 400
    assert model_owner.post("/mlcubes/", container_body(), key).status_code == 201


def test_at_once_they_make_one_container(model_owner: Member, key: str) -> None:
    body = container_body()
    answers = together(8, lambda _: model_owner.post("/mlcubes/", body, key))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 7
    assert model_owner.get("/me/mlcubes/").json()["count"] == 1


def test_at_once_they_make_one_association(
    model_owner: Member, request_body: Body, pair: str, key: str
) -> None:
    answers = together(8, lambda _: model_owner.post("/mlcubes/benchmarks/", request_body, key))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len(model_owner.get(pair).json()) == 1


def test_at_once_without_keys_one_association_is_made(
    model_owner: Member, request_body: Body, pair: str
) -> None:
    answers = together(8, lambda _: model_owner.post("/mlcubes/benchmarks/", request_body))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 7
    assert len(model_owner.get(pair).json()) == 1


def test_at_once_one_benchmark_is_pending(committee: Member) -> None:
    bodies = [benchmark_body(committee) for _ in range(6)]
    answers = together(6, lambda number: committee.post("/benchmarks/", bodies[number]))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 5


def test_at_once_the_same_data_are_in_operation_once(data_owner: Member, draft: Body) -> None:
    body = dataset_body(draft["data_preparation_mlcube"])
    twins = [data_owner.post("/datasets/", body).json()["id"] for _ in range(8)]
    state = {"state": "OPERATION"}
    answers = together(8, lambda number: data_owner.put(f"/datasets/{twins[number]}/", state))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    for refused in (answer for answer in answers if answer.status_code == 400):
        assert set(refused.json()) == {"non_field_errors"}


def test_at_once_without_keys_one_dataset_asks_once(
    data_owner: Member, joining: Body, data_pair: str
) -> None:
    answers = together(8, lambda _: data_owner.post("/datasets/benchmarks/", joining))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 7
    assert len(data_owner.get(data_pair).json()) == 1


def test_at_once_with_a_key_one_result_is_sent(
    data_owner: Member, result_body: Body, key: str
) -> None:
    answers = together(8, lambda _: data_owner.post("/results/", result_body, key))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert data_owner.get("/me/results/").json()["count"] == 1


def test_at_once_an_association_is_decided_once(
    committee: Member, admin: Member, requested: Body, pair: str
) -> None:
    def decide(number: int) -> requests.Response:
        member, status = ((committee, "APPROVED"), (admin, "REJECTED"))[number % 2]
        return member.put(pair, {"approval_status": status})

    answers = together(6, decide)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 5
    decided = next(answer for answer in answers if answer.ok)
    assert committee.get(pair).json() == [decided.json()]


def test_a_repeat_adds_no_change(model_owner: Member, key: str) -> None:
    body, cursor = container_body(), now(model_owner)
    uid = model_owner.post("/mlcubes/", body, key).json()["id"]
    model_owner.post("/mlcubes/", body, key)
    changes = since(model_owner, cursor)
    assert sum(row["type"] == "mlcube" and row["id"] == uid for row in changes) == 1


def test_of_progress_only_the_newest_key_is_remembered(
    served: Registry, data_owner: Member, draft: Body
) -> None:
    from medperf_server.base import db
    from medperf_server.models import IdempotencyKey

    path, keys = f"/datasets/{draft['id']}/", [str(uuid.uuid4()) for _ in range(5)]
    data_owner.put(path, {"location": "Milan"}, keys[0])
    bodies = [{"report": {"progress": {"Stage 1": f"{share}%"}}} for share in range(4)]
    for body, key in zip(bodies, keys[1:], strict=True):
        assert data_owner.put(path, body, key).status_code == 200
    with served.app.app_context():
        kept = db.session.query(IdempotencyKey).filter_by(user_id=data_owner.uid)
        assert {row.key for row in kept} == {keys[0], keys[-1]}
    again = data_owner.put(path, bodies[-1], keys[-1])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["report"] == bodies[-1]["report"]


@pytest.mark.parametrize(("age", "kept"), [(29, True), (31, False)])
def test_keys_last_thirty_days_that_the_registry_has_seen(
    served: Registry, model_owner: Member, key: str, age: int, kept: bool
) -> None:
    from sqlalchemy import update

    from medperf_server.base import db
    from medperf_server.models import Calendar, IdempotencyKey

    body = container_body(state="DEVELOPMENT")
    uid = model_owner.post("/mlcubes/", body, key).json()["id"]
    with served.app.app_context():
        mine = update(IdempotencyKey).where(IdempotencyKey.key == key)
        db.session.execute(mine.values(day=IdempotencyKey.day - age + 1))
        db.session.execute(update(Calendar).values(date=Calendar.date - 1))
        db.session.commit()
    # The first keyed write of a day forgets what is too old.
    model_owner.put(f"/mlcubes/{uid}/", {"is_valid": True}, str(uuid.uuid4()))
    again = model_owner.post("/mlcubes/", body, key)
    assert again.status_code == (201 if kept else 400)


def test_the_first_write_of_a_day_keeps_its_key(
    served: Registry, model_owner: Member, key: str
) -> None:
    from sqlalchemy import select, update

    from medperf_server.base import db
    from medperf_server.models import Calendar

    with served.app.app_context():
        known = db.session.scalar(select(Calendar.number))
        late = {"date": Calendar.date - 1, "number": known + 100}
        db.session.execute(update(Calendar).values(late))
        db.session.commit()
    body = container_body()
    assert model_owner.post("/mlcubes/", body, key).status_code == 201
    again = model_owner.post("/mlcubes/", body, key)
    assert again.status_code == 201 and again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("days", [31, 400, -31], ids=["a month", "a year", "back by a month"])
def test_a_clock_that_jumps_forgets_no_key(
    served: Registry, model_owner: Member, key: str, days: int
) -> None:
    from sqlalchemy import select, update

    from medperf_server.base import db, utc_now
    from medperf_server.models import Calendar, IdempotencyKey

    body = container_body(state="DEVELOPMENT")
    uid = model_owner.post("/mlcubes/", body, key).json()["id"]
    with served.app.app_context():
        before = db.session.scalar(select(Calendar.number))
        # The same as a clock that jumps by so many days.
        db.session.execute(update(Calendar).values(date=Calendar.date - days))
        then = utc_now() - timedelta(days=days)
        db.session.execute(update(IdempotencyKey).values(created_at=then))
        db.session.commit()
    for _ in range(2):
        model_owner.put(f"/mlcubes/{uid}/", {"is_valid": True}, str(uuid.uuid4()))
    assert model_owner.post("/mlcubes/", body, key).status_code == 201
    with served.app.app_context():
        after = db.session.scalar(select(Calendar.number))
        db.session.execute(update(Calendar).values(date=utc_now().toordinal()))
        db.session.commit()
    assert after == before + (1 if days > 0 else 0)


@pytest.mark.parametrize("wrong", ["k" * 129, "tab\there"])
def test_a_key_has_a_form(model_owner: Member, wrong: str) -> None:
    answer = model_owner.post("/mlcubes/", container_body(), wrong)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.text


def test_killed_at_any_moment_a_write_is_whole(registry: Registry) -> None:
    member = Member(registry, "ada")
    sent: dict[str, dict[str, Any]] = {}
    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            for _ in range(12):
                sent[str(uuid.uuid4())] = container_body()
            keys = list(sent)[-12:]
            jobs = [pool.submit(_post, member, sent[key], key) for key in keys]
            jobs[2].result()
            registry.stop(with_signal=signal.SIGKILL)
        registry.start()
    for key, body in sent.items():
        assert member.post("/mlcubes/", body, key).status_code == 201
    listed = member.get("/me/mlcubes/?limit=1000").json()
    assert listed["count"] == len(sent)
    rows = member.get("/changes/?limit=1000").json()["changes"]
    logged = [row["id"] for row in rows if row["type"] == "mlcube"]
    assert sorted(logged) == sorted(entity["id"] for entity in listed["results"])


def _post(member: Member, body: Body, key: str) -> None:
    """Send, and do not care whether an answer comes back."""
    headers = {"Idempotency-Key": key, "Authorization": member.session.headers["Authorization"]}
    url = f"{member.registry.url}/api/v0/mlcubes/"
    with contextlib.suppress(requests.ConnectionError):
        requests.post(url, json=body, headers=headers, timeout=60)
