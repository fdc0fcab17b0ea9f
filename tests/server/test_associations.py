"""How a model asks to join a benchmark, and who decides."""

import pytest

from tests.server.visitor import signed_in
from tests.support.api import Body, Member, created
from tests.support.registry import Registry

PATH = "/mlcubes/benchmarks/"


def test_a_request_carries_its_test_result(model_owner: Member, requested: Body) -> None:
    assert requested["approval_status"] == "PENDING" and requested["approved_at"] is None
    assert requested["initiated_by"] == model_owner.uid
    assert requested["metadata"] == {"test_result": {"auroc": 0.97}}
    assert requested["priority"] == 0


@pytest.mark.parametrize("status", ["PENDING", "REJECTED"])
def test_a_request_needs_an_approved_benchmark(
    committee: Member, model_owner: Member, admin: Member, model: Body, status: str
) -> None:
    uid = committee.benchmark()["id"]
    admin.put(f"/benchmarks/{uid}/", {"approval_status": status})
    answer = model_owner.post(PATH, {"model_mlcube": model["id"], "benchmark": uid})
    assert answer.status_code == 400
    assert status in answer.json()["benchmark"][0]


def test_a_request_needs_a_benchmark_in_operation(
    served: Registry, model_owner: Member, model: Body, approved: Body
) -> None:
    from medperf_server.base import db
    from medperf_server.kinds.benchmark.table import Benchmark

    with served.app.app_context():
        # As older registries approved them.
        db.session.get_one(Benchmark, approved["id"]).state = "DEVELOPMENT"
        db.session.commit()
    answer = model_owner.post(PATH, {"model_mlcube": model["id"], "benchmark": approved["id"]})
    assert answer.status_code == 400 and "OPERATION" in answer.json()["benchmark"][0]


def test_a_request_needs_a_container_in_operation(model_owner: Member, approved: Body) -> None:
    draft = model_owner.container(state="DEVELOPMENT")["id"]
    answer = model_owner.post(PATH, {"model_mlcube": draft, "benchmark": approved["id"]})
    assert answer.status_code == 400
    assert "OPERATION" in answer.json()["model_mlcube"][0]


@pytest.mark.parametrize("field", ["model_mlcube", "benchmark"])
def test_a_request_names_what_exists(admin: Member, request_body: Body, field: str) -> None:
    answer = admin.post(PATH, {**request_body, field: 2_000_000_000})
    assert answer.status_code == 400
    assert "2000000000" in answer.json()[field][0]


@pytest.mark.parametrize("status", ["APPROVED", "REJECTED"])
def test_the_first_of_a_pair_is_pending(
    model_owner: Member, request_body: Body, status: str
) -> None:
    answer = model_owner.post(PATH, {**request_body, "approval_status": status})
    assert answer.status_code == 400
    assert "approval_status" in answer.json()


def test_one_request_at_a_time(model_owner: Member, requested: Body, request_body: Body) -> None:
    for status in ("PENDING", "APPROVED", "REJECTED"):
        again = model_owner.post(PATH, {**request_body, "approval_status": status})
        assert again.status_code == 400, status


def test_after_a_rejected_one_a_new_one_may_be_asked_for(
    model_owner: Member, committee: Member, requested: Body, request_body: Body, pair: str
) -> None:
    committee.put(pair, {"approval_status": "REJECTED"})
    again = created(model_owner.post(PATH, request_body))
    both = model_owner.get(pair).json()
    assert [one["id"] for one in both] == [requested["id"], again["id"]]
    assert [one["approval_status"] for one in both] == ["REJECTED", "PENDING"]


