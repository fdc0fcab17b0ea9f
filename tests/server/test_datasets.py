"""Datasets: what members say of their data, and how little others learn of it."""

from typing import Any

import pytest

from tests.support.api import Body, Member, dataset_body, now, seen, since

PROGRESS = {"execution_status": "running", "progress": {"Stage 1": "50.0%"}}
# What others than the owner may learn.
PUBLIC = {
    *("id", "name", "description", "location", "input_data_hash", "generated_uid", "split_seed"),
    *("data_preparation_mlcube", "is_valid", "submitted_as_prepared", "state"),
    *("generated_metadata", "user_metadata", "created_at", "modified_at"),
}
FULL = PUBLIC | {"owner", "report"}


def path_of(dataset: Body) -> str:
    return f"/datasets/{dataset['id']}/"


def listed(member: Member, path: str) -> dict[int, Body]:
    return {one["id"]: one for one in member.get(f"{path}?limit=1000").json()["results"]}


@pytest.mark.one_engine
def test_a_new_one_is_in_development_whatever_is_said(data_owner: Member, approved: Body) -> None:
    container = approved["data_preparation_mlcube"]
    for state in ("OPERATION", "", "anything"):
        answer = data_owner.post("/datasets/", dataset_body(container, state=state))
        assert answer.status_code == 201
        assert answer.json()["state"] == "DEVELOPMENT"
        assert answer.json()["owner"] == data_owner.uid


@pytest.mark.one_engine
def test_what_is_left_out_has_its_default(data_owner: Member, approved: Body) -> None:
    body = dataset_body(approved["data_preparation_mlcube"])
    del body["description"], body["location"]
    made = data_owner.post("/datasets/", body).json()
    assert set(made) == FULL
    assert (made["description"], made["location"], made["is_valid"]) == ("", "", True)
    assert made["generated_metadata"] == made["user_metadata"] == made["report"] == {}


@pytest.mark.one_engine
def test_objects_are_never_null(data_owner: Member, draft: Body) -> None:
    objects = ("generated_metadata", "user_metadata", "report")
    changed = data_owner.put(path_of(draft), dict.fromkeys(objects)).json()
    assert [changed[name] for name in objects] == [{}, {}, {}]


def test_names_need_not_be_unique(data_owner: Member, stranger: Member, draft: Body) -> None:
    body = dataset_body(draft["data_preparation_mlcube"], name=draft["name"])
    for member in (data_owner, stranger):
        assert member.post("/datasets/", body).status_code == 201


@pytest.mark.one_engine
def test_its_container_may_be_in_development(data_owner: Member, model_owner: Member) -> None:
    container = model_owner.container(state="DEVELOPMENT", is_valid=False)["id"]
    assert data_owner.dataset(container)["state"] == "OPERATION"


def test_only_the_owner_and_admins_learn_all_of_it(
    data_owner: Member, admin: Member, stranger: Member, committee: Member, draft: Body
) -> None:
    for member in (data_owner, admin):
        assert member.get(path_of(draft)).json() == draft
    assert set(draft) == FULL
    public = {name: draft[name] for name in PUBLIC}
    # The committee owns the container that prepares it, and looks elsewhere for that.
    for member in (stranger, committee):
        assert member.get(path_of(draft)).json() == public
    for member in (stranger, committee, data_owner, admin):
        assert listed(member, "/datasets/")[draft["id"]] == public


def test_the_callers_own_are_listed_with_all_they_have(
    data_owner: Member, stranger: Member, draft: Body
) -> None:
    assert listed(data_owner, "/me/datasets/") == {draft["id"]: draft}
    assert listed(stranger, "/me/datasets/") == {}


def test_lists_can_be_filtered_by_what_they_show(data_owner: Member, draft: Body) -> None:
    other = data_owner.dataset(draft["data_preparation_mlcube"])
    by_container = f"data_preparation_mlcube={draft['data_preparation_mlcube']}"
    for query, found in {
        f"name={draft['name']}": {draft["id"]},
        by_container: {draft["id"], other["id"]},
        f"{by_container}&state=OPERATION": {other["id"]},
        # Whose one is nobody is told, so nobody may ask.
        f"{by_container}&owner={data_owner.uid + 1}": {draft["id"], other["id"]},
    }.items():
        rows = data_owner.get(f"/datasets/?{query}").json()["results"]
        assert {row["id"] for row in rows} == found, query


def test_the_changes_tell_each_what_they_may_learn(
    data_owner: Member, admin: Member, stranger: Member, draft: Body
) -> None:
    start = now(admin)
    data_owner.put(path_of(draft), {"name": "renamed"})
    for member, fields in ((data_owner, FULL), (admin, FULL), (stranger, PUBLIC)):
        (row,) = since(member, start)
        assert (row["type"], row["id"], row["action"]) == ("dataset", draft["id"], "updated")
        assert set(row["entity"]) == fields
        assert row["entity"]["name"] == "renamed"


