"""What makes a benchmark acceptable, what of it may change, and who approves it."""

import hashlib
import json

import pytest

from tests.support.api import Body, Member, benchmark_body
from tests.support.registry import Registry

CONTAINERS = ["data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube"]
EDITABLE_IN_OPERATION = {
    "is_valid": False,
    "is_active": False,
    "user_metadata": {"note": "closed"},
    "demo_dataset_tarball_url": "https://mirror.example.org/demo.tar.gz",
}
FROZEN_IN_OPERATION = {
    "name": "another name",
    "description": "another",
    "docs_url": "https://other.example.org",
    "demo_dataset_tarball_hash": "other",
    "demo_dataset_generated_uid": "other",
    "metadata": {"a": 1},
    "state": "DEVELOPMENT",
}
TRANSITIONS = [
    ("PENDING", "APPROVED", 200),
    ("PENDING", "REJECTED", 200),
    ("APPROVED", "REJECTED", 200),
    ("APPROVED", "PENDING", 400),
    ("REJECTED", "PENDING", 400),
    ("REJECTED", "APPROVED", 400),
]


def test_a_new_benchmark_is_pending_whatever_is_asked(committee: Member) -> None:
    entity = committee.benchmark(approval_status="APPROVED", owner=999)
    assert entity["approval_status"] == "PENDING" and entity["approved_at"] is None
    assert entity["owner"] == committee.uid
    assert committee.get(f"/benchmarks/{entity['id']}/").json() == entity


def test_a_member_owns_one_pending_benchmark_at_most(committee: Member, admin: Member) -> None:
    first = committee.benchmark()
    answer = committee.post("/benchmarks/", benchmark_body(committee))
    assert answer.status_code == 400
    assert str(first["id"]) in answer.json()["non_field_errors"][0]
    admin.put(f"/benchmarks/{first['id']}/", {"approval_status": "REJECTED"})
    assert committee.benchmark()["approval_status"] == "PENDING"


def test_a_name_is_taken_once(committee: Member, stranger: Member) -> None:
    name = committee.benchmark()["name"]
    answer = stranger.post("/benchmarks/", benchmark_body(stranger, name=name))
    assert answer.status_code == 400
    assert name in answer.json()["name"][0]


@pytest.mark.parametrize("role", CONTAINERS)
def test_every_container_of_it_exists(committee: Member, role: str) -> None:
    answer = committee.post("/benchmarks/", benchmark_body(committee, **{role: 2_000_000_000}))
    assert answer.status_code == 400
    assert "2000000000" in answer.json()[role][0]


@pytest.mark.parametrize("role", CONTAINERS)
def test_operation_needs_every_container_in_operation(committee: Member, role: str) -> None:
    draft = committee.container(state="DEVELOPMENT")["id"]
    answer = committee.post("/benchmarks/", benchmark_body(committee, **{role: draft}))
    assert answer.status_code == 400
    assert "OPERATION" in answer.json()[role][0]
    entity = committee.benchmark(**{role: draft}, state="DEVELOPMENT")
    path = f"/benchmarks/{entity['id']}/"
    assert role in committee.put(path, {"state": "OPERATION"}).json()
    committee.put(f"/mlcubes/{draft}/", {"state": "OPERATION"})
    assert committee.put(path, {"state": "OPERATION"}).json()["state"] == "OPERATION"


@pytest.mark.parametrize("field", EDITABLE_IN_OPERATION)
def test_in_operation_these_may_change(committee: Member, field: str) -> None:
    uid = committee.benchmark()["id"]
    value = EDITABLE_IN_OPERATION[field]
    answer = committee.put(f"/benchmarks/{uid}/", {field: value})
    assert answer.status_code == 200, answer.text
    assert answer.json()[field] == value


