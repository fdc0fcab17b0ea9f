"""How a dataset asks to join a benchmark, who decides, and what its owner may see from then on."""

import pytest

from tests.support.api import Body, Member, created, now, seen

PATH = "/datasets/benchmarks/"


def test_a_request_carries_its_test_result(data_owner: Member, asking: Body, joining: Body) -> None:
    assert asking["approval_status"] == "PENDING" and asking["approved_at"] is None
    assert asking["initiated_by"] == data_owner.uid
    assert asking["metadata"] == joining["metadata"]
    assert "priority" not in asking and "owner" not in asking


@pytest.mark.parametrize("status", ["PENDING", "REJECTED"])
def test_a_request_needs_an_approved_benchmark(
    committee: Member, admin: Member, data_owner: Member, status: str
) -> None:
    benchmark = committee.benchmark()
    dataset = data_owner.dataset(benchmark["data_preparation_mlcube"])
    admin.put(f"/benchmarks/{benchmark['id']}/", {"approval_status": status})
    body = {"dataset": dataset["id"], "benchmark": benchmark["id"], "metadata": {}}
    answer = data_owner.post(PATH, body)
    assert answer.status_code == 400 and status in answer.json()["benchmark"][0]


def test_a_request_needs_a_dataset_in_operation(
    data_owner: Member, joining: Body, draft: Body
) -> None:
    answer = data_owner.post(PATH, {**joining, "dataset": draft["id"]})
    assert answer.status_code == 400 and "OPERATION" in answer.json()["dataset"][0]


def test_both_name_one_data_preparator(
    data_owner: Member, model_owner: Member, joining: Body, approved: Body
) -> None:
    other = data_owner.dataset(model_owner.container()["id"])
    answer = data_owner.post(PATH, {**joining, "dataset": other["id"]})
    assert answer.status_code == 400
    (told,) = answer.json()["dataset"]
    for uid in (other["data_preparation_mlcube"], approved["data_preparation_mlcube"]):
        assert f"container {uid}" in told


@pytest.mark.parametrize("field", ["dataset", "benchmark"])
def test_a_request_names_what_exists(admin: Member, joining: Body, field: str) -> None:
    answer = admin.post(PATH, {**joining, field: 2_000_000_000})
    assert answer.status_code == 400 and "2000000000" in answer.json()[field][0]


@pytest.mark.parametrize("before", ["nothing", "PENDING", "APPROVED", "REJECTED"])
def test_what_may_follow_what(
    data_owner: Member, committee: Member, joining: Body, data_pair: str, before: str
) -> None:
    if before != "nothing":
        created(data_owner.post(PATH, joining))
    if before in ("APPROVED", "REJECTED"):
        assert committee.put(data_pair, {"approval_status": before}).status_code == 200
    may = {"nothing": "PENDING", "APPROVED": "REJECTED", "REJECTED": "PENDING"}.get(before)
    others = {"PENDING", "APPROVED", "REJECTED"} - {may}
    for status in sorted(others):
        answer = data_owner.post(PATH, {**joining, "approval_status": status})
        assert answer.status_code == 400, status
    if may:
        made = created(data_owner.post(PATH, {**joining, "approval_status": may}))
        assert made["approval_status"] == may
        assert (made["approved_at"] is None) == (may == "PENDING")


@pytest.mark.parametrize("decision", ["APPROVED", "REJECTED"])
def test_the_other_side_decides(
    data_owner: Member, committee: Member, asking: Body, data_pair: str, decision: str
) -> None:
    assert data_owner.put(data_pair, {"approval_status": "APPROVED"}).status_code == 400
    words = {"approval_status": decision, "reason": "as agreed"}
    decided = committee.put(data_pair, words)
    assert decided.status_code == 200
    assert decided.json()["approval_status"] == decision and decided.json()["approved_at"]
    assert decided.json()["reason"] == "as agreed"
    for status in ("PENDING", "APPROVED", "REJECTED"):
        assert committee.put(data_pair, {"approval_status": status}).status_code == 400


def test_who_asked_may_withdraw(data_owner: Member, asking: Body, data_pair: str) -> None:
    assert data_owner.put(data_pair, {"approval_status": "REJECTED"}).status_code == 200


def test_the_committee_may_ask_and_the_data_owner_decide(
    committee: Member, data_owner: Member, joining: Body, data_pair: str
) -> None:
    created(committee.post(PATH, joining))
    assert committee.put(data_pair, {"approval_status": "APPROVED"}).status_code == 400
    assert data_owner.put(data_pair, {"approval_status": "APPROVED"}).status_code == 200


def test_a_decision_is_on_the_one_that_was_meant(
    data_owner: Member, committee: Member, asking: Body, joining: Body, data_pair: str
) -> None:
    data_owner.put(data_pair, {"approval_status": "REJECTED"})
    newest = created(data_owner.post(PATH, joining))["id"]
    wrong = committee.put(data_pair, {"approval_status": "APPROVED", "id": asking["id"]})
    assert wrong.status_code == 400 and str(newest) in wrong.json()["id"][0]
    right = committee.put(data_pair, {"approval_status": "APPROVED", "id": newest})
    assert right.status_code == 200 and right.json()["id"] == newest
    both = committee.get(data_pair).json()
    assert [one["approval_status"] for one in both] == ["REJECTED", "APPROVED"]


