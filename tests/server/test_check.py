"""`medperf-server check`: what is wrong with an installation, and how to mend it."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.ports import own_port
from sqlalchemy import text

from tests.support.bucket import bucket
from tests.support.registry import Registry
from tests.support.services import PostgresCluster

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["sqlite", "postgres"])
def sound(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A registry with an administrator and one file."""
    url = None
    if request.param == "postgres":
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        url = cluster.new_database()
    made = Registry(tmp_path / "registry", url, MEDPERF_ASSETS=str(tmp_path / "assets"))
    fill(made)
    return made


def fill(registry: Registry) -> None:
    """Give an empty installation an administrator and a file."""
    from medperf_server.assets import store_at
    from medperf_server.base import db
    from medperf_server.models import Asset, AssetHolder

    registry.initialise()
    ada = json.loads(registry.command("user", "add", "ada@example.org", "--admin", "--json"))
    settings = registry.settings
    files = store_at(settings["MEDPERF_ASSETS"], settings.get("MEDPERF_S3_ENDPOINT"))
    assert files.add(io.BytesIO(CONTENT)) == DIGEST
    with registry.app.app_context():
        db.session.add(Asset(sha256=DIGEST, size_bytes=len(CONTENT)))
        db.session.flush()
        db.session.add(AssetHolder(sha256=DIGEST, user_id=ada["user_id"]))
        db.session.commit()
        db.engine.dispose()


def troubles(registry: Registry, *options: str) -> dict[str, str]:
    """What is wrong, by what was looked at; the exit code must agree."""
    done = registry.invoke("check", "--json", *options)
    found = {one["what"]: one["trouble"] for one in json.loads(done.stdout) if one["trouble"]}
    assert done.exit_code == (1 if found else 0), done.stderr
    return found


def execute(registry: Registry, statement: str) -> None:
    """Change the database behind the registry's back."""
    from medperf_server.base import db

    with registry.app.app_context(), db.engine.begin() as connection:
        connection.execute(text(statement))


def test_nothing_is_wrong_with_a_sound_installation(sound: Registry) -> None:
    assert troubles(sound, "--deep") == {}
    lines = sound.command("check").splitlines()
    assert len(lines) > 5 and all(line.startswith("ok ") for line in lines)


def test_a_database_that_was_not_initialised(tmp_path: Path) -> None:
    (trouble,) = troubles(Registry(tmp_path)).values()
    assert "run medperf-server init" in trouble


def test_a_database_that_would_not_keep_every_text(
    postgres: PostgresCluster, tmp_path: Path
) -> None:
    registry = Registry(
        tmp_path, postgres.new_database("--encoding=SQL_ASCII", "--template=template0")
    )
    (trouble,) = troubles(registry).values()
    assert "has encoding SQL_ASCII: make one with createdb --encoding=UTF8" in trouble
    refused = registry.invoke("init")
    assert refused.exit_code == 1 and trouble.removeprefix("it ") in refused.stderr


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    url = f"postgresql://registry:swordfish@127.0.0.1:{own_port()}/registry"
    registry = Registry(tmp_path, url)
    found = troubles(registry)
    assert "MEDPERF_DATABASE_URL" in found["the database answers"]
    assert "swordfish" not in str(found)


def test_a_setting_that_is_no_number_is_named(tmp_path: Path) -> None:
    registry = Registry(tmp_path, MEDPERF_TRUSTED_PROXIES="some")
    done = registry.invoke("check")
    assert done.exit_code == 1
    assert "MEDPERF_TRUSTED_PROXIES='some' is not a number" in done.stderr


def test_no_administrator_is_left(sound: Registry) -> None:
    execute(sound, "UPDATE users SET is_active = false")
    assert "user add EMAIL --admin" in troubles(sound)["somebody is an administrator"]


def test_the_change_counter_is_behind_its_log(sound: Registry) -> None:
    execute(sound, "UPDATE change_counter SET value = 0")
    assert "restore a backup" in troubles(sound)["the change counter keeps up with its log"]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE changes SET entity_id = 99 WHERE cursor = 2", "row 2 does not follow"),
        ("DELETE FROM changes WHERE cursor = 1", "row 2 does not follow"),
        ("DELETE FROM changes WHERE cursor = (SELECT value FROM change_counter)", "at its end"),
    ],
)
def test_a_change_log_that_was_rewritten_is_found_out(
    sound: Registry, statement: str, told: str
) -> None:
    for name in ("bob", "carol"):
        sound.command("user", "add", f"{name}@example.org")
    assert "the change log is as it was written" not in troubles(sound)
    execute(sound, statement)
    assert told in troubles(sound)["the change log is as it was written"]


def test_a_member_whom_nobody_finds_by_their_address_is_named(sound: Registry) -> None:
    eve = json.loads(sound.command("user", "add", "eve@example.org", "--json"))["user_id"]
    # As the migration leaves an address that two members have in two spellings.
    doubled = "email = 'ADA@example.org', email_key = 'ada@example.org#2'"
    execute(sound, f"UPDATE users SET {doubled} WHERE id = {eve}")
    found = troubles(sound)["addresses and usernames are one member's each"]
    assert f"members {eve} have what others had before" in found


