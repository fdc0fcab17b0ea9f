"""Results: who sends one in, who sees it, and what of it may change."""

from uuid import uuid4

import pytest

from tests.support.api import Body, Member, created, now, seen, since

PATH = "/results/"


def ids(member: Member, path: str) -> list[int]:
    return [one["id"] for one in member.get(f"{path}?limit=1000").json()["results"]]


def test_it_is_the_callers_and_waits(data_owner: Member, result: Body, result_body: Body) -> None:
    assert {name: result[name] for name in result_body} == result_body
    assert result["owner"] == data_owner.uid
    assert (result["approval_status"], result["approved_at"]) == ("PENDING", None)
    assert result["is_valid"] is True and result["user_metadata"] == {}


def test_what_only_others_decide_is_ignored(data_owner: Member, result_body: Body) -> None:
    sent = {**result_body, "id": "", "owner": "", "approved_at": "", "approval_status": "APPROVED"}
    made = created(data_owner.post(PATH, sent))
    assert (made["approval_status"], made["approved_at"]) == ("PENDING", None)


@pytest.mark.parametrize("metadata", ["missing", {}, None, {"seconds": 3}, {"partial": True}])
def test_it_always_says_whether_it_is_partial(
    data_owner: Member, admin: Member, result_body: Body, metadata: object
) -> None:
    body = {name: value for name, value in result_body.items() if name != "metadata"}
    given = metadata if isinstance(metadata, dict) else {}
    made = created(
        data_owner.post(PATH, body if metadata == "missing" else {**body, "metadata": metadata})
    )
    assert made["metadata"] == {"partial": False, **given}
    changed = admin.put(f"{PATH}{made['id']}/", {"metadata": {"seconds": 9}}).json()
    assert changed["metadata"] == {"partial": False, "seconds": 9}


def test_words_for_what_is_no_number_are_kept(data_owner: Member, result_body: Body) -> None:
    results = {"auroc": "nan", "loss": ["Infinity", "-Infinity"]}
    made = created(data_owner.post(PATH, {**result_body, "results": results}))
    assert made["results"] == results


def test_the_same_may_be_sent_again_but_once_by_its_key(
    data_owner: Member, result: Body, result_body: Body
) -> None:
    again = created(data_owner.post(PATH, result_body))
    assert again["id"] != result["id"]
    key = str(uuid4())
    once, twice = (created(data_owner.post(PATH, result_body, key=key)) for _ in range(2))
    assert once == twice
    assert ids(data_owner, "/me/results/") == [result["id"], again["id"], once["id"]]


@pytest.mark.parametrize("who", ["stranger", "committee", "model_owner"])
def test_only_who_owns_the_dataset_sends_one(
    request: pytest.FixtureRequest, result_body: Body, who: str
) -> None:
    member: Member = request.getfixturevalue(who)
    for body in (result_body, {**result_body, "dataset": 2_000_000_000}, {}, [], "none"):
        assert member.post(PATH, body).status_code == 403


def test_the_role_comes_before_the_rest(
    data_owner: Member, admin: Member, result_body: Body
) -> None:
    unknown = {**result_body, "dataset": 2_000_000_000}
    assert data_owner.post(PATH, unknown).status_code == 403
    assert admin.post(PATH, unknown).json() == {
        "dataset": ["There is no dataset with UID 2000000000"]
    }
    for field in ("benchmark", "model"):
        answer = data_owner.post(PATH, {**result_body, field: 2_000_000_000})
        assert answer.status_code == 400 and "2000000000" in answer.json()[field][0]


@pytest.mark.parametrize("status", ["none", "PENDING", "REJECTED", "ended"])
def test_its_dataset_is_in_the_benchmark(
    data_owner: Member,
    committee: Member,
    joining: Body,
    data_pair: str,
    approved: Body,
    status: str,
) -> None:
    if status != "none":
        created(data_owner.post("/datasets/benchmarks/", joining))
    if status in ("REJECTED", "ended"):
        decision = "REJECTED" if status == "REJECTED" else "APPROVED"
        committee.put(data_pair, {"approval_status": decision})
    if status == "ended":
        end = {**joining, "approval_status": "REJECTED"}
        created(data_owner.post("/datasets/benchmarks/", end))
    sides = {"dataset": joining["dataset"], "benchmark": approved["id"]}
    body = {**sides, "model": approved["reference_model_mlcube"], "results": {}}
    answer = data_owner.post(PATH, body)
    assert answer.status_code == 400
    (told,) = answer.json()["non_field_errors"]
    assert f"ataset {joining['dataset']} " in told
    assert ("REJECTED" if status == "ended" else status.replace("none", "not in")) in told