def test_after_an_approved_one_only_a_rejected_one_may_follow(
    model_owner: Member, committee: Member, requested: Body, request_body: Body, pair: str
) -> None:
    committee.put(pair, {"approval_status": "APPROVED"})
    for status in ("PENDING", "APPROVED"):
        answer = model_owner.post(PATH, {**request_body, "approval_status": status})
        assert answer.status_code == 400, status
    left = created(model_owner.post(PATH, {**request_body, "approval_status": "REJECTED"}))
    assert left["approval_status"] == "REJECTED" and left["approved_at"] is not None


@pytest.mark.parametrize("decision", ["APPROVED", "REJECTED"])
@pytest.mark.parametrize("decider", ["committee", "admin"])
def test_the_other_side_or_an_admin_decides(
    request: pytest.FixtureRequest, requested: Body, pair: str, decision: str, decider: str
) -> None:
    answer = request.getfixturevalue(decider).put(pair, {"approval_status": decision})
    assert answer.status_code == 200, answer.text
    assert answer.json()["approval_status"] == decision
    assert answer.json()["approved_at"] is not None


def test_the_committee_may_ask_and_the_model_owner_decide(
    committee: Member, model_owner: Member, request_body: Body, pair: str
) -> None:
    created(committee.post(PATH, request_body))
    assert committee.put(pair, {"approval_status": "APPROVED"}).status_code == 400
    assert model_owner.put(pair, {"approval_status": "APPROVED"}).status_code == 200


def test_who_asked_may_withdraw_but_not_approve(
    model_owner: Member, requested: Body, pair: str
) -> None:
    answer = model_owner.put(pair, {"approval_status": "APPROVED"})
    assert answer.status_code == 400
    assert "requested" in answer.json()["approval_status"][0]
    assert model_owner.put(pair, {"approval_status": "REJECTED"}).status_code == 200


@pytest.mark.parametrize("decided", ["APPROVED", "REJECTED"])
@pytest.mark.parametrize("again", ["PENDING", "APPROVED", "REJECTED"])
def test_only_a_pending_one_can_be_decided(
    committee: Member, requested: Body, pair: str, decided: str, again: str
) -> None:
    committee.put(pair, {"approval_status": decided})
    answer = committee.put(pair, {"approval_status": again})
    assert answer.status_code == 400
    assert decided in answer.json()["approval_status"][0]


def test_a_decision_is_on_the_newest(
    model_owner: Member, committee: Member, requested: Body, request_body: Body, pair: str
) -> None:
    committee.put(pair, {"approval_status": "REJECTED"})
    created(model_owner.post(PATH, request_body))
    committee.put(pair, {"approval_status": "APPROVED"})
    statuses = [one["approval_status"] for one in committee.get(pair).json()]
    assert statuses == ["REJECTED", "APPROVED"]


def test_a_decision_is_on_the_one_that_was_meant(
    model_owner: Member, committee: Member, requested: Body, request_body: Body, pair: str
) -> None:
    model_owner.put(pair, {"approval_status": "REJECTED"})
    worse = {**request_body, "metadata": {"test_result": {"auroc": 0.5}}}
    newest = created(model_owner.post(PATH, worse))["id"]
    for values in ({"approval_status": "APPROVED"}, {"priority": 1}):
        answer = committee.put(pair, {**values, "id": requested["id"]})
        assert answer.status_code == 400 and str(newest) in answer.json()["id"][0]
    answer = committee.put(pair, {"approval_status": "APPROVED", "id": newest})
    assert answer.status_code == 200 and answer.json()["id"] == newest


@pytest.mark.parametrize(
    ("who", "status"), [("committee", 200), ("admin", 200), ("model_owner", 403)]
)
def test_priority_belongs_to_the_committee(
    request: pytest.FixtureRequest, requested: Body, pair: str, who: str, status: int
) -> None:
    member: Member = request.getfixturevalue(who)
    assert member.put(pair, {"priority": 7}).status_code == status
    assert member.get(pair).json()[0]["priority"] == (7 if status == 200 else 0)


def test_a_request_cannot_bring_its_own_priority(model_owner: Member, request_body: Body) -> None:
    assert created(model_owner.post(PATH, {**request_body, "priority": 9}))["priority"] == 0


