"""The database: made by `init`, kept by `init`, and never served half made."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import JSON, Boolean, Connection, DateTime, Integer, MetaData, inspect, text

from tests.support.api import Member, container_body
from tests.support.forks import ROOT
from tests.support.registry import Registry
from tests.support.services import PostgresCluster

VERSIONS = ROOT / "server" / "medperf_server" / "migrations" / "versions"
EARLIER = sorted(path.name.partition("_")[0] for path in VERSIONS.glob("*.py"))[:-1]
THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def digest(token: str) -> str:
    """What the database has of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def named(name: str) -> dict[str, str]:
    """What members are called, and found by."""
    address = f"{name}@example.org"
    return {"username": name, "username_key": name, "email": address, "email_key": address}


# Rows of every table of earlier versions, in the order of their references. What of a row is not
# given here `fill` makes up; what an earlier version does not know it leaves out.
ROWS: dict[str, list[dict[str, Any]]] = {
    "users": [
        {"id": 1, **named("ada"), "is_admin": True},
        {"id": 4, **named("bob"), "is_admin": False},
    ],
    "tokens": [
        {"id": 2, "user_id": 1, "digest": digest("ada's")},
        {"id": 3, "user_id": 4, "digest": digest("bob's"), "name": "laptop"},
        {"id": 5, "user_id": 4, "digest": digest("lost"), "revoked_at": THEN},
    ],
    "keys": [{"id": 2, "name": "north", "owner": 4, "keyid": "f", "revoked_at": THEN}],
    "mlcubes": [
        {"id": 3, "name": "preparator", "owner": 1, "mlcube_hash": "a", "metadata": {"n": [1]}},
        {"id": 7, "name": "model", "owner": 4, "mlcube_hash": "b", "state": "OPERATION"},
    ],
    "benchmarks": [
        {
            "id": 2,
            "name": "Benign or malignant",
            "owner": 1,
            "data_preparation_mlcube": 3,
            "reference_model_mlcube": 3,
            "data_evaluator_mlcube": 3,
            "approval_status": "APPROVED",
            "approved_at": THEN,
        }
    ],
    "benchmark_models": [
        {
            "id": 6,
            "model_mlcube": 7,
            "benchmark": 2,
            "initiated_by": 4,
            "approval_status": "PENDING",
            "metadata": {"test_result": {"auroc": 0.97}},
        }
    ],
    "datasets": [
        {
            "id": 5,
            "name": "Turin",
            "owner": 4,
            "generated_uid": "prepared",
            "data_preparation_mlcube": 3,
            "state": "OPERATION",
            "report": {"progress": {"Stage 1": "100%"}},
        }
    ],
    "benchmark_datasets": [
        {
            "id": 8,
            "dataset": 5,
            "benchmark": 2,
            "initiated_by": 4,
            "approval_status": "APPROVED",
            "metadata": {"test_result": {"auroc": 0.9}},
        }
    ],
    "results": [
        {
            "id": 3,
            "owner": 4,
            "benchmark": 2,
            "model": 3,
            "dataset": 5,
            "results": {"auroc": 0.9},
            "approval_status": "PENDING",
        }
    ],
    "idempotency_keys": [{"user_id": 4, "key": "key", "request_digest": "d", "status": 201}],
    "changes": [
        {
            "cursor": 8,
            "entity_type": "user",
            "entity_id": 4,
            "action": "created",
            "audience": ",4,",
        },
        {"cursor": 9, "entity_type": "mlcube", "entity_id": 7, "action": "created"},
    ],
    "invitations": [{"id": 1, "digest": digest("invited"), "created_by": 1, "benchmark": 2}],
    "benchmark_members": [{"benchmark": 2, "user_id": 4}],
    "assets": [{"sha256": digest("file"), "size_bytes": 4}],
    "asset_holders": [{"sha256": digest("file"), "user_id": 4}],
    "uploads": [{"id": "upload", "user_id": 4, "size_bytes": 9}],
    "upload_pieces": [{"upload_id": "upload", "offset_bytes": 0, "name": "piece"}],
    "audit_log": [{"id": 1, "actor": "command line", "action": "created", "entity_type": "user"}],
    "letters": [{"id": 4, "user_id": 4, "message_id": "<a@b>", "state": "waiting"}],
    "notices": [{"id": 9, "user_id": 4, "event": "request", "letter_id": 4, "facts": {"n": 1}}],
    "notice_choices": [{"user_id": 4, "event": "result", "choice": "never"}],
    "notice_feeds": [{"user_id": 4, "digest": digest("feed")}],
}

