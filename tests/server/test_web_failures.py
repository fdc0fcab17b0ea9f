"""What goes wrong on a page is a page; what goes wrong in the API stays JSON."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.server.visitor import Visitor, form_token
from tests.support.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry that may break."""
    yield from Registry.serving(tmp_path)


@pytest.fixture
def visitor(registry: Registry) -> Visitor:
    """A member with a browser."""
    visitor = Visitor(registry)
    form = {"token": registry.token_for("ada@example.org")}
    assert visitor.sends("/sign-in", form).status_code == 200
    return visitor


def assert_is_page(answer: requests.Response, status: int, heading: str) -> None:
    """A whole page, with what every page has to have."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert f"<h1>{heading}</h1>" in answer.text and '<main id="main"' in answer.text


def test_what_a_member_did_wrong_is_told_on_a_page(visitor: Visitor) -> None:
    assert_is_page(visitor.opens("/no/such"), 404, "There is no such page")
    assert_is_page(visitor.opens("/benchmarks/1"), 404, "There is no such page")
    assert_is_page(visitor.opens("/admin/"), 403, "You may not do that")
    assert_is_page(visitor.opens("/sign-out"), 405, "That did not work")
    large = visitor.sends("/tokens/", {"name": "x" * 3_000_000})
    assert_is_page(large, 413, "That is too large")


def test_pages_of_what_went_wrong_know_who_is_signed_in(visitor: Visitor) -> None:
    for path in ("/no/such", "/benchmarks/1", "/admin/"):
        assert "ada@example.org" in visitor.opens(path).text
    assert "Sign out" not in Visitor(visitor.registry).opens("/no/such").text


def test_a_form_out_of_date_says_so_and_changes_nothing(visitor: Visitor) -> None:
    form = {"name": "laptop", "scope": "read"}
    for token in ({}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": "ü"}):
        refused = visitor.sends("/tokens/", {**form, **token})
        assert_is_page(refused, 403, "You may not do that")
        assert "open the page again" in refused.text
    assert "laptop" not in visitor.opens("/tokens/").text
    query = f"?form_token={form_token(visitor.opens('/').text)}"
    assert visitor.sends(f"/tokens/{query}", form).status_code == 403


def test_a_refused_sign_in_is_a_form_again(registry: Registry) -> None:
    answer = Visitor(registry).sends("/sign-in", {"token": "mpf_wrong", "next": "/tokens/"})
    assert_is_page(answer, 401, "Sign in")
    assert 'role="alert"' in answer.text and 'aria-describedby="error"' in answer.text
    assert 'name="next" value="/tokens/"' in answer.text and "mpf_wrong" not in answer.text
    assert "WWW-Authenticate" not in answer.headers


def test_too_many_requests_are_told_on_a_page(tmp_path: Path) -> None:
    for registry in Registry.serving(tmp_path, MEDPERF_RATE_LIMIT="5/minute"):
        visitor = Visitor(registry)
        answers = [visitor.opens("/sign-in") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert_is_page(answers[-1], 429, "Too many requests")
        assert int(answers[-1].headers["Retry-After"]) > 0


def test_a_failure_of_the_registry_names_its_request(
    registry: Registry, visitor: Visitor, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "registry.db") as database:
        database.execute(
            "INSERT INTO mlcubes (name, git_mlcube_url, mlcube_hash, git_parameters_url,"
            " parameters_hash, image_tarball_url, image_tarball_hash, image_hash,"
            " additional_files_tarball_url, additional_files_tarball_hash, owner, state,"
            " is_valid, metadata, user_metadata, created_at, modified_at) VALUES"
            " ('m', 'u', 'h', '', '', '', '', 'i', '', '', 1, 'OPERATION', 1, '{}', '{}',"
            " 'not a time', 'not a time')"
        )
    answer = visitor.opens("/containers/")
    assert_is_page(answer, 500, "That did not work")
    assert answer.headers["X-Request-ID"] in answer.text
    assert "Traceback" not in answer.text and "not a time" not in answer.text
    token = {"Authorization": f"Bearer {registry.token_for('ada@example.org')}"}
    answer = requests.get(f"{registry.url}/api/v0/mlcubes/", headers=token, timeout=60)
    assert answer.status_code == 500 and answer.json()["detail"].startswith("Internal error")


def test_without_its_database_the_registry_says_so_on_a_page(
    visitor: Visitor, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "registry.db") as database:
        database.execute("ALTER TABLE tokens RENAME TO gone")
    answer = visitor.opens("/containers/")
    assert_is_page(answer, 503, "The registry is not available")
    assert "tokens" not in answer.text.partition("<main")[2]


def test_the_api_answers_in_json(registry: Registry, visitor: Visitor) -> None:
    for path, status in (("/api/v0/no/such", 401), ("/api/v0/mlcubes/", 401)):
        answer = visitor.opens(path)
        assert answer.status_code == status and answer.json()["detail"]
