"""`medperf-server`: what an operator does at the shell."""

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
import requests

from tests.support.registry import Registry

COMMANDS = [
    ("init",),
    ("run",),
    ("user", "add"),
    ("user", "ls"),
    ("token", "create"),
    ("token", "ls"),
    ("token", "revoke"),
]


def status(registry: Registry, token: str) -> int:
    """What the registry answers to this token."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{registry.url}/api/v0/me/", headers=headers, timeout=60).status_code


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_every_help_has_an_example(shared_registry: Registry, command: tuple[str, ...]) -> None:
    shown = shared_registry.command(*command, "--help")
    assert "Example:\n" in shown
    assert "medperf-server " + " ".join(command) in shown


def test_help_does_not_pay_for_flask() -> None:
    program = (
        "import sys, click; from medperf_server.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'flask', 'sqlalchemy', 'marshmallow', 'waitress', 'alembic'}\n"
        "sys.exit(str(slow & set(sys.modules)) if slow & set(sys.modules) else 0)"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_member_gets_a_token_that_works(shared_registry: Registry) -> None:
    done = shared_registry.invoke("user", "add", "ada@example.org")
    token = done.stdout.strip()
    assert done.exit_code == 0 and "shown this once" in done.stderr
    assert status(shared_registry, token) == 200
    listed = json.loads(shared_registry.command("user", "ls", "--json"))
    ada = next(member for member in listed if member["email"] == "ada@example.org")
    assert ada["is_admin"] is False


def test_quiet_prints_the_token_alone(shared_registry: Registry) -> None:
    done = shared_registry.invoke("user", "add", "eve@example.org", "--admin", "--quiet")
    assert done.stderr == "" and done.stdout.count("\n") == 1
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    url = f"{shared_registry.url}/api/v0/users/"
    assert requests.get(url, headers=headers, timeout=60).status_code == 200


def test_tokens_are_made_listed_and_revoked(shared_registry: Registry) -> None:
    first = json.loads(shared_registry.command("user", "add", "bob@example.org", "--json"))
    made = ("token", "create", "bob@example.org", "--name", "laptop", "--json")
    second = json.loads(shared_registry.command(*made))
    assert first["token"] != second["token"]
    rows = json.loads(shared_registry.command("token", "ls", "bob@example.org", "--json"))
    assert [(row["id"], row["name"]) for row in rows] == [
        (first["token_id"], ""),
        (second["token_id"], "laptop"),
    ]
    shared_registry.command("token", "revoke", str(second["token_id"]))
    assert status(shared_registry, second["token"]) == 401
    assert status(shared_registry, first["token"]) == 200
    rows = json.loads(shared_registry.command("token", "ls", "bob@example.org", "--json"))
    assert [row["revoked_at"] is not None for row in rows] == [False, True]


def test_a_token_expires(shared_registry: Registry) -> None:
    from medperf_server.models import Token, db, utc_now

    shared_registry.command("user", "add", "kay@example.org")
    made = shared_registry.command(
        "token", "create", "kay@example.org", "--expires-days", "2", "--json"
    )
    token = json.loads(made)
    rows = json.loads(shared_registry.command("token", "ls", "kay@example.org", "--json"))
    left = datetime.fromisoformat(rows[1]["expires_at"]) - datetime.now(timezone.utc)
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)
    assert status(shared_registry, token["token"]) == 200
    with shared_registry.app.app_context():
        db.session.get(Token, token["token_id"]).expires_at = utc_now() - timedelta(seconds=1)
        db.session.commit()
    assert status(shared_registry, token["token"]) == 401


def test_no_token_is_stored(shared_registry: Registry) -> None:
    token = shared_registry.command("user", "add", "joe@example.org", "--quiet").strip()
    files = [path for path in shared_registry.folder.iterdir() if "registry.db" in path.name]
    assert files and not any(token.encode() in path.read_bytes() for path in files)


def test_tables_are_for_people(shared_registry: Registry) -> None:
    shared_registry.command("user", "add", "zoe@example.org")
    for command in (("user", "ls"), ("token", "ls")):
        head, *rows = shared_registry.command(*command).splitlines()
        assert head.startswith("ID") and "EMAIL" in head
        assert any("zoe@example.org" in row for row in rows)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("user", "add", "nobody"), "'nobody' is not an e-mail address"),
        (("token", "create", "no@example.org"), "no@example.org is not a member"),
        (("token", "ls", "no@example.org"), "no@example.org is not a member"),
        (("token", "revoke", "999999"), "no token 999999"),
        (("run", "--port", "99999"), "99999"),
    ],
)
def test_a_mistake_is_named(
    shared_registry: Registry, command: tuple[str, ...], reason: str
) -> None:
    done = shared_registry.invoke(*command)
    assert done.exit_code != 0
    assert reason in done.stderr and "Traceback" not in done.stderr


def test_a_member_joins_once(shared_registry: Registry) -> None:
    shared_registry.command("user", "add", "max@example.org")
    done = shared_registry.invoke("user", "add", "MAX@example.org")
    assert done.exit_code == 1 and "token create MAX@example.org" in done.stderr


def test_a_port_in_use_is_named(shared_registry: Registry) -> None:
    done = shared_registry.invoke("run", "--port", str(shared_registry.port))
    assert done.exit_code == 1
    assert f"Cannot listen on 127.0.0.1:{shared_registry.port}" in done.stderr
