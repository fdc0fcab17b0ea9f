"""Who may do what: every path and method, by role, as the contract says."""

import pytest
import requests

from tests.support.api import Body, Member, created
from tests.support.registry import Registry

ROLES = ("stranger", "model_owner", "committee", "admin")
EVERYBODY, ADMIN = set(ROLES), {"admin"}
EITHER_SIDE = {"model_owner", "committee", "admin"}
COMMITTEE, MODEL_OWNER = {"committee", "admin"}, {"model_owner", "admin"}

PAIR = "/mlcubes/{model}/benchmarks/{benchmark}/"

# Method, path, body, who may. The model owner's association with the committee's benchmark is
# PENDING. Whoever may not gets 403.
RULES: list[tuple[str, str, Body | None, set[str]]] = [
    ("GET", "/me/", None, EVERYBODY),
    ("GET", "/me/benchmarks/", None, EVERYBODY),
    ("GET", "/me/mlcubes/", None, EVERYBODY),
    ("GET", "/me/mlcubes/associations/", None, EVERYBODY),
    ("GET", "/changes/", None, EVERYBODY),
    ("GET", "/benchmarks/", None, EVERYBODY),
    ("GET", "/benchmarks/{benchmark}/", None, EVERYBODY),
    ("PUT", "/benchmarks/{benchmark}/", {"is_active": True}, COMMITTEE),
    ("PUT", "/benchmarks/{benchmark}/", {"approval_status": "REJECTED"}, ADMIN),
    ("DELETE", "/benchmarks/{benchmark}/", None, ADMIN),
    ("GET", "/benchmarks/{benchmark}/models/", None, COMMITTEE),
    ("GET", "/mlcubes/", None, EVERYBODY),
    ("GET", "/mlcubes/{model}/", None, EVERYBODY),
    ("PUT", "/mlcubes/{model}/", {"is_valid": True}, MODEL_OWNER),
    ("DELETE", "/mlcubes/{model}/", None, ADMIN),
    ("GET", PAIR, None, EITHER_SIDE),
    ("PUT", PAIR, {"approval_status": "REJECTED"}, EITHER_SIDE),
    ("PUT", PAIR, {"priority": 3}, COMMITTEE),
    ("DELETE", PAIR, None, ADMIN),
    ("GET", "/users/", None, ADMIN),
    ("GET", "/users/{stranger}/", None, {"stranger", "admin"}),
    ("PUT", "/users/{stranger}/", {"first_name": "Ada"}, ADMIN),
    ("DELETE", "/users/{stranger}/", None, ADMIN),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"), RULES, ids=[f"{m} {p} {b or ''}" for m, p, b, _ in RULES]
)
def test_only_these_roles_may(
    request: pytest.FixtureRequest,
    requested: Body,
    stranger: Member,
    method: str,
    path: str,
    body: Body | None,
    allowed: set[str],
) -> None:
    uids = {"benchmark": requested["benchmark"], "model": requested["model_mlcube"]}
    path = path.format(**uids, stranger=stranger.uid)

    def answer(role: str) -> requests.Response:
        member: Member = request.getfixturevalue(role)
        return member.ask(method, path, json=body)

    for role in sorted(set(ROLES) - allowed):
        refused = answer(role)
        assert refused.status_code == 403, role
        assert "permission" in refused.json()["detail"]
    first, *others = sorted(allowed)
    assert answer(first).status_code < 300, first
    for role in others:  # What has been done once may be refused now, but not for the role.
        assert answer(role).status_code in (200, 400), role


ALLOWED = {(method, path): allowed for method, path, _, allowed in RULES}
SECRETIVE = sorted(rule for rule, allowed in ALLOWED.items() if "stranger" not in allowed)
WRONG_BODIES = [b"", b"{", b"[]", b'{"name": 1, "approval_status": 1, "first_name": 1}']


@pytest.mark.parametrize("body", WRONG_BODIES)
@pytest.mark.parametrize(("method", "path"), SECRETIVE)
def test_who_lacks_the_role_learns_nothing_else(
    requested: Body, stranger: Member, method: str, path: str, body: bytes
) -> None:
    uids = {"benchmark": requested["benchmark"], "model": requested["model_mlcube"]}
    query = "?limit=none&action=none" if method == "GET" else ""
    path = path.format(**uids, stranger=stranger.uid) + query
    assert stranger.ask(method, path, data=body).status_code == 403


@pytest.mark.parametrize("body", [{"approval_status": "REJECTED"}, {"priority": 1}, {}])
def test_nobody_else_learns_whether_a_pair_has_an_association(
    stranger: Member, model_owner: Member, model: Body, approved: Body, pair: str, body: Body
) -> None:
    before = stranger.put(pair, body)
    created(
        model_owner.post(
            "/mlcubes/benchmarks/", {"model_mlcube": model["id"], "benchmark": approved["id"]}
        )
    )
    after = stranger.put(pair, body)
    assert before.status_code == after.status_code == 403 and before.content == after.content


@pytest.mark.parametrize("role", ROLES)
def test_either_owner_or_an_admin_asks_for_an_association(
    request: pytest.FixtureRequest, request_body: Body, role: str
) -> None:
    member: Member = request.getfixturevalue(role)
    answer = member.post("/mlcubes/benchmarks/", request_body)
    assert answer.status_code == (201 if role in EITHER_SIDE else 403)


@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("method", "path"), sorted({(method, path) for method, path, _, _ in RULES})
)
def test_nobody_without_a_token(served: Registry, method: str, path: str) -> None:
    url = served.url + "/api/v0" + path.format(benchmark=1, model=1, stranger=1)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        answer = requests.request(method, url, headers=headers, json={}, timeout=60)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "token" in answer.json()["detail"]


def test_an_admin_manages_members(admin: Member, stranger: Member) -> None:
    path = f"/users/{stranger.uid}/"
    names = {"username": f"u{stranger.uid}", "first_name": "Ada", "last_name": "Lovelace"}
    answer = admin.put(path, names)
    assert answer.json() == {"id": stranger.uid, "email": stranger.email, **names}
    assert stranger.get("/me/").json() == answer.json()
    taken = admin.put(path, {"email": admin.email.upper()})
    assert taken.status_code == 400 and admin.email.upper() in taken.json()["email"][0]
    assert admin.delete(path).status_code == 204
    assert stranger.get("/me/").status_code == 401


def test_a_member_who_owns_something_stays(admin: Member, model_owner: Member, model: Body) -> None:
    assert admin.delete(f"/users/{model_owner.uid}/").status_code == 400
    assert model_owner.get("/me/").status_code == 200


def test_no_answer_shows_a_secret(admin: Member) -> None:
    shown = admin.get(f"/users/{admin.uid}/").json()
    assert set(shown) == {"id", "username", "email", "first_name", "last_name"}
