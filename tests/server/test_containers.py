"""What makes a container acceptable, and what of it may change."""

from typing import Any

import pytest

from tests.support.api import Body, Member, container_body

PAIRS = [
    ("git_parameters_url", "parameters_hash"),
    ("additional_files_tarball_url", "additional_files_tarball_hash"),
    ("image_tarball_url", "image_tarball_hash"),
]
EDITABLE_IN_OPERATION = {
    "is_valid": False,
    "user_metadata": {"note": "moved"},
    "git_mlcube_url": "https://mirror.example.org/config.yaml",
    "git_parameters_url": "https://mirror.example.org/parameters.yaml",
    "additional_files_tarball_url": "https://mirror.example.org/files.tar.gz",
    "image_tarball_url": "https://mirror.example.org/image.tar",
}
FROZEN_IN_OPERATION = {
    "name": "another name",
    "mlcube_hash": "other",
    "parameters_hash": "other",
    "additional_files_tarball_hash": "other",
    "image_tarball_hash": "other",
    "metadata": {"a": 1},
    "state": "DEVELOPMENT",
}


def whole_body(**changes: Any) -> Body:
    """A container with every file, its image as a tarball."""
    files = {field: f"https://example.org/{field}" for pair in PAIRS for field in pair[:1]}
    hashes = {field: f"{field}0" for pair in PAIRS for field in pair[1:]}
    return container_body(**{**files, **hashes, "image_hash": "", **changes})


def test_a_container_belongs_to_its_submitter(model_owner: Member) -> None:
    body = container_body(owner=999, id=999)
    answer = model_owner.post("/mlcubes/", body)
    assert answer.status_code == 201
    entity = answer.json()
    assert entity["owner"] == model_owner.uid and entity["id"] != 999
    assert entity["is_valid"] is True and entity["metadata"] == {}
    assert model_owner.get(f"/mlcubes/{entity['id']}/").json() == entity


def test_a_container_starts_in_development(model_owner: Member) -> None:
    body = container_body()
    del body["state"]
    assert model_owner.post("/mlcubes/", body).json()["state"] == "DEVELOPMENT"


def test_a_name_is_taken_once(model_owner: Member, stranger: Member, model: Body) -> None:
    answer = stranger.post("/mlcubes/", container_body(name=model["name"]))
    assert answer.status_code == 400
    assert model["name"] in answer.json()["name"][0]


def test_a_name_may_have_20_characters(model_owner: Member) -> None:
    long = container_body()["name"].ljust(20, "x")
    assert model_owner.post("/mlcubes/", container_body(name=long)).status_code == 201
    assert "20" in model_owner.post("/mlcubes/", container_body(name=long + "x")).json()["name"][0]


def test_the_same_content_is_registered_once(model_owner: Member, model: Body) -> None:
    answer = model_owner.post("/mlcubes/", {**model, "name": "same content"})
    assert answer.status_code == 400
    assert str(model["id"]) in answer.json()["non_field_errors"][0]
    assert model_owner.post("/mlcubes/", {**model, "name": "c", "mlcube_hash": "c"}).ok


@pytest.mark.parametrize(("url", "digest"), PAIRS)
def test_a_url_needs_its_hash_and_a_hash_its_url(
    model_owner: Member, url: str, digest: str
) -> None:
    for missing in (url, digest):
        answer = model_owner.post("/mlcubes/", whole_body(**{missing: ""}))
        assert answer.status_code == 400, missing
        assert url in answer.text and digest in answer.text or "image_hash" in answer.text


@pytest.mark.parametrize(
    "images",
    [
        {"image_hash": ""},
        {"image_tarball_url": "https://example.org/i.tar", "image_tarball_hash": "tar"},
    ],
    ids=["neither", "both"],
)
def test_exactly_one_image_is_given(model_owner: Member, images: Body) -> None:
    answer = model_owner.post("/mlcubes/", container_body(**images))
    assert answer.status_code == 400
    assert "exactly one" in answer.json()["image_hash"][0]


@pytest.mark.parametrize("field", EDITABLE_IN_OPERATION)
def test_in_operation_these_may_change(model_owner: Member, field: str) -> None:
    uid = model_owner.container(**whole_body())["id"]
    value = EDITABLE_IN_OPERATION[field]
    answer = model_owner.put(f"/mlcubes/{uid}/", {field: value})
    assert answer.status_code == 200, answer.text
    assert answer.json()[field] == value


@pytest.mark.parametrize("field", FROZEN_IN_OPERATION)
def test_in_operation_nothing_else_may_change(model_owner: Member, field: str) -> None:
    entity = model_owner.container(**whole_body())
    path = f"/mlcubes/{entity['id']}/"
    answer = model_owner.put(path, {field: FROZEN_IN_OPERATION[field]})
    assert answer.status_code == 400
    assert "OPERATION" in answer.json()[field][0]
    assert model_owner.get(path).json() == entity


def test_in_development_everything_may_change(model_owner: Member) -> None:
    uid = model_owner.container(state="DEVELOPMENT")["id"]
    changes = whole_body()
    answer = model_owner.put(f"/mlcubes/{uid}/", changes)
    assert answer.status_code == 200, answer.text
    assert {field: answer.json()[field] for field in changes} == changes


def test_a_change_must_keep_the_container_whole(model_owner: Member) -> None:
    uid = model_owner.container(state="DEVELOPMENT")["id"]
    answer = model_owner.put(f"/mlcubes/{uid}/", {"parameters_hash": "without URL"})
    assert answer.status_code == 400


def test_a_whole_entity_may_be_sent_back(model_owner: Member) -> None:
    entity = model_owner.container()
    answer = model_owner.put(f"/mlcubes/{entity['id']}/", {**entity, "is_valid": False})
    assert answer.status_code == 200, answer.text
    assert answer.json()["is_valid"] is False
    assert answer.json()["modified_at"] > entity["modified_at"]


def test_a_container_in_a_benchmark_stays(committee: Member, admin: Member) -> None:
    benchmark = committee.benchmark()
    path = f"/mlcubes/{benchmark['reference_model_mlcube']}/"
    answer = admin.delete(path)
    assert answer.status_code == 400
    assert "refers" in answer.json()["non_field_errors"][0]
    assert admin.get(path).status_code == 200


def test_a_deleted_container_takes_its_associations_along(
    admin: Member, committee: Member, model: Body, requested: Body, pair: str
) -> None:
    assert admin.delete(f"/mlcubes/{model['id']}/").status_code == 204
    assert admin.get(f"/mlcubes/{model['id']}/").status_code == 404
    assert committee.get("/me/mlcubes/associations/").json()["results"] == []


def test_a_uid_is_never_used_twice(admin: Member, model_owner: Member) -> None:
    uid = model_owner.container()["id"]
    assert admin.delete(f"/mlcubes/{uid}/").status_code == 204
    assert model_owner.container()["id"] > uid