@pytest.mark.one_engine
def test_a_change_is_partial(data_owner: Member, draft: Body) -> None:
    changed = data_owner.put(path_of(draft), {"location": "Milan"}).json()
    assert changed == {**draft, "location": "Milan", "modified_at": changed["modified_at"]}


@pytest.mark.one_engine
def test_what_only_the_registry_sets_is_ignored(data_owner: Member, draft: Body) -> None:
    sent = {**draft, "id": "", "owner": 1, "created_at": "", "modified_at": "", "for_test": True}
    answer = data_owner.put(path_of(draft), {**sent, "description": "New"})
    assert answer.status_code == 200 and answer.json()["owner"] == data_owner.uid
    assert answer.json()["id"] == draft["id"]


FIXED: dict[str, Any] = {
    "name": "other",
    "description": "other",
    "location": "other",
    "input_data_hash": "other",
    "generated_uid": "other",
    "split_seed": 7,
    "submitted_as_prepared": True,
    "state": "DEVELOPMENT",
    "generated_metadata": {"cases": 7},
    "report": PROGRESS,
}


@pytest.mark.one_engine
@pytest.mark.parametrize("field", FIXED)
def test_in_operation_it_stays_as_it_is(data_owner: Member, dataset: Body, field: str) -> None:
    changes = {field: FIXED[field], "user_metadata": {"round": 2}}
    answer = data_owner.put(path_of(dataset), changes)
    assert answer.status_code == 400
    (told,) = answer.json()["non_field_errors"]
    assert field in told and f"Dataset {dataset['id']}" in told
    assert data_owner.get(path_of(dataset)).json() == dataset
    # What is sent back as it is changes nothing.
    changes[field] = dataset[field]
    assert data_owner.put(path_of(dataset), changes).json()["user_metadata"] == {"round": 2}


def test_in_operation_its_container_stays(
    data_owner: Member, model_owner: Member, dataset: Body
) -> None:
    other = {"data_preparation_mlcube": model_owner.container()["id"]}
    answer = data_owner.put(path_of(dataset), other)
    assert answer.status_code == 400 and "data_preparation_mlcube" in answer.text


@pytest.mark.one_engine
def test_in_operation_it_can_be_taken_out_of_use(data_owner: Member, dataset: Body) -> None:
    changes = {"is_valid": False, "user_metadata": {"why": "consent"}}
    changed = data_owner.put(path_of(dataset), changes).json()
    assert changed["is_valid"] is False and changed["user_metadata"] == {"why": "consent"}


@pytest.mark.one_engine
def test_to_operation_it_brings_what_was_prepared(data_owner: Member, draft: Body) -> None:
    prepared = {
        "input_data_hash": "raw",
        "generated_uid": f"final-{draft['generated_uid']}",
        "generated_metadata": {"cases": 12},
        "state": "OPERATION",
    }
    changed = data_owner.put(path_of(draft), prepared)
    assert changed.status_code == 200
    assert {name: changed.json()[name] for name in prepared} == prepared


def test_the_same_data_are_in_operation_once(
    data_owner: Member, stranger: Member, dataset: Body
) -> None:
    uid = dataset["generated_uid"]
    body = dataset_body(dataset["data_preparation_mlcube"], generated_uid=uid)
    for member in (data_owner, stranger):
        # In DEVELOPMENT many may have the same.
        twin = member.post("/datasets/", body).json()
        answer = member.put(path_of(twin), {"state": "OPERATION"})
        assert answer.status_code == 400
        (told,) = answer.json()["non_field_errors"]
        assert f"Dataset {dataset['id']}" in told and uid in told
        assert member.get(path_of(twin)).json()["state"] == "DEVELOPMENT"
        other = {"state": "OPERATION", "generated_uid": f"{uid}-{member.uid}"}
        assert member.put(path_of(twin), other).status_code == 200


def test_progress_is_no_news(
    data_owner: Member, admin: Member, stranger: Member, draft: Body
) -> None:
    start, audit = now(admin), f"/audit/?entity_type=dataset&entity_id={draft['id']}"
    entries = admin.get(audit).json()["count"]
    public = stranger.get(path_of(draft))
    everyone = stranger.get("/datasets/?limit=1000").headers["ETag"]
    for share in ("10%", "20%"):
        report = {**PROGRESS, "progress": {"Stage 1": share}}
        answer = data_owner.put(path_of(draft), {"report": report})
        assert answer.status_code == 200 and answer.json()["report"] == report
        # Whoever may see it does at once.
        assert data_owner.get(path_of(draft)).json() == {**draft, "report": report}
        assert listed(data_owner, "/me/datasets/")[draft["id"]]["report"] == report
        assert admin.get(path_of(draft)).json()["report"] == report
    assert now(admin) == start
    assert admin.get(audit).json()["count"] == entries
    assert stranger.get(path_of(draft)).headers["ETag"] == public.headers["ETag"]
    assert stranger.get("/datasets/?limit=1000").headers["ETag"] == everyone


