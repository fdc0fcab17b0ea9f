"""Kinds that nobody foresaw: a thing, its association with benchmarks, and what came of that."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from sqlalchemy import select

from medperf_server.base import db
from medperf_server.kinds import KINDS
from tests.server.made_up.registry import Foresighted
from tests.server.visitor import signed_in
from tests.support.api import Body, Member, created, key_body, now, seen, since
from tests.support.forks import ROOT
from tests.support.registry import Registry
from tests.support.tus import content, digest, send

NAMES = (f"gadget-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def served(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Registry]:
    """In the place of the registries that know neither."""
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres").new_database() if postgres else None
    yield from Foresighted.serving(tmp_path_factory.mktemp("made-up"), url)


@pytest.fixture(scope="module")
def admin(served: Registry) -> Member:
    """Who approves benchmarks here."""
    return Member(served, "admin", admin=True)


@pytest.fixture
def owner(served: Registry) -> Member:
    """Who owns the gadget."""
    return Member(served, "gadgeteer")


@pytest.fixture
def gadget(owner: Member) -> Body:
    """The owner's gadget, for everyone to see."""
    return made(owner)


@pytest.fixture
def hidden(owner: Member) -> Body:
    """The owner's private gadget."""
    return made(owner, is_private=True)


@pytest.fixture
def fitting(owner: Member, gadget: Body, approved: Body) -> Body:
    """The owner's request that the gadget fits the committee's benchmark."""
    return asked(owner, gadget, approved)


def made(member: Member, **changes: object) -> Body:
    return created(member.post("/gadgets/", {"name": next(NAMES), **changes}))


def asked(member: Member, gadget: Body, benchmark: Body) -> Body:
    body = {"gadget": gadget["id"], "benchmark": benchmark["id"]}
    return created(member.post("/gadgets/benchmarks/", body))


def show(owner: Member, gadget: Body, guest: Member) -> None:
    created(owner.post(f"/gadgets/{gadget['id']}/guests/", {"user_id": guest.uid}))


def names(member: Member, path: str) -> set[str]:
    return {one["name"] for one in member.get(f"{path}?limit=1000").json()["results"]}


def figure(registry: Registry, name: str, title: str) -> float:
    text = requests.get(f"{registry.url}/metrics", timeout=60).text
    line = f'{name}{{type="{title}"}} '
    return float(next(one for one in text.splitlines() if one.startswith(line)).split()[1])


def test_it_is_created_and_listed(owner: Member, stranger: Member, gadget: Body) -> None:
    assert gadget["owner"] == owner.uid
    assert gadget["name"] in names(stranger, "/gadgets/")
    assert names(owner, "/me/gadgets/") == {gadget["name"]}
    assert names(stranger, "/me/gadgets/") == set()
    assert owner.get(f"/gadgets/{gadget['id']}/").json() == gadget


def test_its_rules_are_kept(owner: Member, stranger: Member, gadget: Body) -> None:
    taken = stranger.post("/gadgets/", {"name": gadget["name"]})
    assert taken.json() == {"name": [f"The name {gadget['name']!r} is taken"]}
    assert stranger.put(f"/gadgets/{gadget['id']}/", {}).status_code == 403


