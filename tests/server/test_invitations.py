"""Invitations: a link admits whoever opens it, once, for some days; only a digest is stored."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, make_url, select, text

from tests.support.registry import Registry
from tests.support.services import PostgresCluster

EMAIL = "ada@example.org"


def invite(registry: Registry, *options: str, email: str = EMAIL) -> str:
    """The link of a new invitation."""
    made = registry.command(
        "invite", "create", email, "--url", registry.url + "/", "--quiet", *options
    )
    return made.strip()


def accept(link: str) -> requests.Response:
    """Open a link in a new browser, and press the button."""
    with requests.Session() as browser:
        browser.trust_env = False
        page = browser.get(link, timeout=60)
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
        form = {"form_token": found[1]} if found else {}
        return browser.post(link, form, timeout=60)


def token_on(page: requests.Response) -> str:
    """The token that a page shows."""
    assert page.status_code == 200, page.text
    found = re.search(r"mpf_[\w-]+", page.text)
    assert found is not None
    return found[0]


def me(registry: Registry, token: str) -> requests.Response:
    """Whom the registry takes the owner of a token for."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{registry.url}/api/v0/me/", headers=headers, timeout=60)


def listed(registry: Registry) -> dict[str, object]:
    """The newest invitation, as `invite ls` shows it."""
    rows: list[dict[str, object]] = json.loads(registry.command("invite", "ls", "--json"))
    return rows[-1]


def test_a_link_admits_a_member(registry: Registry) -> None:
    link = invite(registry)
    assert link.startswith(f"{registry.url}/invitations/mpi_")
    token = token_on(accept(link))
    assert me(registry, token).json()["email"] == EMAIL
    assert '"is_admin": false' in registry.command("user", "ls", "--json")
    assert listed(registry)["accepted_at"] is not None


def test_a_link_works_once(registry: Registry) -> None:
    link = invite(registry)
    assert accept(link).status_code == 200
    assert accept(link).status_code == 404
    assert len(json.loads(registry.command("user", "ls", "--json"))) == 1


def test_an_admin_is_made_by_saying_so(registry: Registry) -> None:
    accept(invite(registry, "--admin"))
    (user,) = json.loads(registry.command("user", "ls", "--json"))
    assert user["is_admin"] is True


def test_a_member_gets_another_token_and_stays_who_they_are(registry: Registry) -> None:
    registry.command("user", "add", EMAIL, "--admin")
    token = token_on(accept(invite(registry, email="ADA@example.org")))
    (user,) = json.loads(registry.command("user", "ls", "--json"))
    assert user["email"] == EMAIL and user["is_admin"] is True
    assert me(registry, token).json()["id"] == user["id"]


def test_two_links_that_are_opened_at_once_admit_one_member(
    postgres: PostgresCluster, tmp_path: Path
) -> None:
    for registry in Registry.serving(tmp_path, postgres.new_database()):
        links = [invite(registry, email=email) for email in (EMAIL, "ADA@Example.org")]
        links.append(invite(registry, "--admin", email="Ada@example.org"))
        with create_engine(make_url(registry.database_url)).connect() as held:
            # Who reads the members passes: all of them look, find nobody, and wait to add her.
            held.execute(text("LOCK TABLE users IN SHARE MODE"))
            with ThreadPoolExecutor(len(links)) as pool:
                answers = [pool.submit(accept, link) for link in links]
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                while held.scalar(waiting) != len(links):
                    assert not any(answer.done() for answer in answers)
                held.rollback()
                tokens = [token_on(answer.result()) for answer in answers]
        assert len({me(registry, token).json()["id"] for token in tokens}) == 1
        (member,) = json.loads(registry.command("user", "ls", "--json"))
        assert member["is_admin"] is True


def test_whose_address_is_anothers_username_is_told_so(registry: Registry) -> None:
    from medperf_server.base import db
    from medperf_server.kinds.user.table import User

    registry.command("user", "add", "eve@example.org")
    with registry.app.app_context():
        db.session.scalars(select(User)).one().username = EMAIL
        db.session.commit()
    page = accept(invite(registry))
    assert page.status_code == 400 and "belongs to another member" in page.text
    done = registry.invoke("user", "add", EMAIL)
    assert done.exit_code == 1 and "belongs to another member" in done.stderr


@pytest.mark.parametrize("email", ["\u212aim@example.org", "kim@\u212aelvin.example.org"])
def test_an_address_that_looks_like_another_is_none(shared_registry: Registry, email: str) -> None:
    for command in (("invite", "create", email), ("user", "add", email)):
        done = shared_registry.invoke(*command)
        assert done.exit_code != 0 and "is not an e-mail address" in done.stderr


def test_a_disabled_member_stays_out(registry: Registry) -> None:
    registry.command("user", "add", "root@example.org", "--admin")
    registry.command("user", "add", EMAIL)
    registry.command("user", "disable", EMAIL)
    page = accept(invite(registry))
    assert page.status_code == 403 and "mpf_" not in page.text


def test_a_revoked_link_is_worthless(registry: Registry) -> None:
    link = invite(registry)
    registry.command("invite", "revoke", str(listed(registry)["id"]))
    assert accept(link).status_code == 404
    assert json.loads(registry.command("user", "ls", "--json")) == []


def test_what_was_accepted_cannot_be_revoked(registry: Registry) -> None:
    accept(invite(registry))
    done = registry.invoke("invite", "revoke", str(listed(registry)["id"]))
    assert done.exit_code == 1 and f"user disable {EMAIL}" in done.stderr


def test_a_link_expires(registry: Registry) -> None:
    from medperf_server.base import db, utc_now
    from medperf_server.models import Invitation

    link = invite(registry, "--days", "2")
    with registry.app.app_context():
        invitation = db.session.get(Invitation, listed(registry)["id"])
        left = invitation.expires_at - utc_now()
        assert timedelta(days=1, hours=23) < left <= timedelta(days=2)
        invitation.expires_at = utc_now() - timedelta(seconds=1)
        db.session.commit()
    assert accept(link).status_code == 404


def test_no_link_is_stored(registry: Registry) -> None:
    secret = invite(registry).rpartition("/")[2]
    files = [path for path in registry.folder.iterdir() if "registry.db" in path.name]
    assert files and not any(secret.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("create", "nobody"), "'nobody' is not an e-mail address"),
        (("create", EMAIL, "--benchmark", "999"), "no benchmark 999"),
        (("create", EMAIL, "--days", "0"), "--days"),
        (("revoke", "999999"), "no invitation 999999"),
    ],
)
def test_a_mistake_is_named(
    shared_registry: Registry, command: tuple[str, ...], reason: str
) -> None:
    done = shared_registry.invoke("invite", *command)
    assert done.exit_code != 0 and reason in done.stderr


def test_json_has_the_link_for_scripts(shared_registry: Registry) -> None:
    made = json.loads(shared_registry.command("invite", "create", "kim@example.org", "--json"))
    assert made["email"] == "kim@example.org"
    assert made["link"].startswith("http://127.0.0.1:8000/invitations/mpi_")
    assert made["id"] == listed(shared_registry)["id"]
