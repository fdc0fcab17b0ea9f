"""What the registry says of itself: version, documentation, lists, logs."""

import json
import re

import pytest
import requests

from tests.support.api import Body, Member
from tests.support.registry import Registry

PATHS = {
    "/benchmarks/": {"get", "post"},
    "/benchmarks/{uid}/": {"get", "put", "delete"},
    "/benchmarks/{uid}/models/": {"get"},
    "/mlcubes/": {"get", "post"},
    "/mlcubes/{uid}/": {"get", "put", "delete"},
    "/mlcubes/benchmarks/": {"post"},
    "/mlcubes/{model}/benchmarks/{benchmark}/": {"get", "put", "delete"},
    "/users/": {"get"},
    "/users/{uid}/": {"get", "put", "delete"},
    "/me/": {"get"},
    "/me/benchmarks/": {"get"},
    "/me/mlcubes/": {"get"},
    "/me/mlcubes/associations/": {"get"},
    "/changes/": {"get"},
    "/version": {"get"},
}


@pytest.mark.one_engine
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("where", ["/api/v0", ""])
def test_the_version_needs_no_token(served: Registry, where: str, slash: str) -> None:
    url = f"{served.url}{where}/version{slash}"
    answer = requests.get(url, timeout=60, allow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, {"version": "v0"})


@pytest.mark.one_engine
def test_openapi_describes_every_path(served: Registry) -> None:
    document = requests.get(f"{served.url}/api/v0/openapi.json", timeout=60).json()
    assert document["openapi"].startswith("3.")
    for path, methods in PATHS.items():
        assert methods <= set(document["paths"]["/api/v0" + path]), path


@pytest.mark.one_engine
def test_the_docs_list_every_path(served: Registry) -> None:
    answer = requests.get(f"{served.url}/api/v0/docs", timeout=60)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<!doctype html>")
    for path in PATHS:
        first = path.partition("{")[0]
        assert f"/api/v0{first}" in answer.text


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "path",
    [
        "/me",
        "/mlcubes",
        "/mlcubes/{model}",
        "/benchmarks",
        "/benchmarks/{benchmark}",
        "/benchmarks/{benchmark}/models",
        "/mlcubes/{model}/benchmarks/{benchmark}",
        "/changes",
        "/me/mlcubes/associations",
    ],
)
def test_a_trailing_slash_is_optional_and_never_a_redirect(
    committee: Member, model: Body, approved: Body, path: str
) -> None:
    path = path.format(model=model["id"], benchmark=approved["id"])
    with_slash = committee.ask("GET", path + "/", allow_redirects=False)
    without = committee.ask("GET", path, allow_redirects=False)
    assert without.status_code == with_slash.status_code == 200
    assert without.text == with_slash.text.replace(f"{path}/?", f"{path}?")


@pytest.mark.one_engine
def test_a_post_without_its_slash_is_not_redirected(model_owner: Member) -> None:
    answer = model_owner.ask("POST", "/mlcubes", json={}, allow_redirects=False)
    assert answer.status_code == 400


def test_lists_come_in_pages(model_owner: Member) -> None:
    uids = [model_owner.container()["id"] for _ in range(5)]
    path: str | None = "/me/mlcubes/?limit=2"
    got: list[int] = []
    while path:
        page = model_owner.get(path).json()
        assert page["count"] == 5
        got += [entity["id"] for entity in page["results"]]
        path = page["next"] and page["next"].partition("/api/v0")[2]
    assert got == uids
    last = model_owner.get("/me/mlcubes/?limit=2&offset=4").json()
    assert last["next"] is None
    assert last["previous"].endswith("/me/mlcubes/?limit=2&offset=2")
    assert (
        model_owner.get(last["previous"].partition("/api/v0")[2]).json()["results"][0]["id"] in uids
    )


@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("asked", "limit", "offset"),
    [
        ("limit=0", 32, 0),
        ("limit=-1", 32, 0),
        ("limit=abc", 32, 0),
        ("limit=", 32, 0),
        ("limit=1.5&offset=x", 32, 0),
        ("limit=1001", 1000, 0),
        (f"limit={'9' * 2000}&offset=-1", 32, 0),
        ("limit=%D9%A3&offset=", 32, 0),
        ("limit=2&offset=99999999999", 2, 2**31 - 1),
    ],
)
@pytest.mark.parametrize("path", ["/mlcubes/", "/me/mlcubes/associations/", "/me/datasets/"])
def test_a_list_reads_what_is_no_number_as_not_said(
    model_owner: Member, asked: str, limit: int, offset: int, path: str
) -> None:
    given, usual = (
        model_owner.get(f"{path}?{query}") for query in (asked, f"limit={limit}&offset={offset}")
    )
    assert given.status_code == 200, given.text
    assert given.json()["results"] == usual.json()["results"]


def test_a_page_holds_32_unless_asked(model_owner: Member) -> None:
    for _ in range(33):
        model_owner.container()
    page = model_owner.get("/me/mlcubes/").json()
    assert (page["count"], len(page["results"])) == (33, 32)


@pytest.mark.parametrize("field", ["name", "owner", "state", "is_valid"])
def test_lists_can_be_filtered(model_owner: Member, model: Body, field: str) -> None:
    other = model_owner.container(state="DEVELOPMENT", is_valid=False)
    for one in (model, other):
        page = model_owner.get(f"/mlcubes/?owner={model_owner.uid}&{field}={one[field]}").json()
        assert {entity[field] for entity in page["results"]} == {one[field]}


@pytest.mark.one_engine
def test_a_request_id_is_echoed_and_logged(stranger: Member, served: Registry) -> None:
    answer = stranger.get("/mlcubes/", **{"X-Request-ID": "abc-123"})
    assert answer.headers["X-Request-ID"] == "abc-123"
    line = json.loads(
        next(line for line in served.log.read_text().splitlines() if "abc-123" in line)
    )
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v0/mlcubes/", 200)
    assert line["user"] == stranger.uid and line["milliseconds"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])


@pytest.mark.one_engine
@pytest.mark.parametrize("wrong", ["a b", "x" * 129, '{"a":1}'])
def test_an_odd_request_id_is_replaced(stranger: Member, wrong: str) -> None:
    given = stranger.get("/mlcubes/", **{"X-Request-ID": wrong}).headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f-]{36}", given)


@pytest.mark.one_engine
def test_the_log_holds_no_token(stranger: Member, served: Registry) -> None:
    stranger.get("/mlcubes/")
    token = str(stranger.session.headers["Authorization"]).removeprefix("Bearer ")
    assert token.startswith("mpf_") and token not in served.log.read_text()
