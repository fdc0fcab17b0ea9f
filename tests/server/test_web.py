"""Pages: who gets in, what forms they may send, and what never appears on any of them."""

import html
import re
from typing import Any

import pytest
import requests

from tests.server.visitor import COOKIE, Visitor, form_token, signed_in, token_of
from tests.support.api import Body, Member, NewMember, created
from tests.support.registry import Registry


@pytest.fixture
def visitor(served: Registry) -> Visitor:
    """Somebody who is not signed in."""
    return Visitor(served)


PAGES = ["/", "/benchmarks/", "/containers/1", "/associations/", "/tokens/", "/admin/audit"]


@pytest.mark.one_engine
@pytest.mark.parametrize("path", PAGES)
def test_who_is_not_signed_in_is_asked_to(visitor: Visitor, path: str) -> None:
    answer = visitor.opens(path, allow_redirects=False)
    assert answer.status_code == 302 and answer.headers["Location"].startswith("/sign-in?next=/")


@pytest.mark.one_engine
def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    visitor: Visitor, stranger: Member
) -> None:
    form = {"token": token_of(stranger)}
    answer = visitor.sends("/sign-in", form, allow_redirects=False)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=mps_")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert token_of(stranger) not in cookie
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_session_is_no_token_and_a_token_no_session(visitor: Visitor, stranger: Member) -> None:
    cookie, token = signed_in(stranger).session.cookies[COOKIE], token_of(stranger)
    stranger.session.headers["Authorization"] = f"Bearer {cookie}"
    assert stranger.get("/me/").status_code == 401
    visitor.session.cookies.set(COOKIE, token)
    assert visitor.opens("/", allow_redirects=False).status_code == 302


def test_a_session_ends_with_its_token_and_by_signing_out(
    served: Registry, join: NewMember
) -> None:
    ada, bob = join("ada"), join("bob")
    adas, bobs = signed_in(ada), signed_in(bob)
    tokens = bobs.opens("/tokens/").text
    first = re.findall(r"/tokens/(\d+)/revoke", tokens)[-1]
    bobs.fills(f"/tokens/{first}/revoke", {})
    assert bobs.opens("/", allow_redirects=False).status_code == 302
    cookie = adas.session.cookies[COOKIE]
    adas.fills("/sign-out", {})
    adas.session.cookies.set(COOKIE, cookie)
    assert adas.opens("/", allow_redirects=False).status_code == 302
    assert ada.get("/me/").status_code == 200


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example"]
)
def test_signing_in_leads_nowhere_else(visitor: Visitor, stranger: Member, target: str) -> None:
    form = {"token": token_of(stranger), "next": target}
    answer = visitor.sends("/sign-in", form, allow_redirects=False)
    assert answer.status_code == 303 and answer.headers["Location"] == "/"


@pytest.mark.one_engine
def test_a_form_needs_the_token_of_its_session(join: NewMember) -> None:
    ada, other = signed_in(join("ada")), signed_in(join("eve"))
    form = {"name": "laptop", "scope": "read"}
    assert ada.sends("/tokens/", form).status_code == 403
    stolen = form_token(other.opens("/").text)
    assert ada.sends("/tokens/", {**form, "form_token": stolen}).status_code == 403
    assert "laptop" not in ada.opens("/tokens/").text
    assert ada.fills("/tokens/", form).status_code == 200
    assert "laptop" in ada.opens("/tokens/").text


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
@pytest.mark.parametrize("path", ["/sign-in", "/tokens/"])
def test_forms_of_other_sites_are_refused(
    visitor: Visitor, stranger: Member, path: str, headers: dict[str, str]
) -> None:
    form = {"token": token_of(stranger)}
    if path != "/sign-in":
        visitor = signed_in(stranger)
        form = {"form_token": form_token(visitor.opens("/").text), "name": "x", "scope": "read"}
    assert visitor.sends(path, form, headers=headers).status_code == 403


def test_an_invitation_is_used_once_and_not_by_looking(admin: Member, served: Registry) -> None:
    host = signed_in(admin)
    form = {"email": "Invited@example.org"}
    made = host.fills("/admin/invitations", form, on="/admin/invitations").text
    path = re.search(r"/invitations/mpi_[\w-]+", made)
    assert path is not None and path[0] not in host.opens("/admin/invitations").text
    guest = Visitor(served)
    assert guest.opens(path[0]).status_code == guest.opens(path[0]).status_code == 200
    welcome = guest.sends(path[0], {})
    token = re.search(r"mpf_[\w-]+", welcome.text)
    assert welcome.status_code == 200 and token is not None
    assert "Invited@example.org" in guest.opens("/").text
    headers = {"Authorization": f"Bearer {token[0]}"}
    me = requests.get(f"{served.url}/api/v0/me/", headers=headers, timeout=60)
    assert me.json()["email"] == "Invited@example.org"
    for late in (Visitor(served).opens(path[0]), Visitor(served).sends(path[0], {})):
        assert late.status_code == 404 and "was used" in late.text


