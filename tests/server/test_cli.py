"""`medperf-server`: what an operator does at the shell."""

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from scripts.ports import own_port

from tests.support.registry import Registry

COMMANDS = [
    ("init",),
    ("run",),
    ("user", "add"),
    ("user", "ls"),
    ("user", "set"),
    ("user", "disable"),
    ("user", "enable"),
    ("token", "create"),
    ("token", "ls"),
    ("token", "revoke"),
    ("invite", "create"),
    ("invite", "ls"),
    ("invite", "revoke"),
    ("audit", "ls"),
    ("check",),
    ("backup",),
    ("restore",),
    ("renew-links",),
    ("notify",),
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


def test_no_command_is_forgotten_here() -> None:
    from medperf_server.cli import main

    names = {(name,) for name in main.commands if not hasattr(main.commands[name], "commands")}
    for name, group in main.commands.items():
        names |= {(name, inner) for inner in getattr(group, "commands", {})}
    assert names == set(COMMANDS)


def test_help_does_not_pay_for_flask() -> None:
    program = (
        "import sys, click; from medperf_server.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'flask', 'sqlalchemy', 'marshmallow', 'waitress', 'alembic', 'boto3'}\n"
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
    from medperf_server.base import db, utc_now
    from medperf_server.models import Token

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


def test_a_token_of_a_scope_can_do_no_more(shared_registry: Registry) -> None:
    shared_registry.command("user", "add", "uma@example.org", "--admin")
    made = ("token", "create", "uma@example.org", "--scope", "read", "--quiet")
    token = shared_registry.command(*made).strip()
    assert status(shared_registry, token) == 200
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{shared_registry.url}/api/v0/mlcubes/"
    assert requests.post(url, json={}, headers=headers, timeout=60).status_code == 403
    rows = json.loads(shared_registry.command("token", "ls", "uma@example.org", "--json"))
    assert [row["scope"] for row in rows] == ["admin", "read"]


def test_a_revoked_token_takes_its_browser_sessions_along(shared_registry: Registry) -> None:
    from medperf_server.base import db
    from medperf_server.models import Token

    made = json.loads(shared_registry.command("user", "add", "lea@example.org", "--json"))
    with shared_registry.app.app_context():
        row = {"user_id": made["user_id"], "parent_id": made["token_id"], "is_session": True}
        db.session.add(Token(digest="of a cookie", name="browser", **row))
        db.session.commit()
    listing = ("token", "ls", "lea@example.org", "--json")
    assert len(json.loads(shared_registry.command(*listing))) == 1
    shared_registry.command("token", "revoke", str(made["token_id"]))
    rows = json.loads(shared_registry.command(*listing, "--sessions"))
    assert [row["is_session"] for row in rows] == [False, True]
    assert all(row["revoked_at"] for row in rows)


def test_a_disabled_member_is_out_until_enabled(shared_registry: Registry) -> None:
    token = shared_registry.command("user", "add", "ben@example.org", "--quiet").strip()
    shared_registry.command("user", "disable", "ben@example.org")
    assert status(shared_registry, token) == 401
    shared_registry.command("user", "enable", "ben@example.org")
    assert status(shared_registry, token) == 200


def test_what_a_member_may_do_is_changed(shared_registry: Registry) -> None:
    shared_registry.command("user", "add", "tom@example.org")

    def tom() -> dict[str, Any]:
        rows = json.loads(shared_registry.command("user", "ls", "--json"))
        return next(row for row in rows if row["email"] == "tom@example.org")

    assert (tom()["is_admin"], tom()["quota_bytes"]) == (False, None)
    shared_registry.command("user", "set", "tom@example.org", "--admin", "--quota", "20GiB")
    assert (tom()["is_admin"], tom()["quota_bytes"]) == (True, 20 * 2**30)
    shared_registry.command("user", "set", "tom@example.org", "--quota", "default")
    assert (tom()["is_admin"], tom()["quota_bytes"]) == (True, None)


@pytest.mark.parametrize(
    "command",
    [
        ("user", "disable", "only@example.org"),
        ("user", "set", "only@example.org", "--no-admin"),
    ],
    ids=" ".join,
)
def test_the_last_admin_is_not_locked_out(registry: Registry, command: tuple[str, ...]) -> None:
    registry.command("user", "add", "only@example.org", "--admin")
    registry.command("user", "add", "gone@example.org", "--admin")
    registry.command("user", "disable", "gone@example.org")
    refused = registry.invoke(*command)
    assert refused.exit_code == 1 and "only admin left" in refused.stderr
    registry.command("user", "enable", "gone@example.org")
    registry.command(*command)


def test_the_audit_log_is_searched(registry: Registry) -> None:
    registry.command("user", "add", "ada@example.org")
    registry.command("user", "set", "ada@example.org", "--admin")

    def entries(*options: str) -> list[tuple[str, str]]:
        rows = json.loads(registry.command("audit", "ls", "--json", *options))
        return [(row["action"], row["entity_type"]) for row in rows]

    made = [("created", "user"), ("created", "token"), ("updated", "user")]
    assert entries() == entries("--actor", "Command Line") == made
    assert entries("--entity", "user") == entries("--entity", "user/1") == [made[0], made[2]]
    assert entries("--action", "updated") == entries("--limit", "1") == [made[2]]
    assert entries("--since", "2020-01-01") == made
    assert entries("--since", "2999-01-01") == entries("--entity", "user/9") == []
    assert entries("--actor", "ada@example.org") == []
    assert "is_admin: false -> true" in registry.command("audit", "ls")


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
        (("backup", "/nowhere/registry.backup"), "/nowhere"),
        (("user", "set", "no@example.org", "--admin"), "no@example.org is not a member"),
        (("user", "set", "no@example.org"), "Nothing to change"),
        (("user", "set", "no@example.org", "--quota", "lots"), "'lots' is no size"),
        (("token", "create", "no@example.org", "--scope", "all"), "'all' is not one of"),
        (("invite", "create", "nobody"), "'nobody' is not an e-mail address"),
        (("invite", "revoke", "999999"), "no invitation 999999"),
        (("audit", "ls", "--since", "monday"), "monday"),
        (("token", "create", "no@example.org", "--name", "x" * 129), "maximum length 128"),
        (("token", "create", "no@example.org", "--name", "a\x9bb"), "no such character"),
        *(
            (command, "not in the range")
            for command in (
                ("token", "revoke", "9" * 20),
                ("invite", "revoke", "9" * 20),
                ("invite", "create", "no@example.org", "--benchmark", "9" * 20),
                ("audit", "ls", "--limit", "9" * 20),
                ("token", "create", "no@example.org", "--expires-days", "9" * 20),
            )
        ),
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


def test_it_says_which_port_it_has_where_it_may_have_any(shared_registry: Registry) -> None:
    command = [sys.executable, "-m", shared_registry.program, "run", "--port", "0"]
    environment = {**shared_registry.environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Listening on ").strip()
        assert requests.get(f"{address}/healthz", timeout=30).ok
        process.terminate()


def test_a_database_that_does_not_answer_is_a_plain_message(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://registry:swordfish@127.0.0.1:{own_port()}/registry"
    for command in (("user", "ls"), ("backup", str(tmp_path / "file")), ("run",)):
        done = Registry(tmp_path, url).invoke(*command)
        assert done.exit_code == 1 and "does not answer" in done.stderr
        assert "swordfish" not in done.stderr