def test_it_is_created_exactly_once_by_its_key(owner: Member) -> None:
    start, key, body = now(owner), str(uuid4()), {"name": next(NAMES)}
    first, again = (owner.post("/gadgets/", body, key=key) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert seen(owner, start) == [("gadget", first.json()["id"], "created")]
    assert owner.post("/gadgets/", {"name": next(NAMES)}, key=key).status_code == 422


def test_what_is_private_is_seen_and_news_to_who_may_see_it(
    owner: Member, admin: Member, committee: Member, stranger: Member
) -> None:
    start = now(admin)
    gadget = made(owner, is_private=True)
    uid = gadget["id"]
    show(owner, gadget, committee)
    owner.put(f"/gadgets/{uid}/", {"manual_hash": "manual"})
    updated = ("gadget", uid, "updated")
    for member in (owner, admin):
        assert seen(member, start) == [("gadget", uid, "created"), updated, updated]
        assert since(member, start)[0]["entity"]["name"] == gadget["name"]
    assert seen(committee, start) == [updated, updated]
    assert seen(stranger, start) == []
    assert gadget["name"] in names(committee, "/gadgets/") - names(stranger, "/gadgets/")
    assert stranger.get(f"/gadgets/{uid}/").status_code == 404


def test_what_becomes_private_is_forgotten_by_everyone_else(
    owner: Member, stranger: Member, gadget: Body
) -> None:
    start = now(stranger)
    owner.put(f"/gadgets/{gadget['id']}/", {"is_private": True})
    (row,) = since(stranger, start)
    assert (row["type"], row["id"], row["entity"]) == ("gadget", gadget["id"], None)


def test_others_are_told_of_it_as_the_public_is(
    owner: Member, admin: Member, stranger: Member, gadget: Body
) -> None:
    start, path = now(admin), f"/gadgets/{gadget['id']}/"
    changed = owner.put(path, {"manual_hash": "manual", "battery": 90}).json()
    public = {name: value for name, value in changed.items() if name != "battery"}
    for member, known in ((owner, changed), (admin, changed), (stranger, public)):
        assert member.get(path).json() == known
        assert [row["entity"] for row in since(member, start)] == [known]


def test_what_is_quiet_is_no_news_and_known_at_once(
    owner: Member, admin: Member, stranger: Member, gadget: Body
) -> None:
    start, path = now(admin), f"/gadgets/{gadget['id']}/"
    audit = f"/audit/?entity_type=gadget&entity_id={gadget['id']}"
    public = stranger.get(path).headers["ETag"]
    for battery in (80, 70):
        owner.put(path, {"battery": battery})
        assert owner.get(path).json() == {**gadget, "battery": battery}
    assert now(admin) == start and admin.get(audit).json()["count"] == 1
    assert stranger.get(path).headers["ETag"] == public


def test_the_audit_log_has_it_and_its_guests(
    owner: Member, admin: Member, committee: Member, hidden: Body
) -> None:
    show(owner, hidden, committee)
    for kind, uid in (("gadget", hidden["id"]), ("gadget_member", f"{hidden['id']}/")):
        rows = admin.get(f"/audit/?entity_type={kind}&limit=1000").json()["results"]
        mine = [row for row in rows if row["entity_id"].startswith(str(uid))]
        assert [(row["user_id"], row["action"]) for row in mine] == [(owner.uid, "created")]
    assert mine[0]["after"] == {"gadget": hidden["id"], "user_id": committee.uid}


def test_figures_count_it(served: Registry, owner: Member, gadget: Body, approved: Body) -> None:
    gadgets = figure(served, "medperf_entities", "gadget")
    waiting = figure(served, "medperf_pending", "fitting")
    asked(owner, made(owner), approved)
    assert figure(served, "medperf_entities", "gadget") == gadgets + 1
    assert figure(served, "medperf_pending", "fitting") == waiting + 1


def test_a_page_shows_it_to_who_may_see_it(
    owner: Member, stranger: Member, gadget: Body, hidden: Body
) -> None:
    for member, shown in ((owner, [hidden, gadget]), (stranger, [gadget])):
        page = signed_in(member).opens(f"/gadgets/?owner={owner.uid}")
        assert page.text == "".join(f"{one['name']};" for one in shown)


def test_a_file_that_it_needs_stays(owner: Member) -> None:
    data = content(10)
    path = send(owner, data)
    made(owner, manual_hash=digest(data))
    refused = owner.delete(path)
    assert refused.status_code == 400 and "A gadget needs the file" in refused.text


def test_the_document_of_the_api_describes_it(served: Registry) -> None:
    paths = requests.get(f"{served.url}/api/v0/openapi.json", timeout=60).json()["paths"]
    told = {"/gadgets/", "/gadgets/{uid}/", "/gadgets/benchmarks/", "/me/gadgets/"}
    assert {f"/api/v0{path}" for path in told} <= set(paths)


def test_its_association_is_news_to_both_sides(
    owner: Member, committee: Member, admin: Member, stranger: Member, gadget: Body, approved: Body
) -> None:
    start = now(admin)
    fitting = asked(owner, gadget, approved)
    path = f"/gadgets/{gadget['id']}/benchmarks/{approved['id']}/"
    assert owner.put(path, {"approval_status": "APPROVED"}).status_code == 400
    assert stranger.put(path, {"approval_status": "APPROVED"}).status_code == 403
    assert committee.put(path, {"approval_status": "APPROVED"}).status_code == 200
    for member in (owner, committee, admin):
        assert seen(member, start) == [
            ("fitting", fitting["id"], "created"),
            ("fitting", fitting["id"], "updated"),
        ]
    assert seen(stranger, start) == []
    for member, mine in ((owner, [fitting["id"]]), (committee, [fitting["id"]]), (stranger, [])):
        listed = member.get("/me/gadgets/benchmarks/").json()["results"]
        assert [one["id"] for one in listed] == mine


@pytest.mark.parametrize("wrong", ["another is pending", "nothing there", "not approved"])
def test_the_rules_of_associations_hold_for_it(
    owner: Member, admin: Member, committee: Member, fitting: Body, approved: Body, wrong: str
) -> None:
    body = {"gadget": fitting["gadget"], "benchmark": approved["id"]}
    told = "a PENDING association of this gadget and benchmark exists"
    if wrong == "nothing there":
        body["gadget"] = 10**6
        told = "There is no gadget with UID 1000000"
    elif wrong == "not approved":
        body["benchmark"] = committee.benchmark()["id"]
        told = f"Benchmark {body['benchmark']} is PENDING, not APPROVED"
    asking = admin if wrong == "nothing there" else owner
    answer = asking.post("/gadgets/benchmarks/", body)
    assert answer.status_code == 400 and told in answer.text


def test_its_request_is_told_to_who_decides_and_the_decision_to_who_asked(
    owner: Member, committee: Member, gadget: Body, approved: Body, fitting: Body
) -> None:
    def told(member: Member) -> str:
        return requests.get(created(member.post("/me/notices/feed/", None))["url"], timeout=60).text

    asked = f"Gadget &#34;{gadget['name']}&#34; ({gadget['id']}) asks to be in benchmark"
    assert asked in told(committee) and asked not in told(owner)
    pair = f"/gadgets/{gadget['id']}/benchmarks/{approved['id']}/"
    assert committee.put(pair, {"approval_status": "APPROVED"}).ok
    assert asked not in told(committee)
    assert f"Gadget &#34;{gadget['name']}&#34; ({gadget['id']}) is approved in" in told(owner)


def test_its_association_is_hidden_with_either_side(
    owner: Member, committee: Member, hidden: Body, gadget: Body, fitting: Body, approved: Body
) -> None:
    mine = "/me/gadgets/benchmarks/"
    secret = asked(owner, hidden, approved)
    # Whoever may not see the gadget is not told of its request, until they are its guest.
    listed = committee.get(mine).json()["results"]
    assert [one["id"] for one in listed] == [fitting["id"]]
    start = now(committee)
    show(owner, hidden, committee)
    told = [("gadget", hidden["id"], "updated"), ("fitting", secret["id"], "updated")]
    assert seen(committee, start) == told
    # So it is with the benchmark.
    start = now(owner)
    committee.put(f"/benchmarks/{approved['id']}/", {"is_private": True})
    assert owner.get(mine).json()["results"] == []
    rows = since(owner, start)
    assert {(row["type"], row["id"]) for row in rows} == {
        ("benchmark", approved["id"]),
        ("fitting", fitting["id"]),
        ("fitting", secret["id"]),
    }
    assert [row["entity"] for row in rows] == [None] * 3


@pytest.fixture
def reading(owner: Member, gadget: Body, approved: Body) -> Body:
    """What the gadget showed in the committee's benchmark."""
    body = {"gadget": gadget["id"], "benchmark": approved["id"], "value": 7}
    return created(owner.post("/readings/", body))


def readings(member: Member) -> list[int]:
    return [one["id"] for one in member.get("/readings/?limit=1000").json()["results"]]


def test_what_is_told_to_parties_is_hidden_with_what_it_refers_to(
    owner: Member, committee: Member, admin: Member, stranger: Member, reading: Body, approved: Body
) -> None:
    for member, seen_ in ((owner, True), (committee, True), (admin, True), (stranger, False)):
        assert (reading["id"] in readings(member)) is seen_
    path, news = f"/benchmarks/{approved['id']}/", {}
    for private in (True, False):
        start = now(owner)
        committee.put(path, {"is_private": private})
        news[private] = {(r["type"], r["id"]): r["entity"] for r in since(owner, start)}
        assert (reading["id"] in readings(owner)) is not private
    assert news[True]["reading", reading["id"]] is None
    assert news[False]["reading", reading["id"]] == reading


def test_what_cascades_is_told_of_and_what_does_not_keeps_what_it_refers_to(
    owner: Member, admin: Member, reading: Body
) -> None:
    assert admin.delete(f"/gadgets/{reading['gadget']}/").status_code == 400
    start = now(owner)
    assert admin.delete(f"/benchmarks/{reading['benchmark']}/").status_code == 204
    assert ("reading", reading["id"], "deleted") in seen(owner, start)
    assert readings(owner) == []


@pytest.mark.parametrize("removed", ["gadget", "benchmark"])
def test_its_association_goes_with_either_side(
    owner: Member, admin: Member, fitting: Body, removed: str
) -> None:
    start = now(owner)
    assert admin.delete(f"/{removed}s/{fitting[removed]}/").status_code == 204
    assert seen(owner, start) == [
        ("fitting", fitting["id"], "deleted"),
        (removed, fitting[removed], "deleted"),
    ]


def test_lists_and_the_change_log_agree_on_who_sees_what(
    served: Registry,
    owner: Member,
    committee: Member,
    data_owner: Member,
    stranger: Member,
    requested: Body,
    result: Body,
) -> None:
    members = f"/benchmarks/{requested['benchmark']}/members/"
    committee.put(f"/benchmarks/{requested['benchmark']}/", {"is_private": True})
    created(committee.post(members, {"email": stranger.email}))
    created(owner.post("/keys/", key_body()))
    answers = set()
    with served.app.app_context():
        for kind in KINDS:
            for entity in db.session.scalars(select(kind.table)).all():
                viewers = kind.viewers(db.session(), entity)
                for member in (owner, committee, data_owner, stranger):
                    shown = kind.seen_by(member.uid)
                    found = db.session.scalar(
                        select(kind.table.id).where(kind.table.id == entity.id, shown)
                    )
                    assert (found is not None) == (viewers is None or member.uid in viewers)
                    answers.add((kind.name, found is not None))
    # Of each kind there is something, and of those not for all somebody who may not see it.
    assert len(answers) == 2 * len(KINDS) - sum(kind.sight is None for kind in KINDS)


# What is about certain kinds, and why.
MAY_SPELL = {
    "models.py": "an invitation may show a private benchmark",
    "invitations.py": "an invitation may show a private benchmark",
    "cli/invite.py": "an invitation may show a private benchmark",
    "web/pages/admin.py": "an invitation may show a private benchmark",
    "web/pages/home.py": "what waits for a member, in the order of what they do",
    "cli/user.py": "its help says what an admin does",
    "cli/audit.py": "its help has an example",
    "api/common.py": "a page of a list has its rows in `results`, of whatever kind they are",
    "readings.py": "what a test gave is a result, too",
}


def test_what_serves_every_kind_names_none() -> None:
    server = ROOT / "server" / "medperf_server"
    # Members are no kind like others: all that is done is done by one of them.
    folders = {path.parent.name for path in server.glob("kinds/*/table.py")} - {"user"}
    words = {word for kind in KINDS for word in (kind.name, kind.title)} - {"user"}
    assert len(folders) >= 3 and len(words) >= 4
    spelling = set()
    for path in server.rglob("*.py"):
        name = path.relative_to(server).as_posix()
        if not name.startswith(("kinds/", "migrations/")) and any(spelled(path, folders, words)):
            spelling.add(name)
    assert spelling == set(MAY_SPELL)


def spelled(path: Path, folders: set[str], words: set[str]) -> Iterator[str]:
    """What of a module names a kind, besides its words for people who read it."""
    imported = re.compile(rf"medperf_server\.kinds\.({'|'.join(folders)})\b")
    said = re.compile(rf"\b({'|'.join(words)})(es|s)?\b", re.IGNORECASE)
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = list(ast.walk(tree))
    told = {ast.get_docstring(one, clean=False) for one in nodes if isinstance(one, documented)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from filter(imported.match, names)
        elif isinstance(node, ast.Constant) and said.search(str(node.value)):
            yield from {node.value} - told