@pytest.mark.parametrize("field", FROZEN_IN_OPERATION)
def test_in_operation_nothing_else_may_change(committee: Member, field: str) -> None:
    entity = committee.benchmark()
    path = f"/benchmarks/{entity['id']}/"
    answer = committee.put(path, {field: FROZEN_IN_OPERATION[field]})
    assert answer.status_code == 400
    assert "OPERATION" in answer.json()[field][0]
    assert committee.get(path).json() == entity


def test_in_operation_its_containers_stay(committee: Member) -> None:
    entity = committee.benchmark()
    other = committee.container()["id"]
    for role in CONTAINERS:
        assert role in committee.put(f"/benchmarks/{entity['id']}/", {role: other}).json()


def test_in_development_everything_may_change(committee: Member) -> None:
    entity = committee.benchmark(state="DEVELOPMENT")
    changes = benchmark_body(committee, metadata={"a": 1}, user_metadata={"b": [2]})
    answer = committee.put(f"/benchmarks/{entity['id']}/", changes)
    assert answer.status_code == 200, answer.text
    assert {field: answer.json()[field] for field in changes} == changes


@pytest.mark.parametrize(("before", "after", "status"), TRANSITIONS)
def test_an_admin_decides(
    committee: Member, admin: Member, before: str, after: str, status: int
) -> None:
    path = f"/benchmarks/{committee.benchmark()['id']}/"
    if before != "PENDING":
        assert admin.put(path, {"approval_status": before}).status_code == 200
    answer = admin.put(path, {"approval_status": after})
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["approval_status"] == after
        assert answer.json()["approved_at"] is not None
    else:
        assert "approval_status" in answer.json()
        assert admin.get(path).json()["approval_status"] == before


def test_what_may_still_change_is_not_approved(committee: Member, admin: Member) -> None:
    path = f"/benchmarks/{committee.benchmark(state='DEVELOPMENT')['id']}/"
    refused = admin.put(path, {"approval_status": "APPROVED"})
    assert refused.status_code == 400 and "DEVELOPMENT" in refused.json()["approval_status"][0]
    both = admin.put(path, {"approval_status": "APPROVED", "state": "OPERATION"})
    assert both.status_code == 200 and both.json()["approval_status"] == "APPROVED"


def test_a_benchmark_in_development_can_be_rejected(committee: Member, admin: Member) -> None:
    path = f"/benchmarks/{committee.benchmark(state='DEVELOPMENT')['id']}/"
    assert admin.put(path, {"approval_status": "REJECTED"}).status_code == 200


@pytest.fixture
def of_old(served: Registry, committee: Member) -> Body:
    """A benchmark that an older registry approved in DEVELOPMENT."""
    from medperf_server.base import db
    from medperf_server.kinds.benchmark.table import Benchmark

    made = committee.benchmark(state="DEVELOPMENT")
    with served.app.app_context():
        db.session.get_one(Benchmark, made["id"]).approval_status = "APPROVED"
        db.session.commit()
    return made


@pytest.mark.parametrize("field", sorted(FROZEN_IN_OPERATION.keys() - {"state"}))
def test_what_is_approved_stays_as_it_is_in_development_too(
    committee: Member, of_old: Body, field: str
) -> None:
    path = f"/benchmarks/{of_old['id']}/"
    answer = committee.put(path, {field: FROZEN_IN_OPERATION[field]})
    assert answer.status_code == 400 and "APPROVED" in answer.json()[field][0]
    evaluator = {"data_evaluator_mlcube": committee.container()["id"]}
    assert committee.put(path, {**evaluator, "state": "OPERATION"}).status_code == 400
    step = {**EDITABLE_IN_OPERATION, "state": "OPERATION"}
    assert committee.put(path, step).status_code == 200