CONTAINER = """INSERT INTO mlcubes (id, name, git_mlcube_url, mlcube_hash, git_parameters_url,
parameters_hash, image_tarball_url, image_tarball_hash, image_hash, additional_files_tarball_url,
additional_files_tarball_hash, owner, state, is_valid, metadata, user_metadata, created_at,
modified_at) VALUES (1, 'model', 'u', 'h', '', '', '', '', 'i', '', '', 1, 'OPERATION', true,
'{}', '{}', '2026-01-01', '2026-01-01')"""
BENCHMARK = """INSERT INTO benchmarks (id, name, description, docs_url, owner,
demo_dataset_tarball_url, demo_dataset_tarball_hash, demo_dataset_generated_uid,
data_preparation_mlcube, reference_model_mlcube, data_evaluator_mlcube, metadata, state, is_valid,
is_active, approval_status, user_metadata, created_at, modified_at) VALUES (7, 'benchmark', '', '',
1, '', 'demo', '', 1, 1, 1, '{}', 'DEVELOPMENT', true, true, 'APPROVED', '{}', '2026-01-01',
'2026-01-01')"""


def test_what_was_approved_and_may_change_or_has_changed_is_named(sound: Registry) -> None:
    for statement in (CONTAINER, BENCHMARK):
        execute(sound, statement)
    assert "benchmarks 7 are not" in troubles(sound)["what is approved is in OPERATION"]
    execute(sound, "UPDATE benchmarks SET state = 'OPERATION'")
    assert troubles(sound) == {}
    execute(sound, f"UPDATE benchmarks SET approved_digest = '{'0' * 64}'")
    assert "not benchmarks 7" in troubles(sound)["benchmarks are what was approved"]


def stored(registry: Registry) -> Path:
    """Where the one file lies."""
    (path,) = Path(registry.settings["MEDPERF_ASSETS"]).glob("files/*/*")
    return path


def test_a_lost_file_is_named(sound: Registry) -> None:
    stored(sound).unlink()
    assert DIGEST in troubles(sound)["each of 1 files is there"]


def test_a_file_that_was_cut_is_named(sound: Registry) -> None:
    os.truncate(stored(sound), 100)
    assert DIGEST in troubles(sound)["each of 1 files is there"]


def test_a_changed_file_is_found_by_reading_it(sound: Registry) -> None:
    stored(sound).write_bytes(bytes(len(CONTENT)))
    assert troubles(sound) == {}
    assert DIGEST in troubles(sound, "--deep")["each of 1 files is there, byte for byte"]


def test_files_that_the_database_does_not_know_are_counted_and_are_no_trouble(
    sound: Registry,
) -> None:
    execute(sound, "DELETE FROM asset_holders")
    execute(sound, "DELETE FROM assets")
    assert troubles(sound) == {}
    assert "files that the database does not know: 1" in sound.command("check")


def test_a_file_that_no_member_holds_is_named(sound: Registry) -> None:
    execute(sound, "DELETE FROM asset_holders")
    assert f"nobody holds {DIGEST}" in troubles(sound)["members hold each file"]


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Registry:
    """A sound registry on SQLite."""
    registry = Registry(tmp_path / "registry", MEDPERF_ASSETS=str(tmp_path / "assets"))
    fill(registry)
    return registry


def test_a_damaged_database_is_found(on_sqlite: Registry) -> None:
    path = on_sqlite.folder / "registry.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    assert "restore a backup" in str(troubles(on_sqlite)) or "malformed" in str(troubles(on_sqlite))


def test_references_to_nothing_are_found(on_sqlite: Registry) -> None:
    import sqlite3

    connection = sqlite3.connect(on_sqlite.folder / "registry.db")
    connection.execute("DELETE FROM users")
    connection.commit()
    connection.close()
    assert "restore a backup" in troubles(on_sqlite)["references lead to what is there"]


def test_a_database_that_others_may_read_is_closed_by_what_it_says(on_sqlite: Registry) -> None:
    path = on_sqlite.folder / "registry.db"
    on_sqlite.folder.chmod(0o755)
    path.chmod(0o644)
    (trouble,) = troubles(on_sqlite).values()
    mend = f"chmod 600 {path}"
    assert mend in trouble
    path.chmod(0o600)
    assert troubles(on_sqlite) == {}


@pytest.fixture
def in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A sound registry that keeps files in a bucket."""
    with bucket() as settings:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        registry = Registry(tmp_path / "registry", **settings)
        fill(registry)
        yield registry


def test_a_bucket_is_looked_into(in_a_bucket: Registry) -> None:
    assert troubles(in_a_bucket, "--deep") == {}
    in_a_bucket.settings["MEDPERF_ASSETS"] = "s3://nobodys/registry"
    assert "MEDPERF_ASSETS" in troubles(in_a_bucket)["the store of files answers"]
