"""Every path, by every method, for every role: what the contract says, cell by cell.

The table is written from the contract, not from the code; a path or a method that the registry
offers and the table lacks fails the test.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
import requests

from tests.support.api import NUMBERS, Body, Member, container_body, created, dataset_body, key_body
from tests.support.registry import Registry

# `model_owner` and `data_owner` each own what is associated with the benchmark of the `committee`;
# `reader` is an admin whose token's scope is read.
ROLES = ("anonymous", "stranger", "model_owner", "data_owner", "committee", "admin", "reader")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
READING = ("GET", "HEAD")

# A status for each role, in this order.
Row = tuple[int, int, int, int, int, int, int]


def row(
    stranger: int,
    model_owner: int,
    committee: int,
    admin: int,
    reader: int = 403,
    data_owner: int | None = None,
) -> Row:
    """Nothing for who has no token; and for a reading token nothing that changes anything.

    A data owner is a stranger where nothing else is said.
    """
    data_owner = stranger if data_owner is None else data_owner
    return 401, stranger, model_owner, data_owner, committee, admin, reader


OPEN: Row = (200,) * 7
ALL = row(200, 200, 200, 200, reader=200)
ADMIN = row(403, 403, 403, 200)
COMMITTEE = row(403, 403, 200, 200)
MAKING_ONE = row(201, 201, 201, 201)
REMOVING = row(403, 403, 403, 204)
# The two sides of a dataset's association.
DATA_SIDES = row(403, 403, 200, 200, data_owner=200)
# Where the caller's own things are, others find none.
THEIRS = row(404, 204, 404, 404)

MATRIX: dict[str, dict[str, Row]] = {
    "/version": {"GET": OPEN},
    "/openapi.json": {"GET": OPEN},
    "/docs": {"GET": OPEN},
    "/changes/": {"GET": ALL},
    "/me/": {"GET": ALL},
    "/me/benchmarks/": {"GET": ALL},
    "/me/mlcubes/": {"GET": ALL},
    "/me/mlcubes/associations/": {"GET": ALL},
    "/me/assets/": {"GET": ALL},
    "/me/datasets/": {"GET": ALL},
    "/me/results/": {"GET": ALL},
    "/me/keys/": {"GET": ALL},
    "/me/notices/": {"GET": ALL, "PUT": row(200, 200, 200, 200)},
    "/me/notices/feed/": {"POST": MAKING_ONE, "DELETE": row(204, 204, 204, 204)},
    "/keys/": {"GET": ALL, "POST": MAKING_ONE},
    # The model owner's.
    "/keys/{key}/": {"GET": ALL, "PUT": row(403, 200, 403, 200)},
    "/me/datasets/associations/": {"GET": ALL},
    "/datasets/": {"GET": ALL, "POST": MAKING_ONE},
    # One that nothing refers to.
    "/datasets/{spare_dataset}/": {
        "GET": ALL,
        "PUT": row(403, 403, 403, 200, data_owner=200),
        "DELETE": REMOVING,
    },
    "/datasets/benchmarks/": {"POST": row(403, 403, 201, 201, data_owner=201)},
    "/datasets/{asking}/benchmarks/{benchmark}/": {
        "GET": DATA_SIDES,
        "PUT": DATA_SIDES,
        "DELETE": REMOVING,
    },
    "/results/": {"GET": ADMIN, "POST": row(403, 403, 403, 201, data_owner=201)},
    "/results/{result}/": {"GET": DATA_SIDES, "PUT": ADMIN, "DELETE": REMOVING},
    "/users/": {"GET": ADMIN},
    # The stranger's own page.
    "/users/{stranger}/": {
        "GET": row(200, 403, 403, 200, data_owner=403),
        "PUT": ADMIN,
        "DELETE": REMOVING,
    },
    # The page of who owns datasets, which containers of both others prepare.
    "/users/{data_owner}/": {
        "GET": row(403, 200, 200, 200, data_owner=200),
        "PUT": ADMIN,
        "DELETE": row(403, 403, 403, 400),
    },
    "/benchmarks/": {"GET": ALL, "POST": MAKING_ONE},
    "/benchmarks/{benchmark}/": {
        "GET": ALL,
        "PUT": COMMITTEE,
        "DELETE": REMOVING,
    },
    "/benchmarks/{benchmark}/models/": {"GET": DATA_SIDES},
    "/benchmarks/{benchmark}/datasets/": {"GET": COMMITTEE},
    "/benchmarks/{benchmark}/results/": {"GET": COMMITTEE},
    # One that is not published; the data owner has a result.
    "/benchmarks/{benchmark}/ranking/": {"GET": DATA_SIDES},
    "/benchmarks/{benchmark}/members/": {"GET": COMMITTEE, "POST": row(403, 403, 201, 201)},
    "/benchmarks/{benchmark}/members/{stranger}/": {"DELETE": row(403, 403, 204, 204)},
    "/mlcubes/": {"GET": ALL, "POST": MAKING_ONE},
    "/mlcubes/{model}/": {
        "GET": ALL,
        "PUT": row(403, 200, 403, 200),
        "DELETE": REMOVING,
    },
    # Of one in DEVELOPMENT; in OPERATION it is no role that is missing.
    "/mlcubes/{draft}/datasets/": {"GET": row(403, 200, 403, 200)},
    "/mlcubes/{model}/datasets/": {"GET": row(403, 400, 403, 400)},
    "/mlcubes/benchmarks/": {"POST": row(403, 201, 201, 201)},
    "/mlcubes/{model}/benchmarks/{benchmark}/": {
        "GET": row(403, 200, 200, 200),
        "PUT": row(403, 200, 200, 200),
        "DELETE": REMOVING,
    },
    "/audit/": {"GET": ADMIN},
    "/assets/": {"POST": MAKING_ONE},
    # The model owner's file, and what they are about to send.
    "/assets/{asset}": {"GET": ALL, "DELETE": THEIRS},
    "/assets/uploads/{upload}/": {
        "HEAD": row(404, 200, 404, 404, reader=404),
        "POST": THEIRS,
        "PATCH": THEIRS,
        "DELETE": THEIRS,
    },
}
# What one field decides.
OF_FIELDS: list[tuple[str, str, Body, Row]] = [
    ("PUT", "/benchmarks/{benchmark}/", {"approval_status": "REJECTED"}, ADMIN),
    ("PUT", "/benchmarks/{benchmark}/", {"is_private": True}, COMMITTEE),
    ("PUT", "/benchmarks/{benchmark}/", {"ranking_published": True}, COMMITTEE),
    ("PUT", "/mlcubes/{model}/benchmarks/{benchmark}/", {"priority": 3}, COMMITTEE),
    # Whoever asked for it, the model owner here, cannot approve it: a rule, and no lack of role.
    (
        "PUT",
        "/mlcubes/{model}/benchmarks/{benchmark}/",
        {"approval_status": "APPROVED"},
        row(403, 400, 200, 200),
    ),
    (
        "PUT",
        "/datasets/{asking}/benchmarks/{benchmark}/",
        {"approval_status": "APPROVED"},
        row(403, 403, 200, 200, data_owner=400),
    ),
    ("POST", "/benchmarks/{benchmark}/members/", {"user": 1}, row(403, 403, 403, 201)),
]
# What is the committee's, of a benchmark that is private now: nobody else finds it.
HIDDEN: dict[str, dict[str, Row]] = {
    "/benchmarks/{benchmark}/": {
        "GET": row(404, 404, 200, 200, reader=404),
        "PUT": row(404, 404, 200, 200),
        "DELETE": REMOVING,
    },
    "/benchmarks/{benchmark}/models/": {"GET": row(404, 404, 200, 200, reader=404)},
    "/benchmarks/{benchmark}/datasets/": {"GET": row(404, 404, 200, 200, reader=404)},
    "/benchmarks/{benchmark}/results/": {"GET": row(404, 404, 200, 200, reader=404)},
    "/benchmarks/{benchmark}/ranking/": {"GET": row(404, 404, 200, 200, reader=404)},
    "/datasets/benchmarks/": {"POST": row(403, 403, 201, 201, data_owner=400)},
    "/datasets/{asking}/benchmarks/{benchmark}/": {
        "GET": row(404, 404, 200, 200, reader=404),
        "PUT": row(404, 404, 200, 200),
        "DELETE": REMOVING,
    },
    "/results/": {"POST": row(403, 403, 403, 201, data_owner=400)},
    "/results/{result}/": {"GET": COMMITTEE, "PUT": ADMIN, "DELETE": REMOVING},
    "/benchmarks/{benchmark}/members/": {
        "GET": row(404, 404, 200, 200, reader=404),
        "POST": row(404, 404, 201, 201),
    },
    "/benchmarks/{benchmark}/members/{model_owner}/": {"DELETE": row(404, 404, 404, 404)},
    "/mlcubes/{model}/benchmarks/{benchmark}/": {
        "GET": row(404, 404, 200, 200, reader=404),
        "PUT": row(404, 404, 200, 200),
        "DELETE": REMOVING,
    },
}

TUS = {"Tus-Resumable": "1.0.0"}


def announced(data: bytes) -> dict[str, str]:
    """The headers that announce a file (tus 1.0.0)."""
    digest = b64encode(sha256(data).hexdigest().encode()).decode()
    return {**TUS, "Upload-Length": str(len(data)), "Upload-Metadata": f"sha256 {digest}"}


@dataclass
class World:
    """A member of each role, and the things that the paths name."""

    members: dict[str, Member]
    uids: dict[str, Any]
    # Another container of the model owner.
    spare: int
    # What the data owner sends as a result.
    result: Body

    @property
    def registry(self) -> Registry:
        """Where it all is."""
        return self.members["admin"].registry

    def ask(self, role: str, method: str, path: str, body: Body | None) -> requests.Response:
        """What somebody in this role is answered, who sends what such a request needs."""
        headers, data = {}, None
        if path.startswith("/assets/"):
            headers = {**TUS, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
            headers |= {"Content-Type": "application/offset+octet-stream"}
            if path == "/assets/":
                headers |= announced(f"file {next(NUMBERS)}".encode())
            body, data = None, b"a" if method in ("POST", "PATCH") else None
        member = self.members[role]
        return member.ask(method, path.format(**self.uids), json=body, data=data, headers=headers)

    def body(self, method: str, path: str) -> Body | None:
        """What makes the request a good one, whoever sends it."""
        if method == "POST" and path == "/mlcubes/":
            return container_body()
        if method == "POST" and path == "/benchmarks/":
            roles = ("data_preparation", "reference_model", "data_evaluator")
            uids = {f"{role}_mlcube": self.uids["model"] for role in roles}
            name = f"benchmark-{next(NUMBERS)}"
            where = "https://example.org/demo"
            demo = {"demo_dataset_tarball_url": where, "demo_dataset_tarball_hash": "demo"}
            return {"name": name, **demo, **uids}
        if method == "POST" and path == "/mlcubes/benchmarks/":
            return {"model_mlcube": self.spare, "benchmark": self.uids["benchmark"]}
        if method == "POST" and path == "/datasets/":
            return dataset_body(self.uids["preparator"])
        if method == "POST" and path == "/datasets/benchmarks/":
            sides = {"dataset": self.uids["spare_dataset"], "benchmark": self.uids["benchmark"]}
            return {**sides, "metadata": {"test_result": {}}}
        if method == "POST" and path == "/results/":
            return self.result
        if method == "POST" and path == "/keys/":
            return key_body()
        if method == "POST" and path == "/benchmarks/{benchmark}/members/":
            return {"email": self.members["committee"].email}
        if method == "PUT":
            return {
                "/users/{stranger}/": {"first_name": "Ada"},
                "/benchmarks/{benchmark}/": {"is_active": False},
                "/mlcubes/{model}/": {"is_valid": False},
                "/mlcubes/{model}/benchmarks/{benchmark}/": {"approval_status": "REJECTED"},
                "/users/{data_owner}/": {"first_name": "Grace"},
                "/datasets/{spare_dataset}/": {"is_valid": False},
                "/datasets/{asking}/benchmarks/{benchmark}/": {"approval_status": "REJECTED"},
                "/results/{result}/": {"approval_status": "APPROVED"},
                "/keys/{key}/": {"is_revoked": True},
            }.get(path, {})
        return None


def make_members(registry: Registry) -> dict[str, Member]:
    """A new member of each role."""
    from medperf_server.auth import issue_token
    from medperf_server.base import db

    members = {role: Member(registry, role) for role in ROLES if role not in ("admin", "reader")}
    members |= {role: Member(registry, role, admin=True) for role in ("admin", "reader")}
    with registry.app.app_context():
        _, token = issue_token(members["reader"].uid, scope="read")
        db.session.commit()
    members["reader"].session.headers["Authorization"] = f"Bearer {token}"
    del members["anonymous"].session.headers["Authorization"]
    return members


def make_world(members: dict[str, Member]) -> World:
    """An approved benchmark of theirs, and an association with it that waits."""
    owner, committee = members["model_owner"], members["committee"]
    model, spare = owner.container()["id"], owner.container()["id"]
    benchmark = committee.benchmark()["id"]
    approval = {"approval_status": "APPROVED"}
    assert members["admin"].put(f"/benchmarks/{benchmark}/", approval).ok
    created(owner.post("/mlcubes/benchmarks/", {"model_mlcube": model, "benchmark": benchmark}))
    guest = {"email": members["stranger"].email}
    created(committee.post(f"/benchmarks/{benchmark}/members/", guest))
    uids = {role: members[role].uid for role in ("stranger", "model_owner", "data_owner")}
    uids |= {"model": model, "benchmark": benchmark}
    uids["key"] = created(owner.post("/keys/", key_body()))["id"]
    uids["draft"] = owner.container(state="DEVELOPMENT")["id"]
    uids["preparator"] = members["admin"].container()["id"]
    data, result = data_of(members, benchmark)
    created(members["data_owner"].post("/datasets/", dataset_body(uids["draft"])))
    return World(members, {**uids, **data, **files(owner)}, spare, result)


def data_of(members: dict[str, Member], benchmark: int) -> tuple[dict[str, int], Body]:
    """The data owner's datasets: one in the benchmark and with a result, one that asks to be, and
    one more; and what is sent as a result."""
    owner, committee = members["data_owner"], members["committee"]
    container = committee.get(f"/benchmarks/{benchmark}/").json()["reference_model_mlcube"]
    taken, asking, spare = (owner.dataset(container)["id"] for _ in range(3))
    for uid in (taken, asking):
        sides = {"dataset": uid, "benchmark": benchmark}
        created(owner.post("/datasets/benchmarks/", {**sides, "metadata": {"test_result": {}}}))
    decision = {"approval_status": "APPROVED"}
    assert committee.put(f"/datasets/{taken}/benchmarks/{benchmark}/", decision).ok
    body = {"benchmark": benchmark, "model": container, "dataset": taken, "results": {"auroc": 1}}
    result = created(owner.post("/results/", body))["id"]
    return {"asking": asking, "spare_dataset": spare, "result": result}, body


@pytest.fixture(scope="session")
def quiet_world(served: Registry) -> World:
    """A world for what changes nothing in it."""
    return make_world(make_members(served))


def files(owner: Member) -> dict[str, str]:
    """A file that the owner keeps in the registry, and one on its way in: one byte, `a`..."""
    data = f"asset {next(NUMBERS)}".encode()
    begun = created(owner.ask("POST", "/assets/", headers=announced(data)))
    headers = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    path = f"/assets/uploads/{begun['upload']}/"
    assert owner.ask("PATCH", path, data=data, headers=headers).status_code == 204
    coming = created(owner.ask("POST", "/assets/", headers=announced(b"a" * next(NUMBERS) + b"b")))
    return {"asset": begun["sha256"], "upload": coming["upload"]}


# What is made by these is one more, and stands in nobody's way.
MAKING = {("POST", path) for path in ("/mlcubes/", "/assets/", "/datasets/", "/results/", "/keys/")}
MakeWorld = Callable[[dict[str, Member]], World]


def check(
    quiet: World, make: MakeWorld, method: str, path: str, body: Body | None, expected: Row
) -> None:
    """Ask in every role: in a new world each who may, and in one that stays as it is the others."""
    found = []
    for role, status in zip(ROLES, expected, strict=True):
        place = quiet
        if status < 300 and method not in READING and (method, path) not in MAKING:
            # What changes a member, or has them wait for an admin, is done to others than these.
            of_members = path.startswith("/users/") or path == "/benchmarks/"
            place = make(make_members(quiet.registry) if of_members else quiet.members)
        sent = place.body(method, path) if body is None else body
        found.append((role, place.ask(role, method, path, sent).status_code))
    assert found == list(zip(ROLES, expected, strict=True))


CELLS = [(method, path) for path in MATRIX for method in METHODS]


def expected_of(method: str, path: str) -> Row:
    """The row of a method; HEAD is as GET, and what the contract lacks is 405."""
    known = MATRIX[path]
    if method == "HEAD" and "HEAD" not in known and "GET" in known:
        return known["GET"]
    # Nobody without a token learns so much as which methods there are; a reading token is told
    # what it cannot do before that.
    absent = (405 if known.get("GET") == OPEN else 401, *(405,) * 5)
    reader = 405 if known.get("GET") == OPEN or method in READING else 403
    return known.get(method, (*absent, reader))  # type: ignore[return-value]


@pytest.mark.parametrize(("method", "path"), CELLS, ids=[f"{m} {p}" for m, p in CELLS])
def test_what_every_role_is_answered(quiet_world: World, method: str, path: str) -> None:
    check(quiet_world, make_world, method, path, None, expected_of(method, path))


@pytest.mark.parametrize(("method", "path", "body", "expected"), OF_FIELDS)
def test_what_one_field_decides(
    quiet_world: World, method: str, path: str, body: Body, expected: Row
) -> None:
    check(quiet_world, make_world, method, path, body, expected)


def make_hidden_world(members: dict[str, Member]) -> World:
    """A world whose benchmark has become private; nobody is invited."""
    place = make_world(members)
    committee, benchmark = place.members["committee"], place.uids["benchmark"]
    invited = f"/benchmarks/{benchmark}/members/"
    assert committee.delete(f"{invited}{place.uids['stranger']}/").status_code == 204
    assert committee.put(f"/benchmarks/{benchmark}/", {"is_private": True}).ok
    return place


@pytest.fixture(scope="session")
def quiet_hidden_world(served: Registry) -> World:
    """A hidden world for what changes nothing."""
    return make_hidden_world(make_members(served))


HIDDEN_CELLS = [(method, path) for path, methods in HIDDEN.items() for method in methods]


@pytest.mark.parametrize(("method", "path"), HIDDEN_CELLS)
def test_what_every_role_is_answered_about_a_private_benchmark(
    quiet_hidden_world: World, method: str, path: str
) -> None:
    check(quiet_hidden_world, make_hidden_world, method, path, None, HIDDEN[path][method])


def test_the_matrix_lacks_nothing_that_the_registry_offers(served: Registry) -> None:
    def unnamed(path: str) -> str:
        return re.sub(r"\{\w+\}", "{}", path)

    document = requests.get(f"{served.url}/api/v0/openapi.json", timeout=60).json()
    offered = {
        (method.upper(), unnamed(path).removeprefix("/api/v0"))
        for path, methods in document["paths"].items()
        for method in methods
        if method.upper() in METHODS
    }
    written = {(method, unnamed(path)) for path, known in MATRIX.items() for method in known}
    # The document does not describe itself.
    assert offered == written - {("GET", "/openapi.json")}
