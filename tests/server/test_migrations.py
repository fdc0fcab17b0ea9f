"""The database: made by `init`, kept by `init`, and never served half made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from tests.server.conftest import Member
from tests.support.registry import ROOT, Registry
from tests.support.services import PostgresCluster


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


def test_a_database_of_another_version_is_not_served(fresh: Registry) -> None:
    from medperf_server.models import db

    fresh.command("init")
    with fresh.app.app_context():
        db.session.execute(text("UPDATE alembic_version SET version_num = 'older'"))
        db.session.commit()
    done = fresh.invoke("run")
    assert done.exit_code == 1 and "older revision" in done.stderr


def test_a_migration_can_be_undone(fresh: Registry) -> None:
    from flask_migrate import downgrade

    from medperf_server.models import db

    fresh.command("init")
    with fresh.app.app_context():
        downgrade(revision="base")
        assert set(inspect(db.engine).get_table_names()) == {"alembic_version"}
    fresh.command("init")


def test_sqlite_waits_and_checks_references(tmp_path: Path) -> None:
    from medperf_server.models import db

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
    assert '"migrations/*", "migrations/versions/*"' in setup
    assert {path.name for path in migrations.iterdir()} >= {"env.py", "alembic.ini"}