def test_an_approval_says_what_it_is_of(committee: Member, admin: Member) -> None:
    metadata = {"b": [1.5, "µ"], "a": None}
    made = committee.benchmark(metadata=metadata)
    assert made["approved_digest"] == ""
    path = f"/benchmarks/{made['id']}/"
    approved = admin.put(path, {"approval_status": "APPROVED", "seen": content_of(committee, made)})
    assert approved.status_code == 200, approved.text
    assert approved.json()["approved_digest"] == content_of(committee, made)
    entry = admin.get(f"/audit/?entity_type=benchmark&entity_id={made['id']}").json()["results"][0]
    assert entry["after"]["approved_digest"] == content_of(committee, made)


def content_of(member: Member, benchmark: Body) -> str:
    """The digest of a benchmark's content as a client computes it from what it reads."""
    fields = ("name", "description", "docs_url", "demo_dataset_tarball_hash", "metadata")
    content = {field: benchmark[field] for field in (*fields, "demo_dataset_generated_uid")}
    hashes = ("mlcube", "parameters", "image", "image_tarball", "additional_files_tarball")
    for role in CONTAINERS:
        container = member.get(f"/mlcubes/{benchmark[role]}/").json()
        content[role] = {f"{name}_hash": container[f"{name}_hash"] for name in hashes}
        content[role]["id"] = container["id"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"description": "another"},
        {"demo_dataset_tarball_hash": "easier"},
        {"metadata": {"test_result": {"auroc": 0.5}}},
        {"data_evaluator_mlcube": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_benchmark_that_changed_since_it_was_seen_is_not_decided(
    committee: Member, admin: Member, change: Body
) -> None:
    made = committee.benchmark(state="DEVELOPMENT")
    path = f"/benchmarks/{made['id']}/"
    if "data_evaluator_mlcube" in change:
        change = {"data_evaluator_mlcube": committee.container()["id"]}
    assert committee.put(path, {**change, "state": "OPERATION"}).status_code == 200
    for decision in ("APPROVED", "REJECTED"):
        given = {"approval_status": decision, "seen": content_of(committee, made)}
        answer = admin.put(path, given)
        assert answer.status_code == 400 and "changed since" in answer.json()["seen"][0]
    now = content_of(committee, committee.get(path).json())
    assert admin.put(path, {"approval_status": "APPROVED", "seen": now}).status_code == 200


@pytest.mark.parametrize("seen", ["", "0" * 63, "G" * 64, None, 1])
def test_what_was_seen_is_a_digest(admin: Member, committee: Member, seen: object) -> None:
    path = f"/benchmarks/{committee.benchmark()['id']}/"
    answer = admin.put(path, {"approval_status": "APPROVED", "seen": seen})
    assert answer.status_code == 400 and list(answer.json()) == ["seen"]


def test_nobody_else_decides(committee: Member) -> None:
    path = f"/benchmarks/{committee.benchmark()['id']}/"
    assert committee.put(path, {"approval_status": "APPROVED"}).status_code == 403
    assert committee.get(path).json()["approval_status"] == "PENDING"


def test_a_whole_entity_may_be_sent_back(committee: Member, approved: Body) -> None:
    path = f"/benchmarks/{approved['id']}/"
    answer = committee.put(path, {**approved, "is_active": False})
    assert answer.status_code == 200, answer.text
    assert answer.json()["is_active"] is False
    assert answer.json()["approved_at"] == approved["approved_at"]


def test_its_list_of_models_shows_three_fields(
    committee: Member, approved: Body, requested: Body
) -> None:
    page = committee.get(f"/benchmarks/{approved['id']}/models/").json()
    assert page["count"] == 1
    assert page["results"] == [
        {field: requested[field] for field in ("model_mlcube", "approval_status", "created_at")}
    ]


def test_a_deleted_benchmark_takes_its_associations_along(
    admin: Member, model_owner: Member, approved: Body, requested: Body
) -> None:
    assert admin.delete(f"/benchmarks/{approved['id']}/").status_code == 204
    assert admin.get(f"/benchmarks/{approved['id']}/").status_code == 404
    assert model_owner.get("/me/mlcubes/associations/").json()["count"] == 0
