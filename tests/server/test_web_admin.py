"""What administrators do on pages: members, tokens, invitations, approvals, the audit log."""

import re
from typing import Any

import pytest

from tests.server.visitor import Visitor, form_token, seen_on, signed_in, table_of
from tests.support.api import Member, NewMember
from tests.support.registry import Registry


@pytest.fixture
def host(admin: Member) -> Visitor:
    """The administrator's browser."""
    return signed_in(admin)


def test_a_member_is_locked_out_and_let_in_again(host: Visitor, join: NewMember) -> None:
    ada = join("ada")
    path = f"/admin/members/{ada.uid}"
    assert f"{ada.email} is changed." in host.fills(path, {}).text
    assert ada.get("/me/").status_code == 401
    host.fills(path, {"is_active": "on"})
    assert ada.get("/me/").status_code == 200


def test_a_member_becomes_an_administrator_and_stops_being_one(
    host: Visitor, join: NewMember
) -> None:
    ada = join("ada")
    path = f"/admin/members/{ada.uid}"
    for form, status in (({"is_active": "on", "is_admin": "on"}, 200), ({"is_active": "on"}, 403)):
        host.fills(path, form)
        assert ada.get("/users/").status_code == status


@pytest.mark.parametrize(
    ("typed", "stored"), [("20", 20 << 30), ("0", 0), ("", None), ("0.25", 1 << 28)]
)
def test_a_quota_is_set_in_gib(
    host: Visitor, served: Registry, join: NewMember, typed: str, stored: int | None
) -> None:
    ada = join("ada")
    # A size that the form shows, but that nobody could type into it.
    served.command("user", "set", ada.email, "--quota", "256MiB")
    path = f"/admin/members/{ada.uid}"
    assert 'name="quota_gib" inputmode="decimal" value="0.25"' in host.opens(path).text
    host.fills(path, {"is_active": "on", "quota_gib": typed})
    assert quota_of(served, ada) == stored


@pytest.mark.one_engine
@pytest.mark.parametrize("typed", ["much", "-1", "1.5", "9999999", "1e9", "²", "9" * 5000])
def test_a_quota_that_is_none_changes_nothing(
    host: Visitor, served: Registry, join: NewMember, typed: str
) -> None:
    ada = join("ada")
    form = {"is_active": "on", "is_admin": "on", "quota_gib": typed}
    answer = host.fills(f"/admin/members/{ada.uid}", form)
    assert "A quota is a whole number of GiB" in answer.text
    assert quota_of(served, ada) is None and ada.get("/users/").status_code == 403


def quota_of(registry: Registry, member: Member) -> Any:
    """A member's quota in bytes, as the database has it."""
    from medperf_server.base import db
    from medperf_server.kinds.user.table import User

    with registry.app.app_context():
        return db.session.get_one(User, member.uid).quota_bytes


def test_anyones_token_can_be_found_and_revoked(host: Visitor, join: NewMember) -> None:
    ada = join("ada")
    rows = table_of(host.opens(f"/admin/tokens?q={ada.email}").text, "Tokens and")
    (row,) = rows
    assert row[1:4] == [ada.email, "first token", "active"]
    host.fills(f"/admin/tokens/{row[0]}/revoke", {})
    assert ada.get("/me/").status_code == 401
    rows = table_of(host.opens(f"/admin/tokens?q={ada.email}").text, "Tokens and")
    assert rows[0][3] == "revoked"


@pytest.mark.one_engine
@pytest.mark.parametrize("email", ["", "nobody", "a@b@c", "x" * 300 + "@example.org"])
def test_an_address_that_is_none_is_not_invited(host: Visitor, email: str) -> None:
    answer = host.fills("/admin/invitations", {"email": email})
    assert answer.status_code == 400 and 'role="alert"' in answer.text
    assert "mpi_" not in answer.text


@pytest.mark.parametrize("benchmark", ["999999", "x", "-1", "9" * 30, "9" * 5000, "4294967297"])
def test_nobody_is_invited_to_a_benchmark_that_is_not_there(host: Visitor, benchmark: str) -> None:
    form = {"email": "guest@example.org", "benchmark": benchmark}
    assert host.fills("/admin/invitations", form).status_code == 400


@pytest.mark.one_engine
def test_the_page_with_a_new_link_still_says_who_is_signed_in(host: Visitor, admin: Member) -> None:
    page = host.fills("/admin/invitations", {"email": "fresh@example.org"}).text
    assert f"<span>{admin.email}</span>" in page and "The link for fresh@example.org" in page