def test_its_model_is_in_the_benchmark_too(
    data_owner: Member, committee: Member, requested: Body, pair: str, result_body: Body
) -> None:
    body = {**result_body, "model": requested["model_mlcube"]}
    answer = data_owner.post(PATH, body)
    assert answer.status_code == 400 and "PENDING" in answer.json()["non_field_errors"][0]
    committee.put(pair, {"approval_status": "APPROVED"})
    assert created(data_owner.post(PATH, body))["model"] == requested["model_mlcube"]


def test_it_stays_when_its_dataset_leaves(
    data_owner: Member, committee: Member, joining: Body, result: Body
) -> None:
    end = {**joining, "approval_status": "REJECTED"}
    created(data_owner.post("/datasets/benchmarks/", end))
    for member in (data_owner, committee):
        assert member.get(f"{PATH}{result['id']}/").json() == result


def test_it_is_for_the_data_owner_the_committee_and_admins(
    data_owner: Member,
    committee: Member,
    admin: Member,
    model_owner: Member,
    stranger: Member,
    requested: Body,
    pair: str,
    result_body: Body,
    approved: Body,
) -> None:
    committee.put(pair, {"approval_status": "APPROVED"})
    start = now(admin)
    body = {**result_body, "model": requested["model_mlcube"]}
    result = created(data_owner.post(PATH, body))
    news = [("result", result["id"], "created")]
    path, theirs = f"{PATH}{result['id']}/", f"/benchmarks/{approved['id']}/results/"
    for member in (data_owner, committee, admin):
        assert member.get(path).json() == result
        assert seen(member, start) == news and since(member, start)[0]["entity"] == result
    for member in (committee, admin):
        assert ids(member, theirs) == [result["id"]]
    # Not even who owns the model.
    for member in (model_owner, stranger):
        assert member.get(path).status_code == 403
        assert seen(member, start) == []
        assert member.get(PATH).status_code == member.get(theirs).status_code == 403
        assert ids(member, "/me/results/") == []
    assert result["id"] in ids(admin, PATH)
    assert data_owner.get(theirs).status_code == 403


def test_whether_there_is_one_nobody_else_learns(
    data_owner: Member, stranger: Member, admin: Member, result: Body
) -> None:
    unknown = f"{PATH}2000000000/"
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        there, nowhere = (
            stranger.ask(method, path, json={}) for path in (f"{PATH}{result['id']}/", unknown)
        )
        assert there.status_code == nowhere.status_code == 403
        assert there.text == nowhere.text
    assert data_owner.get(unknown).status_code == 403
    assert admin.get(unknown).status_code == 404


def test_admins_decide_on_it_and_change_nothing_that_it_says(
    admin: Member, data_owner: Member, committee: Member, result: Body
) -> None:
    path = f"{PATH}{result['id']}/"
    for member in (data_owner, committee):
        assert member.put(path, {"is_valid": False}).status_code == 403
        assert member.delete(path).status_code == 403
    said = {"benchmark": 1, "model": 1, "dataset": 1, "results": {"auroc": 1.0}, "owner": 1}
    changed = admin.put(path, {**said, "approval_status": "APPROVED", "is_valid": False}).json()
    assert {name: changed[name] for name in said} == {name: result[name] for name in said}
    assert changed["approval_status"] == "APPROVED" and changed["approved_at"] is not None
    assert changed["is_valid"] is False
    assert admin.put(path, {"approval_status": "PENDING"}).json()["approved_at"] is None
    assert admin.put(path, {"name": "n" * 21}).status_code == 400
    assert admin.delete(path).status_code == 204


def test_what_it_refers_to_stays_but_its_benchmark(
    admin: Member, data_owner: Member, result: Body
) -> None:
    for path in (f"/datasets/{result['dataset']}/", f"/mlcubes/{result['model']}/"):
        assert admin.delete(path).status_code == 400
    start = now(data_owner)
    assert admin.delete(f"/benchmarks/{result['benchmark']}/").status_code == 204
    assert ("result", result["id"], "deleted") in seen(data_owner, start)
    assert admin.get(f"{PATH}{result['id']}/").status_code == 404
