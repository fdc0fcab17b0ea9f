"""Token scopes: read, submit, admin. A scope narrows what a token's owner may do."""

from collections.abc import Callable

import pytest

from tests.server.visitor import signed_in
from tests.support.api import Body, Member, NewMember, benchmark_body, container_body, now, since
from tests.support.registry import Registry

Narrowed = Callable[[Member, str], Member]
SCOPES = ("read", "submit", "admin")


@pytest.fixture
def narrowed(served: Registry) -> Narrowed:
    """The same member with another token: `narrowed(ada, "read")`."""

    def narrow(member: Member, scope: str) -> Member:
        from medperf_server.auth import issue_token
        from medperf_server.base import db

        with served.app.app_context():
            _, token = issue_token(member.uid, scope=scope)
            db.session.commit()
        copy = object.__new__(Member)
        copy.registry, copy.email, copy.uid = member.registry, member.email, member.uid
        copy.session = type(member.session)()
        copy.session.trust_env = False
        copy.session.headers["Authorization"] = f"Bearer {token}"
        return copy

    return narrow


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_reads(
    narrowed: Narrowed, model_owner: Member, model: Body, scope: str
) -> None:
    member = narrowed(model_owner, scope)
    assert member.get("/me/").json()["email"] == model_owner.email
    for path in (f"/mlcubes/{model['id']}/", "/mlcubes/", "/me/mlcubes/", "/changes/"):
        assert member.get(path).status_code == 200
        assert member.ask("HEAD", path).status_code == 200