def test_the_changes_show_progress_as_it_is_now(data_owner: Member, approved: Body) -> None:
    start = now(data_owner)
    made = data_owner.dataset(approved["data_preparation_mlcube"], state="DEVELOPMENT")
    for report in ({}, PROGRESS):
        data_owner.put(path_of(made), {"report": report})
        (row,) = since(data_owner, start)
        assert row["entity"]["report"] == report


def test_progress_with_something_else_is_news(data_owner: Member, draft: Body) -> None:
    start = now(data_owner)
    changed = data_owner.put(path_of(draft), {"report": PROGRESS, "is_valid": False}).json()
    assert seen(data_owner, start) == [("dataset", draft["id"], "updated")]
    assert changed["modified_at"] > draft["modified_at"]


@pytest.fixture
def unfinished(model_owner: Member) -> Body:
    """The model owner's container, in DEVELOPMENT, which is to prepare data."""
    return model_owner.container(state="DEVELOPMENT")


def test_who_owns_the_container_sees_how_its_preparations_go(
    data_owner: Member, model_owner: Member, admin: Member, stranger: Member, unfinished: Body
) -> None:
    path = f"/mlcubes/{unfinished['id']}/datasets/"
    mine = data_owner.dataset(unfinished["id"], state="DEVELOPMENT")
    theirs = data_owner.dataset(unfinished["id"])
    assert stranger.get(path).status_code == data_owner.get(path).status_code == 403
    for report in ({}, PROGRESS):
        mine = data_owner.put(path_of(mine), {"report": report}).json()
        for member in (model_owner, admin):
            assert listed(member, path) == {mine["id"]: mine, theirs["id"]: theirs}


def test_once_the_container_is_in_operation_they_do_not(
    data_owner: Member, model_owner: Member, stranger: Member, unfinished: Body
) -> None:
    data_owner.dataset(unfinished["id"])
    model_owner.put(f"/mlcubes/{unfinished['id']}/", {"state": "OPERATION"})
    answer = model_owner.get(f"/mlcubes/{unfinished['id']}/datasets/")
    assert answer.status_code == 400 and "OPERATION" in answer.json()["error"][0]
    assert stranger.get(f"/mlcubes/{unfinished['id']}/datasets/").status_code == 403


def test_who_owns_the_container_learns_whose_data_it_prepares(
    data_owner: Member, model_owner: Member, stranger: Member, unfinished: Body
) -> None:
    path = f"/users/{data_owner.uid}/"
    assert model_owner.get(path).status_code == 403
    data_owner.dataset(unfinished["id"])
    assert model_owner.get(path).json()["email"] == data_owner.email
    assert stranger.get(path).status_code == 403
    assert data_owner.get(f"/users/{model_owner.uid}/").status_code == 403


@pytest.mark.one_engine
def test_of_one_that_is_not_there_the_role_comes_first(data_owner: Member, admin: Member) -> None:
    path = "/datasets/2000000000/"
    assert data_owner.get(path).status_code == 404
    assert data_owner.put(path, {}).status_code == 403
    for answer in (admin.get(path), admin.put(path, {}), admin.delete(path)):
        assert answer.status_code == 404 and answer.json() == {"detail": "Not found."}


def test_only_one_that_nothing_refers_to_is_removed(
    admin: Member, asking: Body, draft: Body
) -> None:
    assert admin.delete(path_of(draft)).status_code == 204
    answer = admin.delete(f"/datasets/{asking['dataset']}/")
    assert answer.status_code == 400 and "refers" in answer.json()["non_field_errors"][0]
    assert admin.get(f"/datasets/{asking['dataset']}/").status_code == 200


def test_a_container_that_prepares_data_stays(
    admin: Member, data_owner: Member, unfinished: Body
) -> None:
    data_owner.dataset(unfinished["id"])
    assert admin.delete(f"/mlcubes/{unfinished['id']}/").status_code == 400


def test_a_member_with_data_stays(admin: Member, data_owner: Member, draft: Body) -> None:
    assert admin.delete(f"/users/{data_owner.uid}/").status_code == 400
    assert admin.delete(path_of(draft)).status_code == 204
    assert admin.delete(f"/users/{data_owner.uid}/").status_code == 204