# Where the next row's ID comes from a sequence of PostgreSQL's.
NUMBERED = {name for name, rows in ROWS.items() if type(rows[0].get("id")) is int}


def tables_of(connection: Connection) -> MetaData:
    """The tables as they are, whatever the models say."""
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


def fill(connection: Connection) -> None:
    """Write ROWS as the version did that knew the columns that are there."""
    made_up = {Boolean: True, Integer: 1, JSON: {"made": "up"}, DateTime: THEN}
    tables = tables_of(connection).tables
    for name, rows in ROWS.items():
        for row in rows if name in tables else ():
            missing = {
                column.name: next((v for k, v in made_up.items() if isinstance(column.type, k)), "")
                for column in tables[name].columns
                if not column.nullable and column.server_default is None
            }
            known = {column: row[column] for column in row if column in tables[name].columns}
            connection.execute(tables[name].insert().values({**missing, **known}))
    connection.execute(text("UPDATE change_counter SET value = 9"))
    if connection.dialect.name == "postgresql":
        for name in tables.keys() & NUMBERED:
            sequence = f"pg_get_serial_sequence('{name}', 'id')"
            connection.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {name}))"))


def everything(connection: Connection, like: dict[str, list[Any]] | None = None) -> dict[str, Any]:
    """The rows of every table; of those and their columns only that `like` has, if it is given."""
    found = {}
    for table in tables_of(connection).sorted_tables:
        if table.name == "alembic_version" or (like is not None and table.name not in like):
            continue
        rows = connection.execute(table.select()).mappings().all()
        known = set(like[table.name][0]) if like else set(table.columns.keys())
        kept = [{k: v for k, v in row.items() if k in known} for row in rows]
        found[table.name] = sorted(kept, key=repr)
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A registry whose database is empty."""
    if request.param == "sqlite":
        return Registry(tmp_path)
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    return Registry(tmp_path, cluster.new_database())


@pytest.mark.parametrize("command", [("run",), ("user", "ls"), ("token", "ls")], ids=" ".join)
def test_before_init_every_command_says_what_to_do(
    fresh: Registry, command: tuple[str, ...]
) -> None:
    done = fresh.invoke(*command)
    assert done.exit_code == 1
    assert "is not initialised: run medperf-server init" in done.stderr
    assert "Traceback" not in done.stderr


def test_gunicorn_says_it_too(tmp_path: Path) -> None:
    fresh = Registry(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import medperf_server.wsgi"],
        env=fresh.environment,
        cwd=fresh.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "run medperf-server init" in done.stderr


def test_init_makes_what_the_models_say(fresh: Registry) -> None:
    from flask_migrate import check

    fresh.command("init")
    with fresh.app.app_context():
        check()


def cells(registry: Registry) -> dict[tuple[str, int, str], Any]:
    """All that stands in a registry's file on SQLite."""
    found: dict[tuple[str, int, str], Any] = {}
    with closing(sqlite3.connect(registry.file)) as connection:
        connection.row_factory = sqlite3.Row
        named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for table in ["sqlite_master", *(name for (name,) in named.fetchall())]:
            for number, row in enumerate(connection.execute(f"SELECT * FROM {table}")):
                found.update({(table, number, key): row[key] for key in dict(row)})
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return {**found, ("", 0, "mode"): (mode, registry.file.stat().st_mode)}


def test_what_the_other_tests_begin_with_is_what_init_makes(tmp_path: Path) -> None:
    registries = [Registry(tmp_path / name) for name in ("a", "b", "c", "d")]
    for registry in registries[:2]:
        registry.command("init")
    for registry in registries[2:]:
        registry.initialise()
    made, again, copied, another = map(cells, registries)
    drawn = {where for where in made if made[where] != again[where]}
    assert len(drawn) >= 4
    for one, other in ((made, copied), (copied, another)):
        assert one.keys() == other.keys()
        assert {where for where in one if one[where] != other[where]} == drawn
    assert all(len(made[where]) == len(copied[where]) for where in drawn)


def test_init_twice_is_harmless(fresh: Registry) -> None:
    fresh.command("init")
    fresh.start()
    try:
        member = Member(fresh, "ada")
        entity = member.container()
        fresh.command("init")
        assert member.get(f"/mlcubes/{entity['id']}/").json() == entity
        assert member.container()["id"] > entity["id"]
    finally:
        fresh.stop()


