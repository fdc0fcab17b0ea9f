"""GETs that cost little: unchanged answers are not sent again, and changed ones always are."""

from collections.abc import Iterator

import pytest

from tests.support.api import Body, Member
from tests.support.registry import Registry, copy_database

PATHS = ["/me/", "/mlcubes/", "/mlcubes/{uid}/", "/me/mlcubes/", "/changes/", "/users/{owner}/"]


@pytest.mark.parametrize("path", PATHS)
def test_an_unchanged_answer_is_not_sent_again(model_owner: Member, model: Body, path: str) -> None:
    path = path.format(uid=model["id"], owner=model_owner.uid)
    first = model_owner.get(path)
    assert first.status_code == 200
    again = model_owner.get(path, **{"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304 and again.content == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert model_owner.get(path, **{"If-None-Match": '"other"'}).json() == first.json()


def test_the_tag_changes_with_the_entity(model_owner: Member, model: Body) -> None:
    path = f"/mlcubes/{model['id']}/"
    before = model_owner.get(path).headers["ETag"]
    model_owner.put(path, {"is_valid": False})
    after = model_owner.get(path, **{"If-None-Match": before})
    assert after.status_code == 200 and after.json()["is_valid"] is False
    assert after.headers["ETag"] != before


def test_open_paths_have_tags_too(model_owner: Member) -> None:
    for path in ("/version", "/openapi.json", "/docs"):
        tag = model_owner.get(path).headers["ETag"]
        assert model_owner.get(path, **{"If-None-Match": tag}).status_code == 304


@pytest.fixture
def second(served: Registry) -> Iterator[Registry]:
    """Another server process on the same database."""
    other = Registry(served.folder / "second", served.database_url)
    other.start()
    yield other
    other.stop()


def test_every_process_tells_at_once_what_another_has_changed(
    second: Registry, model_owner: Member, model: Body
) -> None:
    path = f"/mlcubes/{model['id']}/"
    url = f"{second.url}/api/v0{path}"
    for number in range(5):
        model_owner.put(path, {"user_metadata": {"number": number}})
        for _ in range(2):
            answer = model_owner.session.get(url, timeout=60)
            assert answer.json()["user_metadata"] == {"number": number}


def test_every_process_tells_progress_at_once(
    second: Registry, data_owner: Member, draft: Body
) -> None:
    path = f"/datasets/{draft['id']}/"
    for share in ("10%", "20%", "30%"):
        report = {"execution_status": "running", "progress": {"Stage 1": share}}
        data_owner.put(path, {"report": report})
        for registry in (second, data_owner.registry):
            url = f"{registry.url}/api/v0"
            answer = data_owner.session.get(url + path, timeout=60)
            assert answer.json()["report"] == report
            mine = data_owner.session.get(f"{url}/me/datasets/", timeout=60)
            assert mine.json()["results"][0]["report"] == report


def test_members_never_get_each_others_answers(model_owner: Member, stranger: Member) -> None:
    for member in (model_owner, stranger, model_owner):
        assert member.get("/me/").json()["email"] == member.email


def test_a_page_names_the_host_that_was_asked(model_owner: Member) -> None:
    for _ in range(2):
        model_owner.container()
    for host in ("one.example.org", "two.example.org"):
        page = model_owner.get("/me/mlcubes/?limit=1", Host=host).json()
        assert page["next"].startswith(f"http://{host}/api/v0/me/mlcubes/?")


def test_no_answer_of_another_past_is_given(registry: Registry) -> None:
    ada = Member(registry, "ada")
    snapshot, database = registry.folder / "snapshot.db", registry.folder / "registry.db"
    copy_database(database, snapshot)
    names = []
    for name in ("of then", "of now"):
        ada.container(name=name)
        # The second time from the worker's memory.
        for _ in range(2):
            page = ada.get("/mlcubes/").json()
            assert [one["name"] for one in page["results"]] == [name]
        names.append(ada.get("/changes/").json()["next"])
        copy_database(snapshot, database)
    assert names[0] == names[1]
