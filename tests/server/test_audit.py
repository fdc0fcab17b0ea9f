"""The audit log: every change leaves one entry, which nobody can take back and admins can read."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError

from tests.server.visitor import Visitor, signed_in, token_of
from tests.support.api import Body, Member, container_body, created
from tests.support.forks import ROOT
from tests.support.registry import Registry

Log = Callable[[], list[Body]]


@pytest.fixture
def log(served: Registry) -> Log:
    """What was logged since the test began, oldest first, as the table has it."""
    from medperf_server.base import db
    from medperf_server.models import AuditEntry

    with served.app.app_context():
        start = db.session.scalar(select(func.max(AuditEntry.id))) or 0

    def entries() -> list[Body]:
        with served.app.app_context():
            rows = db.session.scalars(
                select(AuditEntry).where(AuditEntry.id > start).order_by(AuditEntry.id)
            )
            columns = [column.name for column in AuditEntry.__table__.columns]
            return [{name: getattr(row, name) for name in columns} for row in rows]

    return entries


def names(entries: list[Body]) -> list[tuple[str, str, str]]:
    return [(entry["action"], entry["entity_type"], entry["entity_id"]) for entry in entries]


# Method, path, body, who does it, and what the entry names.
PAIR = "/mlcubes/{model}/benchmarks/{benchmark}/"
CHANGES: list[tuple[str, str, Body, str, str, str, str]] = [
    (
        "PUT",
        "/mlcubes/{model}/",
        {"is_valid": False},
        "model_owner",
        "updated",
        "mlcube",
        "{model}",
    ),
    (
        "PUT",
        "/benchmarks/{benchmark}/",
        {"is_active": False},
        *("committee", "updated", "benchmark", "{benchmark}"),
    ),
    (
        "POST",
        "/benchmarks/{benchmark}/members/",
        {"user": "{stranger}"},
        *("admin", "created", "benchmark_member", "{benchmark}/{stranger}"),
    ),
    ("PUT", PAIR, {"priority": 3}, "committee", "updated", "association", "{association}"),
    (
        "PUT",
        PAIR,
        {"approval_status": "APPROVED", "reason": "It is good"},
        *("committee", "updated", "association", "{association}"),
    ),
    ("DELETE", PAIR, {}, "admin", "deleted", "association", "{association}"),
    (
        "PUT",
        "/users/{stranger}/",
        {"first_name": "Ada"},
        *("admin", "updated", "user", "{stranger}"),
    ),
    ("DELETE", "/users/{stranger}/", {}, "admin", "deleted", "user", "{stranger}"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "who", "action", "kind", "uid"),
    CHANGES,
    ids=[f"{change[0]} {change[1]} {list(change[2])}" for change in CHANGES],
)
def test_a_change_by_the_api_leaves_one_entry(
    request: pytest.FixtureRequest,
    requested: Body,
    stranger: Member,
    log: Log,
    method: str,
    path: str,
    body: Body,
    who: str,
    action: str,
    kind: str,
    uid: str,
) -> None:
    member: Member = request.getfixturevalue(who)
    uids = {
        "model": requested["model_mlcube"],
        "benchmark": requested["benchmark"],
        "association": requested["id"],
        "stranger": stranger.uid,
    }
    sent = {key: uids["stranger"] if key == "user" else value for key, value in body.items()}
    before = names(log())
    answer = member.ask(method, path.format(**uids), json=sent, headers={"X-Request-ID": "req-1"})
    assert answer.status_code < 300, answer.text
    entry, *more = log()[len(before) :]
    assert not more
    assert names([entry]) == [(action, kind, uid.format(**uids))]
    assert (entry["user_id"], entry["actor"]) == (member.uid, member.email)
    assert (entry["address"], entry["request_id"]) == ("127.0.0.1", "req-1")


def test_what_is_created_is_logged_whole(model_owner: Member, log: Log) -> None:
    model_owner.container(metadata={"round": 1})
    (entry,) = log()
    assert entry["action"] == "created" and entry["before"] is None
    shown = model_owner.get(f"/mlcubes/{entry['entity_id']}/").json()
    for field in ("id", "name", "owner", "metadata", "mlcube_hash", "git_mlcube_url", "created_at"):
        assert entry["after"][field] == shown[field], field


def test_of_an_update_the_values_before_and_after_are_logged(
    model_owner: Member, model: Body, log: Log
) -> None:
    model_owner.put(
        f"/mlcubes/{model['id']}/",
        {"is_valid": False, "user_metadata": {"a": 1}, "name": model["name"]},
    )
    (entry,) = log()
    assert entry["before"] == {"is_valid": True, "user_metadata": {}}
    assert entry["after"] == {"is_valid": False, "user_metadata": {"a": 1}}


def test_of_what_is_gone_the_last_values_are_logged(
    admin: Member, model_owner: Member, model: Body, log: Log
) -> None:
    admin.delete(f"/mlcubes/{model['id']}/")
    (entry,) = log()
    assert entry["after"] is None and entry["before"]["name"] == model["name"]
    assert entry["user_id"] == admin.uid and entry["before"]["owner"] == model_owner.uid


def test_what_goes_with_a_benchmark_has_entries_of_its_own(
    admin: Member, committee: Member, requested: Body, stranger: Member, log: Log
) -> None:
    uid = requested["benchmark"]
    created(committee.post(f"/benchmarks/{uid}/members/", {"email": stranger.email}))
    done = len(log())
    admin.delete(f"/benchmarks/{uid}/")
    assert names(log()[done:]) == [
        ("deleted", "association", str(requested["id"])),
        ("deleted", "benchmark_member", f"{uid}/{stranger.uid}"),
        ("deleted", "benchmark", str(uid)),
    ]


def test_of_a_large_value_size_and_digest_are_logged(model_owner: Member, log: Log) -> None:
    model_owner.container(metadata={"report": "x" * 5000})
    (entry,) = log()
    assert set(entry["after"]["metadata"]) == {"sha256", "bytes"}
    assert entry["after"]["metadata"]["bytes"] == len(json.dumps({"report": "x" * 5000}))


def test_a_refused_change_leaves_no_entry(
    model_owner: Member, committee: Member, stranger: Member, model: Body, approved: Body, log: Log
) -> None:
    path = f"/mlcubes/{model['id']}/"
    answers = [
        model_owner.put(path, {"name": "frozen"}),
        stranger.put(path, {"is_valid": False}),
        model_owner.post("/mlcubes/", container_body(name=model["name"])),
        model_owner.post("/mlcubes/", {}),
        model_owner.put("/mlcubes/999999999/", {"is_valid": False}),
        # Its container is needed by a benchmark: the database itself refuses, after the flush.
        committee.delete(f"/mlcubes/{approved['reference_model_mlcube']}/"),
    ]
    assert [answer.status_code for answer in answers] == [400, 403, 400, 400, 404, 403]
    assert log() == []


def test_what_the_database_refuses_leaves_no_entry(
    admin: Member, approved: Body, model_owner: Member, model: Body, log: Log
) -> None:
    assert admin.delete(f"/mlcubes/{approved['reference_model_mlcube']}/").status_code == 400
    assert admin.delete(f"/users/{model_owner.uid}/").status_code == 400
    assert log() == []


def test_a_change_that_changes_nothing_leaves_no_entry(
    model_owner: Member, model: Body, log: Log
) -> None:
    model_owner.put(f"/mlcubes/{model['id']}/", {"is_valid": model["is_valid"]})
    assert log() == []


def test_a_request_that_is_sent_twice_leaves_one_entry(model_owner: Member, log: Log) -> None:
    body = container_body()
    answers = [model_owner.post("/mlcubes/", body, key="sent-twice-audit") for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(log()) == 1


def test_reading_leaves_no_entry(model_owner: Member, model: Body, log: Log) -> None:
    for path in ("/me/", "/mlcubes/", f"/mlcubes/{model['id']}/", "/changes/"):
        model_owner.get(path)
    assert log() == []


def test_the_command_line_leaves_entries_too(served: Registry, log: Log) -> None:
    email = "added-at-a-shell@example.org"
    token = json.loads(served.command("user", "add", email, "--json"))
    other = json.loads(served.command("token", "create", email, "--json"))
    served.command("token", "revoke", str(other["token_id"]))
    entries = log()
    assert names(entries) == [
        ("created", "user", str(token["user_id"])),
        ("created", "token", str(token["token_id"])),
        ("created", "token", str(other["token_id"])),
        ("updated", "token", str(other["token_id"])),
    ]
    assert {(entry["user_id"], entry["actor"]) for entry in entries} == {(None, "command line")}
    assert list(entries[-1]["after"]) == ["revoked_at"]
    assert_no_secret(entries, token["token"], other["token"])


def test_changes_by_pages_and_an_invitation_leave_entries_too(
    served: Registry, admin: Member, committee: Member, requested: Body, log: Log
) -> None:
    browser = signed_in(committee)
    path = f"/associations/{requested['id']}"
    browser.fills(path, {"approval_status": "APPROVED", "reason": "It is good"}, on=path)
    session, decided = log()
    assert names([session, decided]) == [
        ("created", "token", session["entity_id"]),
        ("updated", "association", str(requested["id"])),
    ]
    assert decided["after"]["reason"] == "It is good"
    assert {entry["actor"] for entry in (session, decided)} == {committee.email}
    assert {entry["address"] for entry in (session, decided)} == {"127.0.0.1"}
    assert_no_secret([session], browser.session.cookies["medperf_session"])


def test_an_invitation_leaves_entries_and_not_its_secret(
    served: Registry, admin: Member, log: Log
) -> None:
    host, guest = Visitor(served), Visitor(served)
    host.sends("/sign-in", {"token": token_of(admin)})
    page = "/admin/invitations"
    made = host.fills(page, {"email": "audited@example.org"}, on=page).text
    secret = re.search(r"mpi_[\w-]+", made)
    assert secret is not None
    guest.sends(f"/invitations/{secret[0]}", {})
    invited, *accepted = log()[1:]
    assert names([invited]) == [("created", "invitation", invited["entity_id"])]
    assert invited["actor"] == admin.email
    assert sorted(names(accepted)) == sorted(
        [
            ("created", "user", accepted[0]["entity_id"]),
            ("updated", "invitation", invited["entity_id"]),
            *(
                ("created", "token", e["entity_id"])
                for e in accepted
                if e["entity_type"] == "token"
            ),
        ]
    )
    assert len(accepted) == 4
    assert {entry["address"] for entry in accepted} == {"127.0.0.1"}
    cookie = guest.session.cookies["medperf_session"]
    assert_no_secret([invited, *accepted], secret[0], cookie)


def test_a_form_that_is_refused_leaves_no_entry(
    served: Registry, model_owner: Member, requested: Body, log: Log
) -> None:
    browser = signed_in(model_owner)
    path = f"/associations/{requested['id']}"
    before = log()
    # Who asked cannot approve.
    browser.fills(path, {"approval_status": "APPROVED"}, on=path)
    browser.sends(path, {"approval_status": "REJECTED"})
    assert log() == before


def assert_no_secret(entries: list[Body], *secrets: str) -> None:
    """Neither a secret nor what the registry keeps of it is in the entries."""
    from medperf_server.callers import digest_of

    shown = json.dumps(entries, default=str)
    for secret in secrets:
        assert secret not in shown and secret.partition("_")[2] not in shown
        assert digest_of(secret) not in shown


def test_no_entry_of_all_these_tests_holds_a_secret(served: Registry, admin: Member) -> None:
    from medperf_server.base import db
    from medperf_server.models import Token

    entries = walk(admin)
    assert len(entries) > 5
    secrets = [str(one.session.headers["Authorization"])[7:] for one in (admin,)]
    assert_no_secret(entries, *secrets)
    shown = json.dumps(entries)
    with served.app.app_context():
        for digest in db.session.scalars(select(Token.digest)):
            assert digest not in shown


REWRITING = [
    "UPDATE audit_log SET actor = 'nobody'",
    "UPDATE audit_log SET actor = 'nobody' WHERE id = {id}",
    "DELETE FROM audit_log",
    "DELETE FROM audit_log WHERE id = {id}",
]
OF_ENGINE = {
    "sqlite": [
        "INSERT OR REPLACE INTO audit_log (id, at, actor, address, request_id, action,"
        " entity_type, entity_id) VALUES ({id}, '2026-01-01', 'x', '', '', 'x', 'x', '1')",
        "UPDATE OR REPLACE audit_log SET id = {id} WHERE id = {id} - 1",
    ],
    "postgresql": [
        "TRUNCATE audit_log",
        "INSERT INTO audit_log (id, at, actor, address, request_id, action, entity_type,"
        " entity_id) VALUES ({id}, '2026-01-01', 'x', '', '', 'x', 'x', '1')"
        " ON CONFLICT (id) DO UPDATE SET actor = 'x'",
    ],
}


@pytest.mark.parametrize("number", range(len(REWRITING) + 2))
def test_the_database_lets_nobody_rewrite_it(
    served: Registry, model: Body, log: Log, number: int
) -> None:
    from medperf_server.base import db

    before = log()
    with served.app.app_context(), db.engine.connect() as connection:
        statement = [*REWRITING, *OF_ENGINE[connection.dialect.name]][number]
        newest = connection.execute(text("SELECT max(id) FROM audit_log")).scalar()
        with pytest.raises(DatabaseError, match="the audit log is append-only"):
            connection.execute(text(statement.format(id=newest)))
        connection.rollback()
    assert log() == before


def test_a_member_who_is_gone_stays_in_it(admin: Member, stranger: Member, log: Log) -> None:
    stranger.container(state="DEVELOPMENT")
    (entry,) = log()
    assert admin.delete(f"/mlcubes/{entry['entity_id']}/").status_code == 204
    assert admin.delete(f"/users/{stranger.uid}/").status_code == 204
    page = admin.get(f"/audit/?user_id={stranger.uid}").json()
    assert [row["actor"] for row in page["results"]] == [stranger.email]


def walk(admin: Member, query: str = "") -> list[Body]:
    """All entries that the API shows an admin, newest first."""
    path: str | None = f"/audit/?limit=100{query}"
    found: list[Any] = []
    while path:
        page = admin.get(path).json()
        found += page["results"]
        path = page["next"] and page["next"].partition("/api/v0")[2]
    return found


def test_admins_read_it_newest_first_and_members_do_not(
    admin: Member, model_owner: Member, committee: Member, model: Body, log: Log
) -> None:
    model_owner.put(f"/mlcubes/{model['id']}/", {"is_valid": False})
    found = walk(admin)
    assert [entry["id"] for entry in found] == sorted((e["id"] for e in found), reverse=True)
    newest = log()[-1]
    assert found[0] == {**newest, "at": newest["at"].isoformat()}
    for member in (model_owner, committee):
        assert member.get("/audit/").status_code == 403
    for method in ("POST", "PUT", "DELETE"):
        assert admin.ask(method, "/audit/", json={}).status_code == 405


def test_what_happens_is_there_at_once(served: Registry, admin: Member) -> None:
    for _ in range(2):
        before = admin.get("/audit/?limit=1").json()["results"]
    # No entity changes with it, and no site has to hear of it.
    served.command("token", "create", admin.email, "--quiet")
    (newest,) = admin.get("/audit/?limit=1").json()["results"]
    assert newest["entity_type"] == "token" and newest["id"] > before[0]["id"]


def test_it_can_be_filtered(admin: Member, model_owner: Member, model: Body) -> None:
    model_owner.put(f"/mlcubes/{model['id']}/", {"is_valid": False})
    one = walk(admin, f"&entity_type=mlcube&entity_id={model['id']}")
    assert [entry["action"] for entry in one] == ["updated", "created"]
    assert walk(admin, f"&user_id={model_owner.uid}&action=updated")[0] == one[0]
    assert walk(admin, "&entity_type=nothing") == []
    assert admin.get("/audit/?action=read").status_code == 400


@pytest.mark.parametrize("query", ["entity_type=a%00b", "entity_id=%1f", "entity_id=" + "1" * 200])
def test_a_filter_that_nothing_can_match_is_refused_by_name(admin: Member, query: str) -> None:
    answer = admin.get(f"/audit/?{query}")
    assert answer.status_code == 400 and list(answer.json()) == [query.partition("=")[0]]


def test_every_table_that_people_change_is_logged() -> None:
    from medperf_server.audit import entity_types
    from medperf_server.base import db

    classes = {mapper.class_.__name__ for mapper in db.Model.registry.mappers}
    # The logs themselves, what they count by, and how far a write or an upload has come.
    logs = {"AuditEntry", "Change", "ChangeCounter", "Calendar"}
    under_way = {"IdempotencyKey", "Upload", "UploadPiece"}
    # What members are told of it all.
    told = {"Notice", "Letter"}
    assert classes - {model.__name__ for model in entity_types()} == logs | under_way | told


def test_no_statement_in_the_code_goes_around_it() -> None:
    from medperf_server.audit import entity_types

    logged = {model.__name__ for model in entity_types()}
    found = 0
    server = ROOT / "server" / "medperf_server"
    for file in server.rglob("*.py"):
        if file.is_relative_to(server / "backup"):
            continue  # It clears rows of a copy that is no registry yet.
        changed = re.findall(r"\b(?:insert|update|delete)\(([A-Z]\w+)\)", file.read_text())
        found += len(changed)
        assert not logged & set(changed), file
    assert found > 3