@pytest.mark.parametrize(
    ("revision", "what_to_do"),
    [
        ("0001", "is at an older revision, 0001: run medperf-server init"),
        ("9999", "was made by another version, its revision is 9999: run a newer medperf-server"),
    ],
)
def test_a_database_of_another_version_is_not_served(
    fresh: Registry, revision: str, what_to_do: str
) -> None:
    from medperf_server.base import db

    fresh.command("init")
    with fresh.app.app_context():
        db.session.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
        db.session.commit()
    done = fresh.invoke("run")
    assert done.exit_code == 1 and what_to_do in done.stderr


def test_a_migration_can_be_undone(fresh: Registry) -> None:
    from flask_migrate import downgrade

    from medperf_server.base import db

    fresh.command("init")
    with fresh.app.app_context():
        downgrade(revision="base")
        assert set(inspect(db.engine).get_table_names()) == {"alembic_version"}
    fresh.command("init")


@pytest.mark.parametrize("revision", EARLIER)
def test_a_populated_database_of_an_earlier_version_goes_on(fresh: Registry, revision: str) -> None:
    from flask_migrate import downgrade, upgrade

    from medperf_server.base import db

    with fresh.app.app_context():
        upgrade(revision=revision)
        with db.engine.begin() as connection:
            fill(connection)
        with db.engine.connect() as connection:
            before = everything(connection)
        assert all(before.values())
        fresh.command("init")
        with db.engine.connect() as connection:
            assert everything(connection, before) == before
        # Back, and once more: nothing that the earlier version knows is lost on the way.
        downgrade(revision=revision)
        with db.engine.connect() as connection:
            assert everything(connection) == before
        db.engine.dispose()
    fresh.command("init")
    fresh.start()
    try:
        _is_served(fresh)
    finally:
        fresh.stop()


def _is_served(registry: Registry) -> None:
    """What ROWS say is what members see, and they can go on."""

    def ask(token: str, path: str, method: str = "GET", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{registry.url}/api/v0{path}"
        return requests.request(method, url, headers=headers, timeout=60, **options)

    assert ask("lost", "/me/").status_code == 401
    assert ask("bob's", "/me/").json()["email"] == "bob@example.org"
    assert {one["id"] for one in ask("ada's", "/users/").json()["results"]} == {1, 4}
    benchmark = ask("bob's", "/benchmarks/2/").json()
    assert benchmark["approval_status"] == "APPROVED"
    assert datetime.fromisoformat(benchmark["approved_at"]) == THEN
    assert ask("bob's", "/mlcubes/3/").json()["metadata"] == {"n": [1]}
    changes = ask("bob's", "/changes/").json()
    assert [change["cursor"] for change in changes["changes"]] == [8, 9] and changes["next"] == 9
    pair = "/mlcubes/7/benchmarks/2/"
    (request,) = ask("ada's", pair).json()
    assert request["metadata"] == {"test_result": {"auroc": 0.97}}
    decided = ask("ada's", pair, "PUT", json={"approval_status": "APPROVED"})
    assert decided.status_code == 200, decided.text
    made = ask("bob's", "/mlcubes/", "POST", json=container_body())
    assert made.status_code == 201 and made.json()["id"] == 8
    assert ask("bob's", "/changes/?since=9").json()["next"] == 11


REWRITES = ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"]
MORE_REWRITES = {
    "sqlite": "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log",
    "postgresql": "TRUNCATE audit_log",
}


def test_the_database_refuses_to_rewrite_the_audit_log(fresh: Registry) -> None:
    from sqlalchemy.exc import DBAPIError

    from medperf_server.base import db

    fresh.command("init")
    fresh.command("user", "add", "ada@example.org")
    before = fresh.command("audit", "ls", "--json")
    with fresh.app.app_context():
        for statement in (*REWRITES, MORE_REWRITES[db.engine.name]):
            with db.engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
                connection.execute(text(statement))
    assert fresh.command("audit", "ls", "--json") == before != "[]\n"


def test_sqlite_waits_and_checks_references(tmp_path: Path) -> None:
    from medperf_server.base import db

    registry = Registry(tmp_path)
    registry.command("init")
    with registry.app.app_context(), db.engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30000}


def test_without_a_url_the_database_is_in_the_working_folder(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    environment = {k: v for k, v in registry.environment.items() if k != "MEDPERF_DATABASE_URL"}
    command = [sys.executable, "-m", "medperf_server.cli", "init"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "instance" / "registry.db").is_file()
    assert os.stat(tmp_path / "instance").st_mode & 0o077 == 0


def test_the_package_brings_its_migrations() -> None:
    setup = (ROOT / "setup.py").read_text()
    migrations = ROOT / "server" / "medperf_server" / "migrations"
    assert '"migrations/*"' in setup and '"migrations/versions/*"' in setup
    assert {path.name for path in migrations.iterdir()} >= {"env.py", "alembic.ini"}