def test_a_revoked_invitation_admits_nobody(admin: Member, served: Registry) -> None:
    host = signed_in(admin)
    made = host.fills("/admin/invitations", {"email": "late@example.org"}, on="/tokens/").text
    path = re.search(r"/invitations/mpi_[\w-]+", made)
    uid = re.search(r"/admin/invitations/(\d+)/revoke", made)
    assert path is not None and uid is not None
    host.fills(uid[0], {})
    assert Visitor(served).sends(path[0], {}).status_code == 404


ADMIN_PAGES = ["/admin/", "/admin/members/1", "/admin/invitations", "/admin/audit"]


@pytest.mark.one_engine
@pytest.mark.parametrize("path", ADMIN_PAGES)
def test_administration_is_for_administrators(stranger: Member, path: str) -> None:
    assert signed_in(stranger).opens(path).status_code == 403


def test_what_members_write_is_text(admin: Member, committee: Member, model_owner: Member) -> None:
    evil = "<script>1"
    benchmark = committee.benchmark(
        name=f"b {evil} {committee.uid}",
        description=evil,
        demo_dataset_tarball_url="javascript:alert(1)",
    )
    admin.put(f"/benchmarks/{benchmark['id']}/", {"approval_status": "APPROVED"})
    model = model_owner.container(name=f"m {evil} {model_owner.uid}", git_mlcube_url="data:x,y")
    body = {
        "model_mlcube": model["id"],
        "benchmark": benchmark["id"],
        "metadata": {"test_result": {evil: 1}, "test_steps": [{"step": evil, "source": evil}]},
    }
    request = created(model_owner.post("/mlcubes/benchmarks/", body))
    visitor = signed_in(admin)
    for path in (
        f"/benchmarks/{benchmark['id']}",
        f"/benchmarks/{benchmark['id']}/leaderboard",
        f"/containers/{model['id']}",
        f"/associations/{request['id']}",
        f"/benchmarks/?q={evil}",
        "/benchmarks/",
        "/containers/",
        "/admin/audit",
    ):
        page = visitor.opens(path)
        assert page.status_code == 200, path
        assert evil not in page.text and html.escape(evil) in page.text, path
        assert 'href="javascript:' not in page.text and 'href="data:' not in page.text


def test_a_private_benchmark_is_on_no_page_of_others(
    admin: Member, committee: Member, stranger: Member, join: NewMember
) -> None:
    name = f"hidden-{committee.uid}"
    uid = committee.benchmark(name=name, is_private=True)["id"]
    guest = join("guest")
    owner = signed_in(committee)
    form = {"email": guest.email}
    told = owner.fills(f"/benchmarks/{uid}/members", form, on=f"/benchmarks/{uid}")
    assert f"{guest.email} can see this benchmark" in told.text
    who = signed_in(stranger)
    for path in ("/", "/benchmarks/", f"/benchmarks/?q={name}", "/containers/"):
        assert f">{name}<" not in who.opens(path).text
    assert f">{name}<" in signed_in(guest).opens("/benchmarks/").text
    for path in (f"/benchmarks/{uid}", f"/benchmarks/{uid}/leaderboard"):
        assert who.opens(path).status_code == 404
        assert signed_in(guest).opens(path).status_code == 200
    assert who.fills(f"/benchmarks/{uid}/members", {"email": stranger.email}).status_code == 404
    owner.fills(f"/benchmarks/{uid}/members/{guest.uid}/remove", {})
    assert signed_in(guest).opens(f"/benchmarks/{uid}").status_code == 404


def test_the_last_administrator_stays_one(tmp_path: Any) -> None:
    for registry in Registry.serving(tmp_path):
        admin = Member(registry, "only", admin=True)
        visitor = signed_in(admin)
        answer = visitor.fills(f"/admin/members/{admin.uid}", {"is_active": "on"})
        assert "is the only admin left" in answer.text
        assert visitor.opens("/admin/").status_code == 200


def test_who_requested_cannot_approve_and_others_cannot_see(
    requested: Body, model_owner: Member, stranger: Member, committee: Member
) -> None:
    path = f"/associations/{requested['id']}"
    decision = {"approval_status": "APPROVED", "reason": "mine"}
    assert "you cannot approve" in signed_in(model_owner).fills(path, decision).text
    assert signed_in(stranger).opens(path).status_code == 404
    assert signed_in(stranger).fills(path, decision).status_code == 404
    done = signed_in(committee).fills(path, {**decision, "reason": "runs well"})
    assert "The request is approved." in done.text and "runs well" in done.text
    shown = model_owner.get("/me/mlcubes/associations/?limit=1000").json()["results"][-1]
    assert (shown["approval_status"], shown["reason"]) == ("APPROVED", "runs well")


@pytest.mark.parametrize(
    "query",
    [
        "sort=nothing&order=up",
        "page=-5",
        "page=x",
        f"page={'9' * 5000}",
        "q=%00",
        "benchmark=x",
        f"benchmark={'9' * 5000}",
        "owner=%C2%B2",
    ],
)
@pytest.mark.parametrize("path", ["/benchmarks/", "/containers/", "/associations/"])
def test_a_query_that_is_wrong_counts_as_not_said(stranger: Member, path: str, query: str) -> None:
    assert signed_in(stranger).opens(f"{path}?{query}").status_code == 200


def test_what_is_not_there_is_a_page(visitor: Visitor) -> None:
    answer = visitor.opens("/no/such/page")
    assert answer.status_code == 404 and "<h1>" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