@pytest.mark.parametrize("status", ["APPROVED", "REJECTED"])
def test_a_benchmark_is_decided_once(host: Visitor, committee: Member, status: str) -> None:
    benchmark = committee.benchmark()
    path = f"/benchmarks/{benchmark['id']}"
    answer = host.fills(f"{path}/decide", {"approval_status": status}, on=path)
    assert f"{benchmark['name']} is {status.lower()}." in answer.text
    assert f"{path}/decide" not in answer.text
    assert committee.get(f"{path}/").json()["approval_status"] == status


@pytest.mark.one_engine
@pytest.mark.parametrize("status", ["", "PENDING", "MAYBE"])
def test_a_decision_that_is_none_changes_nothing(
    host: Visitor, committee: Member, status: str
) -> None:
    path = f"/benchmarks/{committee.benchmark()['id']}"
    host.fills(f"{path}/decide", {"approval_status": status}, on=path)
    assert committee.get(f"{path}/").json()["approval_status"] == "PENDING"


def test_an_administrator_approves_what_they_saw_and_nothing_else(
    host: Visitor, committee: Member
) -> None:
    benchmark = committee.benchmark(state="DEVELOPMENT")
    path = f"/benchmarks/{benchmark['id']}"
    page = host.opens(path).text
    assert ">Reject<" in page and ">Approve<" not in page and "until then it may change" in page
    looked_at = {**seen_on(page), "form_token": form_token(page), "approval_status": "APPROVED"}
    easier = {"demo_dataset_tarball_hash": "easier", "state": "OPERATION"}
    assert committee.put(f"{path}/", easier).status_code == 200
    assert "it has changed since you looked" in host.sends(f"{path}/decide", looked_at).text
    unseen = {**looked_at, "seen": ""}
    host.sends(f"{path}/decide", unseen)
    assert committee.get(f"{path}/").json()["approval_status"] == "PENDING"
    host.fills(f"{path}/decide", {"approval_status": "APPROVED"}, on=path)
    assert committee.get(f"{path}/").json()["approval_status"] == "APPROVED"


def test_members_decide_no_benchmark(served: Registry, committee: Member) -> None:
    visitor = signed_in(committee)
    path = f"/benchmarks/{committee.benchmark()['id']}"
    assert visitor.fills(f"{path}/decide", {"approval_status": "APPROVED"}).status_code == 403
    assert committee.get(f"{path}/").json()["approval_status"] == "PENDING"


def audited(host: Visitor, query: str) -> list[list[str]]:
    """When, what and who of the entries that the audit log shows for a query."""
    rows = table_of(host.opens(f"/admin/audit?{query}").text, "Changes, newest first")
    return [row[:3] for row in rows if row != ["None."]]


def test_the_audit_log_is_searched_by_who_what_and_when(host: Visitor, join: NewMember) -> None:
    ada = join("ada")
    uid = ada.container(state="DEVELOPMENT")["id"]
    assert ada.put(f"/mlcubes/{uid}/", {"name": f"renamed-{uid}"}).status_code == 200
    mine = f"q={ada.email}&entity_type=mlcube"
    what = [row[1] for row in audited(host, mine)]
    assert what == [f"updated mlcube {uid}", f"created mlcube {uid}"]
    assert [row[1] for row in audited(host, f"{mine}&action=created")] == what[1:]
    assert audited(host, f"entity_type=mlcube&entity_id={uid}") == audited(host, mine)
    today = audited(host, mine)[0][0].partition(" ")[0]
    assert audited(host, f"{mine}&since={today}") == audited(host, mine)
    assert audited(host, f"{mine}&until={today}") == []
    assert audited(host, f"{mine}&since=yesterday") == audited(host, mine)


def test_the_audit_log_shows_what_was_before_and_after(host: Visitor, join: NewMember) -> None:
    ada = join("ada")
    container = ada.container(state="DEVELOPMENT")
    ada.put(f"/mlcubes/{container['id']}/", {"name": f"renamed-{ada.uid}"})
    page = host.opens(f"/admin/audit?q={ada.email}&action=updated").text
    found = re.search(r"<dt>name</dt><dd>\s*<del>(.*?)</del> → \s*<ins>(.*?)</ins>", page)
    assert found is not None, page
    assert found.groups() == (container["name"], f"renamed-{ada.uid}")