WRITES: list[tuple[str, str, Body]] = [
    ("POST", "/mlcubes/", {}),
    ("PUT", "/mlcubes/{model}/", {"is_valid": False}),
    ("DELETE", "/mlcubes/{model}/", {}),
    ("POST", "/benchmarks/", {}),
    ("PUT", "/benchmarks/{benchmark}/", {"is_active": False}),
    ("DELETE", "/benchmarks/{benchmark}/", {}),
    ("POST", "/benchmarks/{benchmark}/members/", {"email": "ada@example.org"}),
    ("DELETE", "/benchmarks/{benchmark}/members/1/", {}),
    ("POST", "/mlcubes/benchmarks/", {}),
    ("PUT", "/mlcubes/{model}/benchmarks/{benchmark}/", {"priority": 1}),
    ("DELETE", "/mlcubes/{model}/benchmarks/{benchmark}/", {}),
    ("PUT", "/users/1/", {"first_name": "Eve"}),
    ("DELETE", "/users/1/", {}),
    ("PATCH", "/mlcubes/", {}),
    ("POST", "/nowhere/", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_reading_token_changes_nothing_not_even_an_admins(
    narrowed: Narrowed, admin: Member, requested: Body, method: str, path: str, body: Body
) -> None:
    path = path.format(model=requested["model_mlcube"], benchmark=requested["benchmark"])
    answer = narrowed(admin, "read").ask(method, path, json=body)
    assert answer.status_code == 403
    assert answer.json() == {"detail": "This token's scope is read: it cannot change anything"}


def test_a_reading_token_replays_no_write(
    narrowed: Narrowed, model_owner: Member, served: Registry
) -> None:
    body = container_body()
    assert model_owner.post("/mlcubes/", body, key="once").status_code == 201
    reading = narrowed(model_owner, "read")
    assert reading.post("/mlcubes/", body, key="once").status_code == 403


def test_a_submitting_token_submits(
    narrowed: Narrowed, model_owner: Member, approved: Body
) -> None:
    member = narrowed(model_owner, "submit")
    model = member.container()
    assert member.put(f"/mlcubes/{model['id']}/", {"is_valid": False}).status_code == 200
    assert member.post("/benchmarks/", benchmark_body(member)).status_code == 201
    body = {"model_mlcube": model["id"], "benchmark": approved["id"]}
    assert member.post("/mlcubes/benchmarks/", body).status_code == 201


ADMIN_ONLY: list[tuple[str, str, Body | None]] = [
    ("GET", "/users/", None),
    ("GET", "/users/{other}/", None),
    ("PUT", "/users/{other}/", {"first_name": "Eve"}),
    ("DELETE", "/users/{other}/", None),
    ("GET", "/audit/", None),
    ("PUT", "/benchmarks/{benchmark}/", {"approval_status": "REJECTED"}),
    ("PUT", "/benchmarks/{benchmark}/", {"is_active": False}),
    ("DELETE", "/benchmarks/{benchmark}/", None),
    ("GET", "/benchmarks/{benchmark}/models/", None),
    ("GET", "/benchmarks/{benchmark}/members/", None),
    ("PUT", "/mlcubes/{model}/", {"is_valid": False}),
    ("DELETE", "/mlcubes/{model}/", None),
    ("GET", "/mlcubes/{model}/benchmarks/{benchmark}/", None),
    ("PUT", "/mlcubes/{model}/benchmarks/{benchmark}/", {"approval_status": "REJECTED"}),
    ("DELETE", "/mlcubes/{model}/benchmarks/{benchmark}/", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ONLY)
def test_only_the_admin_scope_lets_an_admin_be_one(
    narrowed: Narrowed,
    admin: Member,
    requested: Body,
    stranger: Member,
    method: str,
    path: str,
    body: Body | None,
) -> None:
    uids = {"model": requested["model_mlcube"], "benchmark": requested["benchmark"]}
    path = path.format(**uids, other=stranger.uid)
    for scope in ("read", "submit"):
        assert narrowed(admin, scope).ask(method, path, json=body).status_code == 403, scope
    assert narrowed(admin, "admin").ask(method, path, json=body).status_code < 300


def test_an_admins_other_tokens_see_no_private_benchmark_and_no_ones_news(
    narrowed: Narrowed, admin: Member, committee: Member, join: NewMember
) -> None:
    hidden, cursor = committee.benchmark(is_private=True), now(admin)
    newcomer = join("newcomer")

    def heard_of(scope: str) -> list[int]:
        changes = since(narrowed(admin, scope), cursor)
        return [row["id"] for row in changes if row["type"] == "user"]

    path = f"/benchmarks/{hidden['id']}/"
    assert narrowed(admin, "admin").get(path).status_code == 200
    assert newcomer.uid in heard_of("admin")
    for scope in ("read", "submit"):
        assert narrowed(admin, scope).get(path).status_code == 404
        assert newcomer.uid not in heard_of(scope)


def test_the_admin_scope_makes_nobody_an_admin(
    narrowed: Narrowed, stranger: Member, approved: Body
) -> None:
    member = narrowed(stranger, "admin")
    assert member.get("/users/").status_code == 403
    assert member.get("/audit/").status_code == 403
    assert member.delete(f"/benchmarks/{approved['id']}/").status_code == 403


def test_a_session_is_no_bearer_token(served: Registry, stranger: Member) -> None:
    from medperf_server.auth import issue_token
    from medperf_server.base import db
    from medperf_server.models import Token

    with served.app.app_context():
        uid, token = issue_token(stranger.uid)
        db.session.get_one(Token, uid).is_session = True
        db.session.commit()
    stranger.session.headers["Authorization"] = f"Bearer {token}"
    assert stranger.get("/me/").status_code == 401


def test_who_is_not_active_gets_nowhere_and_comes_back(served: Registry, stranger: Member) -> None:
    from medperf_server.base import db
    from medperf_server.kinds.user.table import User

    for is_active, status in ((False, 401), (True, 200)):
        with served.app.app_context():
            db.session.get_one(User, stranger.uid).is_active = is_active
            db.session.commit()
        assert stranger.get("/me/").status_code == status


def test_a_browser_signed_in_to_read_sends_no_form_but_the_last(
    narrowed: Narrowed, committee: Member, requested: Body
) -> None:
    browser = signed_in(narrowed(committee, "read"))
    page = f"/associations/{requested['id']}"
    assert browser.opens(page).status_code == 200
    assert browser.fills(page, {"approval_status": "APPROVED"}).status_code == 403
    assert browser.fills("/tokens/", {"name": "mine", "scope": "read"}).status_code == 403
    pair = f"/mlcubes/{requested['model_mlcube']}/benchmarks/{requested['benchmark']}/"
    assert committee.get(pair).json()[0]["approval_status"] == "PENDING"
    assert browser.fills("/sign-out", {}).status_code == 200


def test_a_browser_signed_in_to_submit_decides_and_does_not_administer(
    narrowed: Narrowed, admin: Member, stranger: Member
) -> None:
    browser = signed_in(narrowed(admin, "submit"))
    for path in ("/admin/", "/admin/audit", "/admin/invitations", f"/admin/members/{stranger.uid}"):
        assert browser.opens(path).status_code == 403, path
    assert browser.fills(f"/admin/members/{stranger.uid}", {"is_admin": "on"}).status_code == 403
    assert browser.fills("/admin/invitations", {"email": "eve@example.org"}).status_code == 403
    assert browser.fills("/tokens/", {"name": "laptop", "scope": "submit"}).status_code == 200


def test_no_browser_makes_a_token_that_may_do_more_than_its_own(
    narrowed: Narrowed, admin: Member
) -> None:
    browser = signed_in(narrowed(admin, "submit"))
    assert browser.fills("/tokens/", {"name": "more", "scope": "admin"}).status_code == 403
