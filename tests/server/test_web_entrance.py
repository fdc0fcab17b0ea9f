"""Coming in and going out by a browser: sessions, invitations, and who is turned away."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select
from werkzeug.exceptions import Unauthorized

from medperf_server import invitations
from medperf_server.auth import issue_token, revoke_token
from medperf_server.base import db, utc_now
from medperf_server.callers import digest_of
from medperf_server.kinds.user.table import User
from medperf_server.models import Invitation, Token
from tests.server.visitor import COOKIE, Visitor, form_token, signed_in, token_of
from tests.support.api import Member, NewMember
from tests.support.registry import Registry

Enter = Callable[[str], Visitor]
Invite = Callable[..., str]


@pytest.fixture
def enter(served: Registry) -> Enter:
    """Signs somebody in with a token."""

    def sign_in(token: str) -> Visitor:
        visitor = Visitor(served)
        assert visitor.sends("/sign-in", {"token": token}).status_code == 200
        assert is_in(visitor)
        return visitor

    return sign_in


@pytest.fixture
def invite(served: Registry) -> Invite:
    """Makes an invitation; the path of its page."""

    def make(email: str, **options: Any) -> str:
        with served.app.app_context():
            _, secret = invitations.create(email, **options)
            db.session.commit()
        return f"/invitations/{secret}"

    return make


def is_in(visitor: Visitor) -> bool:
    """Whether the browser is signed in."""
    return visitor.opens("/", allow_redirects=False).status_code == 200


def scoped(registry: Registry, member: Member, scope: str, days: int | None = None) -> str:
    """Another token of a member."""
    ends = utc_now() + timedelta(days=days) if days else None
    with registry.app.app_context():
        _, text = issue_token(member.uid, "scoped", ends, scope)
        db.session.commit()
    return text


def test_over_https_the_cookie_never_goes_out_in_the_clear(tmp_path: Path) -> None:
    for registry in Registry.serving(tmp_path, MEDPERF_TRUSTED_PROXIES="1"):
        form = {"token": registry.token_for("ada@example.org")}
        for scheme in ("http", "https"):
            answer = Visitor(registry).sends(
                "/sign-in", form, headers={"X-Forwarded-Proto": scheme}, allow_redirects=False
            )
            attributes = answer.headers["Set-Cookie"].split("; ")
            assert ("Secure" in attributes) == (scheme == "https")
            assert "HttpOnly" in attributes


def test_a_session_lasts_twelve_hours_or_as_long_as_its_token(
    served: Registry, enter: Enter, stranger: Member
) -> None:
    long = enter(token_of(stranger)).session.cookies[COOKIE]
    expiring = scoped(served, stranger, "submit")
    with served.app.app_context():
        parent = db.session.scalars(select(Token).filter_by(digest=digest_of(expiring))).one()
        parent.expires_at = ends = utc_now() + timedelta(hours=1)
        db.session.commit()
    short = enter(expiring).session.cookies[COOKIE]
    with served.app.app_context():
        found = {
            cookie: db.session.scalars(select(Token).filter_by(digest=digest_of(cookie))).one()
            for cookie in (long, short)
        }
        twelve = found[long].created_at + timedelta(hours=12)
        assert abs(found[long].expires_at - twelve) < timedelta(seconds=5)
        assert found[short].expires_at == ends
        assert found[short].scope == "submit"


def test_an_expired_session_is_over_and_its_cookie_is_dropped(
    served: Registry, enter: Enter, stranger: Member
) -> None:
    visitor = enter(token_of(stranger))
    token = form_token(visitor.opens("/").text)
    with served.app.app_context():
        digest = digest_of(visitor.session.cookies[COOKIE])
        session = db.session.scalars(select(Token).filter_by(digest=digest)).one()
        session.expires_at = utc_now() - timedelta(seconds=1)
        db.session.commit()
    form = {"form_token": token, "name": "late", "scope": "read"}
    refused = visitor.sends("/tokens/", form)
    assert refused.status_code == 401 and "nothing was changed" in refused.text
    assert not is_in(visitor)
    assert COOKIE not in visitor.session.cookies


def test_who_is_disabled_is_out_at_once(admin: Member, enter: Enter, join: NewMember) -> None:
    member = join("leaver")
    visitor = enter(token_of(member))
    assert enter(token_of(admin)).fills(f"/admin/members/{member.uid}", {}).status_code == 200
    assert not is_in(visitor)
    assert visitor.sends("/sign-in", {"token": token_of(member)}).status_code == 401


def test_revoking_a_token_on_its_page_ends_only_its_sessions(
    served: Registry, enter: Enter, stranger: Member
) -> None:
    other = scoped(served, stranger, "submit")
    first, second = enter(token_of(stranger)), enter(other)
    with served.app.app_context():
        uid = db.session.scalars(select(Token.id).filter_by(digest=digest_of(other))).one()
    assert first.fills(f"/tokens/{uid}/revoke", {}).status_code == 200
    assert is_in(first) and not is_in(second)
    bearer = {"Authorization": f"Bearer {other}"}
    assert requests.get(f"{served.url}/api/v0/me/", headers=bearer, timeout=60).status_code == 401


def made_in(visitor: Visitor, name: str) -> tuple[int, str]:
    """A token that somebody makes in their browser: its ID and its text."""
    page = visitor.fills("/tokens/", {"name": name, "scope": "submit"}, on="/tokens/").text
    found = re.search(r"mpf_[\w-]+", page)
    assert found is not None, page
    return token_id(visitor.registry, found[0]), found[0]


def token_id(registry: Registry, text: str) -> int:
    """The ID of a token, which pages that list it show."""
    with registry.app.app_context():
        found = db.session.scalar(select(Token.id).filter_by(digest=digest_of(text)))
    assert found is not None
    return found


def test_with_a_token_goes_all_that_came_of_it(
    served: Registry, enter: Enter, admin: Member, stranger: Member
) -> None:
    stolen = scoped(served, stranger, "submit")
    thief = enter(stolen)
    first, text = made_in(thief, "first")
    deeper = enter(text)
    second, last = made_in(deeper, "second")
    uid = token_id(served, stolen)
    told = signed_in(admin).fills(f"/admin/tokens/{uid}/revoke", {}).text
    assert f"and with it the tokens {first}, {second} that came of it and 2 browser" in told
    assert not is_in(thief) and not is_in(deeper)
    for one in (stolen, text, last):
        assert Visitor(served).sends("/sign-in", {"token": one}).status_code == 401
    # What they hold besides stays.
    assert stranger.get("/me/").status_code == 200


def test_a_member_changes_an_old_token_for_a_new_one(
    served: Registry, enter: Enter, stranger: Member
) -> None:
    old = enter(token_of(stranger))
    new, text = made_in(old, "new")
    other, forgotten = made_in(old, "forgotten")
    visitor = enter(text)
    child, of_new = made_in(visitor, "of the new one")
    uid = token_id(served, token_of(stranger))
    told = visitor.fills(f"/tokens/{uid}/revoke", {}).text
    assert f"and with it the tokens {other} that came of it and 1 browser session." in told
    assert is_in(visitor) and not is_in(old)
    assert stranger.get("/me/").status_code == 401
    for text_of, status in ((text, 200), (of_new, 200), (forgotten, 401)):
        assert Visitor(served).sends("/sign-in", {"token": text_of}).status_code == status
    # The shell spares nobody.
    served.command("token", "revoke", str(uid))
    assert not is_in(visitor)
    for text_of in (text, of_new):
        assert Visitor(served).sends("/sign-in", {"token": text_of}).status_code == 401


def test_nothing_comes_of_a_token_that_was_just_revoked(served: Registry, stranger: Member) -> None:
    uid = token_id(served, token_of(stranger))
    with served.app.app_context():
        revoke_token(db.session.get_one(Token, uid))
        with pytest.raises(Unauthorized):
            issue_token(stranger.uid, parent_id=uid)


def test_nobody_revokes_the_tokens_of_others(
    served: Registry, enter: Enter, stranger: Member, join: NewMember
) -> None:
    victim = join("victim")
    with served.app.app_context():
        digest = digest_of(token_of(victim))
        uid = db.session.scalars(select(Token.id).filter_by(digest=digest)).one()
    visitor = enter(token_of(stranger))
    assert visitor.fills(f"/tokens/{uid}/revoke", {}).status_code == 404
    assert visitor.fills(f"/admin/tokens/{uid}/revoke", {}).status_code == 403
    assert victim.get("/me/").status_code == 200


def test_signing_in_anew_ends_the_session_before(
    enter: Enter, stranger: Member, join: NewMember
) -> None:
    visitor = enter(token_of(stranger))
    before = visitor.session.cookies[COOKIE]
    other = join("next")
    assert other.email in visitor.sends("/sign-in", {"token": token_of(other)}).text
    visitor.session.cookies.set(COOKIE, None)
    visitor.session.headers["Cookie"] = f"{COOKIE}={before}"
    assert not is_in(visitor)


@pytest.mark.one_engine
def test_signing_out_needs_a_form_of_the_session(enter: Enter, stranger: Member) -> None:
    visitor = enter(token_of(stranger))
    assert visitor.opens("/sign-out").status_code == 405
    assert visitor.sends("/sign-out", {}).status_code == 403
    assert is_in(visitor)
    visitor.fills("/sign-out", {})
    assert COOKIE not in visitor.session.cookies


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        # Of a page in a sandbox, which any site may open.
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_sign_a_member_in_as_somebody_else(
    enter: Enter, invite: Invite, stranger: Member, join: NewMember, headers: dict[str, str]
) -> None:
    visitor, eve = enter(token_of(stranger)), join("eve")
    path = invite("eves-guest@example.org")
    assert visitor.sends("/sign-in", {"token": token_of(eve)}, headers=headers).status_code == 403
    assert visitor.sends(path, {}, headers=headers).status_code == 403
    assert stranger.email in visitor.opens("/").text
    assert visitor.opens(path).status_code == 200


def test_a_session_to_read_with_changes_nothing(
    served: Registry, enter: Enter, admin: Member, committee: Member
) -> None:
    uid = committee.benchmark()["id"]
    visitor = enter(scoped(served, admin, "read"))
    assert visitor.opens(f"/benchmarks/{uid}").status_code == 200
    token = {"form_token": form_token(visitor.opens("/").text)}
    for path, form in (
        ("/tokens/", {"name": "wider", "scope": "read"}),
        (f"/benchmarks/{uid}/decide", {"approval_status": "APPROVED"}),
        ("/admin/invitations", {"email": "friend@example.org"}),
    ):
        refused = visitor.sends(path, {**token, **form})
        assert refused.status_code == 403 and "only lets you read" in refused.text, path
    assert committee.get(f"/benchmarks/{uid}/").json()["approval_status"] == "PENDING"
    assert visitor.sends("/sign-out", token).status_code == 200
    assert not is_in(visitor)


def test_an_admin_is_none_in_a_session_to_submit_with(
    served: Registry, enter: Enter, admin: Member
) -> None:
    visitor = enter(scoped(served, admin, "submit"))
    assert "Administration" not in visitor.opens("/").text
    for path in ("/admin/", "/admin/tokens", "/admin/invitations", "/admin/audit"):
        assert visitor.opens(path).status_code == 403, path
    assert 'value="admin"' not in visitor.opens("/tokens/").text
    assert visitor.fills("/tokens/", {"name": "wider", "scope": "admin"}).status_code == 403


def test_a_token_from_the_page_is_as_good_as_it_says(
    served: Registry, enter: Enter, stranger: Member
) -> None:
    visitor = enter(token_of(stranger))
    made = visitor.fills("/tokens/", {"name": "reader", "scope": "read", "days": "2"}).text
    text = re.search(r"mpf_[\w-]+", made)
    assert text is not None and text[0] not in visitor.opens("/tokens/").text
    with served.app.app_context():
        row = db.session.scalars(select(Token).filter_by(digest=digest_of(text[0]))).one()
        assert (row.scope, row.is_session) == ("read", False)
        assert row.expires_at is not None
        assert abs(row.expires_at - utc_now() - timedelta(days=2)) < timedelta(minutes=1)


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "form",
    [
        {"name": ""},
        {"days": "0"},
        {"days": "soon"},
        {"days": "9" * 400},
        {"days": "9" * 5000},
        {"days": "0000019999999"},
        {"days": "00000100000"},
        {"days": "3651"},
        {"scope": "all"},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(
    enter: Enter, join: NewMember, form: dict[str, str]
) -> None:
    visitor = enter(token_of(join("maker")))
    refused = visitor.fills("/tokens/", {"name": "x", "scope": "read", **form})
    assert refused.status_code in (400, 403)
    assert "mpf_" not in refused.text


# Where one goes on after signing in, and what of other sites leads home instead.
@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/benchmarks/?q=a%20b&page=2", "/benchmarks/?q=a%20b&page=2"),
        ("", "/"),
        ("benchmarks/", "/"),
        ("javascript:alert(1)", "/"),
        ("///evil.example", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        (" //evil.example", "/"),
        ("\\\\evil.example", "/"),
    ],
)
def test_signing_in_goes_on_at_a_path_of_this_site(
    served: Registry, stranger: Member, target: str, leads_to: str
) -> None:
    form = {"token": token_of(stranger), "next": target}
    answer = Visitor(served).sends("/sign-in", form, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, leads_to)
    assert answer.headers["Set-Cookie"].startswith(COOKIE)


@pytest.mark.one_engine
def test_who_has_to_sign_in_comes_back_to_where_they_were(
    served: Registry, stranger: Member
) -> None:
    visitor = Visitor(served)
    asked = visitor.opens("/containers/?q=chest&sort=name")
    onward = re.search(r'name="next" value="([^"]*)"', asked.text)
    assert onward is not None
    form = {"token": token_of(stranger), "next": onward[1].replace("&amp;", "&")}
    assert visitor.sends("/sign-in", form).url.endswith("/containers/?q=chest&sort=name")


def test_the_database_does_not_know_an_invitations_secret(served: Registry, invite: Invite) -> None:
    secret = invite("secret@example.org").rpartition("/")[2]
    assert len(secret) >= 43  # 256 bits in base64
    with served.app.app_context():
        row = db.session.scalars(
            select(Invitation).filter_by(digest=hashlib.sha256(secret.encode()).hexdigest())
        ).one()
        values = [getattr(row, column.key) for column in Invitation.__table__.columns]
        assert not any(secret in str(value) for value in values)
        week = row.created_at + timedelta(days=invitations.DAYS)
        assert abs(row.expires_at - week) < timedelta(seconds=5)


def test_programs_that_preview_links_do_not_use_an_invitation_up(
    served: Registry, invite: Invite
) -> None:
    path = invite("previewed@example.org")
    assert requests.head(served.url + path, timeout=60).status_code == 200
    seen = requests.get(served.url + path, timeout=60)
    assert "previewed@example.org" in seen.text and "Set-Cookie" not in seen.headers
    assert Visitor(served).sends(path, {}).status_code == 200


def test_of_all_who_accept_at_once_one_comes_in(served: Registry, invite: Invite) -> None:
    path = invite("raced@example.org")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: Visitor(served).sends(path, {}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[404] * 7]
    with served.app.app_context():
        uid = db.session.scalars(select(User.id).filter_by(email="raced@example.org")).one()
        given = db.session.scalars(select(Token).filter_by(user_id=uid, is_session=False)).all()
        assert len(given) == 1


def test_the_address_of_a_member_lets_that_member_in(
    served: Registry, invite: Invite, stranger: Member
) -> None:
    visitor = Visitor(served)
    welcome = visitor.sends(invite(stranger.email.upper()), {})
    assert welcome.status_code == 200 and stranger.email in visitor.opens("/").text
    token = re.search(r"mpf_[\w-]+", welcome.text)
    assert token is not None
    bearer = {"Authorization": f"Bearer {token[0]}"}
    me = requests.get(f"{served.url}/api/v0/me/", headers=bearer, timeout=60).json()
    assert (me["id"], me["email"]) == (stranger.uid, stranger.email)


def test_an_invitation_shows_the_private_benchmark_it_names(
    served: Registry, invite: Invite, committee: Member
) -> None:
    uid = committee.benchmark(is_private=True)["id"]
    visitor = Visitor(served)
    assert visitor.sends(invite(f"guest-of-{uid}@example.org", benchmark=uid), {}).ok
    assert visitor.opens(f"/benchmarks/{uid}").status_code == 200
    # Who may see it already is no trouble.
    assert Visitor(served).sends(invite(f"guest-of-{uid}@example.org", benchmark=uid), {}).ok


def test_an_invitation_as_an_administrator_makes_one(served: Registry, invite: Invite) -> None:
    visitor = Visitor(served)
    assert visitor.sends(invite("second-admin@example.org", is_admin=True), {}).ok
    assert visitor.opens("/admin/").status_code == 200


def test_an_invitation_expires(served: Registry, invite: Invite) -> None:
    path = invite("slow@example.org", days=-1)
    for late in (Visitor(served).opens(path), Visitor(served).sends(path, {})):
        assert late.status_code == 404 and "has expired" in late.text
    with served.app.app_context():
        assert db.session.scalar(select(User.id).filter_by(email="slow@example.org")) is None


def test_an_invitation_does_not_let_in_who_was_disabled(
    served: Registry, admin: Member, enter: Enter, invite: Invite, join: NewMember
) -> None:
    member = join("banned")
    enter(token_of(admin)).fills(f"/admin/members/{member.uid}", {})
    path = invite(member.email)
    visitor = Visitor(served)
    refused = visitor.sends(path, {})
    assert refused.status_code == 403 and "mpf_" not in refused.text
    assert COOKIE not in visitor.session.cookies and not is_in(visitor)
    # It is not used up: once they may come back, it lets them in.
    enter(token_of(admin)).fills(f"/admin/members/{member.uid}", {"is_active": "on"})
    assert visitor.sends(path, {}).status_code == 200


@pytest.mark.one_engine
def test_the_welcome_says_how_to_log_in_at_a_shell(served: Registry, invite: Invite) -> None:
    welcome = Visitor(served).sends(invite("shell@example.org"), {})
    assert f"medperf profile set server_url {served.url}" in welcome.text
    assert "medperf auth login" in welcome.text
    assert welcome.headers["Cache-Control"] == "no-store"