def test_a_test_result_cannot_be_changed_afterwards(
    model_owner: Member, requested: Body, pair: str
) -> None:
    model_owner.put(pair, {"metadata": {"test_result": {"auroc": 1.0}}})
    assert model_owner.get(pair).json()[0]["metadata"] == requested["metadata"]


def test_both_sides_list_it_with_all_its_fields(
    model_owner: Member, committee: Member, stranger: Member, requested: Body
) -> None:
    for member in (model_owner, committee):
        assert member.get("/me/mlcubes/associations/").json()["results"] == [requested]
    assert stranger.get("/me/mlcubes/associations/").json()["results"] == []


def test_an_admin_removes_the_pair(
    admin: Member, model_owner: Member, requested: Body, pair: str
) -> None:
    assert admin.delete(pair).status_code == 204
    assert model_owner.get(pair).json() == []
    assert admin.delete(pair).status_code == 404


def test_a_pair_without_a_request_cannot_be_decided(committee: Member, pair: str) -> None:
    assert committee.put(pair, {"approval_status": "APPROVED"}).status_code == 404


@pytest.fixture
def of_one_owner(committee: Member, approved: Body) -> Body:
    """What the committee sends to take a model of its own into its benchmark."""
    return {"model_mlcube": committee.container()["id"], "benchmark": approved["id"]}


@pytest.mark.parametrize("asking", ["committee", "admin"])
def test_a_request_with_one_owner_on_both_sides_is_approved_at_once(
    request: pytest.FixtureRequest, of_one_owner: Body, asking: str
) -> None:
    made = created(request.getfixturevalue(asking).post(PATH, of_one_owner))
    assert made["approval_status"] == "APPROVED" and made["approved_at"] is not None


def test_it_ends_and_begins_again_as_any_other(committee: Member, of_one_owner: Body) -> None:
    for status in ("APPROVED", "REJECTED", "APPROVED"):
        wanted = {"approval_status": "REJECTED"} if status == "REJECTED" else {}
        made = created(committee.post(PATH, {**of_one_owner, **wanted}))
        assert made["approval_status"] == status


def test_what_an_older_registry_left_pending_its_one_owner_approves(
    served: Registry, committee: Member, of_one_owner: Body
) -> None:
    from medperf_server.base import PENDING, db
    from medperf_server.kinds.association.table import Association

    made = created(committee.post(PATH, of_one_owner))
    with served.app.app_context():
        db.session.get_one(Association, made["id"]).approval_status = PENDING
        db.session.commit()
    path, visitor = f"/associations/{made['id']}", signed_in(committee)
    waiting = visitor.opens("/").text.partition("Your benchmarks")[0]
    assert f'href="{path}"' in waiting and "Requests to decide" in waiting
    told = visitor.fills(path, {"approval_status": "APPROVED"}, on=path)
    assert "The request is approved." in told.text


@pytest.mark.parametrize("body", [{}, [], "none", {"model_mlcube": "1", "benchmark": [1]}])
def test_who_owns_neither_side_is_told_so_whatever_the_body_holds(
    stranger: Member, admin: Member, body: object
) -> None:
    assert stranger.post(PATH, body).status_code == 403
    assert admin.post(PATH, body).status_code == 400


def test_who_names_nothing_of_theirs_does_not_learn_what_is_wrong(
    stranger: Member, model: Body, approved: Body
) -> None:
    body = {"model_mlcube": model["id"], "benchmark": approved["id"], "approval_status": "MAYBE"}
    assert stranger.post(PATH, body).status_code == 403
    for field in ("model_mlcube", "benchmark"):
        assert stranger.post(PATH, {**body, field: 2_000_000_000}).status_code == 403
    deep = stranger.ask("POST", PATH, data=b"[" * 200_000)
    assert deep.status_code == 403
