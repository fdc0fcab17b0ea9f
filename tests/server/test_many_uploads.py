"""However many files are about to be sent, others can begin to send theirs."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from medperf_server.assets import receiving
from tests.support.api import Member, created
from tests.support.registry import Registry
from tests.support.tus import TUS, begin, begun, content

# More than the 65,535 values that a statement takes on PostgreSQL, or the 32,766 on SQLite.
MANY, OF_NOBODY = 70_000, 500


@pytest.fixture(scope="module")
def crowded(
    database_url: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry with tens of thousands of uploads, and with pieces of others that are gone."""
    folder = tmp_path_factory.mktemp("crowded")
    for registry in Registry.serving(folder, database_url, MEDPERF_ASSETS=str(folder / "assets")):
        fill(registry)
        yield registry


def fill(registry: Registry) -> None:
    """Begin uploads behind the API's back, as many members would."""
    from medperf_server.base import db
    from medperf_server.kinds.user.table import User
    from medperf_server.models import Upload

    uids = [f"{number:032x}" for number in range(MANY + OF_NOBODY)]
    with registry.app.app_context():
        members = [User(username=f"m{n}", email=f"m{n}@example.org") for n in range(100)]
        db.session.add_all(members)
        db.session.flush()
        common = {"sha256": "a" * 64, "size_bytes": 1, "offset_bytes": 0, "metadata_header": ""}
        rows = [{**common, "id": uid, "user_id": members[n % 100].id} for n, uid in enumerate(uids)]
        db.session.execute(insert(Upload), rows[:MANY])
        db.session.commit()
    uploads = Path(registry.settings["MEDPERF_ASSETS"]) / "uploads"
    uploads.mkdir(parents=True)
    for uid in uids:
        (uploads / uid).mkdir()


def test_tens_of_thousands_of_uploads_stop_nobody(crowded: Registry) -> None:
    member = Member(crowded, "ada")
    first = begin(member, content(10))
    assert first.status_code == 201, first.text
    # The store is not looked through with every request.
    started = time.monotonic()
    for _ in range(10):
        begun(member, content(10))
    assert time.monotonic() - started < 3
    uploads = Path(crowded.settings["MEDPERF_ASSETS"]) / "uploads"
    left = {path.name for path in uploads.iterdir()}
    assert f"{0:032x}" in left and len(left) < MANY + OF_NOBODY


def test_a_member_begins_so_many_uploads_and_no_more(crowded: Registry) -> None:
    from medperf_server.base import db
    from medperf_server.models import Upload

    member, other = Member(crowded, "ada"), Member(crowded, "bob")
    path, again = begun(member, data := content(10)), content(10)
    with crowded.app.app_context():
        common = {"sha256": "a" * 64, "size_bytes": 0, "offset_bytes": 0, "metadata_header": ""}
        rows = [
            {**common, "id": f"{member.uid:016x}{n:016x}", "user_id": member.uid}
            for n in range(receiving.MOST_BEGUN - 1)
        ]
        db.session.execute(insert(Upload), rows)
        db.session.commit()
    refused = begin(member, again)
    assert refused.status_code == 413
    for word in (str(receiving.MOST_BEGUN), "DELETE", "7 days"):
        assert word in refused.json()["detail"]
    # What was begun goes on, others begin, and whoever gives one up begins another.
    assert created(begin(member, data))["upload"] in path
    assert begin(other, again).status_code == 201
    assert member.ask("DELETE", path, headers=TUS).status_code == 204
    assert begin(member, again).status_code == 201


def test_a_backup_may_say_of_any_number_of_files_that_they_are_gone(crowded: Registry) -> None:
    from medperf_server.backup import Manifest, _prepare
    from medperf_server.base import db
    from medperf_server.models import Asset

    gone = [f"{number:064x}" for number in range(MANY)]
    with crowded.app.app_context():
        rows = [{"sha256": sha256, "size_bytes": 1} for sha256 in (*gone, "f" * 64)]
        db.session.execute(insert(Asset), rows)
        db.session.commit()
    crowded.stop()
    _prepare(Manifest("any", "any", "now", gone=gone), crowded.database_url)
    with crowded.app.app_context():
        assert db.session.scalar(select(func.count(Asset.sha256))) == 1