def test_a_request_with_one_owner_on_both_sides_is_approved_at_once(
    committee: Member, approved: Body
) -> None:
    own = committee.dataset(approved["data_preparation_mlcube"])["id"]
    made = created(
        committee.post(PATH, {"dataset": own, "benchmark": approved["id"], "metadata": {}})
    )
    assert made["approval_status"] == "APPROVED" and made["approved_at"] is not None


def test_a_pair_without_a_request_has_no_rows_and_cannot_be_decided(
    committee: Member, admin: Member, dataset: Body, data_pair: str
) -> None:
    assert committee.get(data_pair).json() == []
    assert committee.put(data_pair, {"approval_status": "APPROVED"}).status_code == 404
    assert admin.delete(data_pair).status_code == 404


def test_both_sides_list_it_and_are_told_of_it(
    data_owner: Member, committee: Member, stranger: Member, admin: Member, joining: Body
) -> None:
    start = now(admin)
    made = created(data_owner.post(PATH, joining))
    for member in (data_owner, committee):
        assert member.get("/me/datasets/associations/").json()["results"] == [made]
        assert seen(member, start) == [("dataset_association", made["id"], "created")]
    assert stranger.get("/me/datasets/associations/").json()["results"] == []
    assert seen(stranger, start) == []


def test_the_committee_lists_the_datasets_of_its_benchmark(
    committee: Member, data_owner: Member, taken: Body, approved: Body
) -> None:
    path = f"/benchmarks/{approved['id']}/datasets/"
    told = {name: taken[name] for name in ("dataset", "approval_status", "created_at")}
    assert committee.get(path).json()["results"] == [told]
    assert data_owner.get(path).status_code == 403


def test_who_has_a_dataset_in_a_benchmark_lists_its_models(
    data_owner: Member,
    committee: Member,
    model_owner: Member,
    stranger: Member,
    approved: Body,
    asking: Body,
    data_pair: str,
) -> None:
    path = f"/benchmarks/{approved['id']}/models/"
    assert data_owner.get(path).status_code == 403
    committee.put(data_pair, {"approval_status": "APPROVED"})
    assert data_owner.get(path).json()["results"] == []
    for priority in (0, 5, -1):
        model = model_owner.container()["id"]
        body = {"model_mlcube": model, "benchmark": approved["id"]}
        created(model_owner.post("/mlcubes/benchmarks/", body))
        pair = f"/mlcubes/{model}/benchmarks/{approved['id']}/"
        assert committee.put(pair, {"priority": priority}).status_code == 200
    for member in (data_owner, committee):
        rows = member.get(path).json()
        assert rows["count"] == 3 and [set(row) for row in rows["results"]] == 3 * [
            {"model_mlcube", "approval_status", "created_at"}
        ]
        # The one of priority 5 was the second that asked.
        order = [row["model_mlcube"] for row in rows["results"]]
        assert order == [sorted(order)[1], sorted(order)[0], sorted(order)[2]]
        pages = [member.get(f"{path}?limit=1&offset={n}").json()["results"][0] for n in range(3)]
        assert [row["model_mlcube"] for row in pages] == order
    assert stranger.get(path).status_code == 403


def test_whose_dataset_is_in_it_no_more_does_not(
    data_owner: Member, committee: Member, approved: Body, taken: Body, joining: Body
) -> None:
    created(committee.post(PATH, {**joining, "approval_status": "REJECTED"}))
    path = f"/benchmarks/{approved['id']}/models/"
    assert data_owner.get(path).status_code == 403
    # Asking anew is not enough.
    created(data_owner.post(PATH, joining))
    assert data_owner.get(path).status_code == 403


@pytest.mark.parametrize("body", [{}, [], "none", {"dataset": "1", "benchmark": [1]}])
def test_who_owns_neither_side_is_told_so_whatever_the_body_holds(
    stranger: Member, admin: Member, body: object
) -> None:
    assert stranger.post(PATH, body).status_code == 403
    assert admin.post(PATH, body).status_code == 400


def test_whose_data_they_are_is_no_secret_to_the_committee_alone(
    stranger: Member, asking: Body, data_pair: str, committee: Member
) -> None:
    assert stranger.get(data_pair).status_code == 403
    assert committee.get(data_pair).json() == [asking]


def test_it_goes_with_its_benchmark(
    admin: Member, data_owner: Member, asking: Body, approved: Body
) -> None:
    start = now(data_owner)
    assert admin.delete(f"/benchmarks/{approved['id']}/").status_code == 204
    assert seen(data_owner, start) == [
        ("dataset_association", asking["id"], "deleted"),
        ("benchmark", approved["id"], "deleted"),
    ]
