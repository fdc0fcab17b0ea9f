"""A backup is the registry as of one moment; restored, it is that registry again."""

import base64
import hashlib
import io
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from tests.support.api import Member, created, key_body
from tests.support.registry import Registry
from tests.support.services import PostgresCluster

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NewRegistry = Callable[[str], Registry]


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def cluster(request: pytest.FixtureRequest) -> PostgresCluster | None:
    """Where databases are; None for SQLite."""
    found: PostgresCluster | None = None
    if request.param == "postgres":
        found = request.getfixturevalue("postgres")
    return found


def makes_registries(folder: Path, cluster: PostgresCluster | None) -> NewRegistry:
    """Makes a registry on an empty database, with a folder for files."""

    def new(name: str) -> Registry:
        url = cluster.new_database() if cluster else None
        return Registry(folder / name, url, MEDPERF_ASSETS=str(folder / name / "assets"))

    return new


@pytest.fixture
def new_registry(cluster: PostgresCluster | None, tmp_path: Path) -> NewRegistry:
    """Makes registries of the test's own."""
    return makes_registries(tmp_path, cluster)


@pytest.fixture
def source(new_registry: NewRegistry) -> Iterator[Registry]:
    """A registry that is served."""
    registry = new_registry("source")
    registry.initialise()
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture
def member(source: Registry) -> Member:
    """Its administrator, who has one of each kind there."""
    return with_everything(source)


def with_everything(source: Registry) -> Member:
    """An administrator who has a container, the file that it names, and a dataset with a result."""
    member = Member(source, "ada", admin=True)
    upload(member)
    address = f"{source.url}/api/v0/assets/{DIGEST}"
    member.container(additional_files_tarball_url=address, additional_files_tarball_hash=DIGEST)
    benchmark = member.benchmark()
    member.put(f"/benchmarks/{benchmark['id']}/", {"approval_status": "APPROVED"})
    sides = {"dataset": member.dataset(benchmark["data_preparation_mlcube"])["id"]}
    sides["benchmark"] = benchmark["id"]
    created(member.post("/datasets/benchmarks/", {**sides, "metadata": {}}))
    model = benchmark["reference_model_mlcube"]
    created(member.post("/results/", {**sides, "model": model, "results": {"auroc": 0.9}}))
    report = {"execution_status": "running"}
    draft = member.dataset(benchmark["data_preparation_mlcube"], state="DEVELOPMENT")
    member.put(f"/datasets/{draft['id']}/", {"report": report})
    return member


@pytest.fixture
def backup(source: Registry, member: Member, tmp_path: Path) -> Path:
    """A backup of it."""
    file = tmp_path / "registry.backup"
    source.command("backup", str(file))
    return file


def at(registry: Registry, member: Member) -> Member:
    """The same member, with the same token, at another registry."""
    there = copy(member)
    there.registry = registry
    return there


def upload(member: Member) -> None:
    """Store CONTENT in the registry, by tus."""
    told = base64.b64encode(DIGEST.encode()).decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(CONTENT))}
    made = member.ask("POST", "/assets/", headers={**headers, "Upload-Metadata": f"sha256 {told}"})
    assert made.status_code == 201, made.text
    url = made.headers["Location"]
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    url = url if url.startswith("http") else member.registry.url + url
    sent = member.session.patch(url, data=CONTENT, headers=headers, timeout=60)
    assert sent.status_code == 204, sent.text
    assert member.ask("GET", f"/assets/{DIGEST}").content == CONTENT


def everything(member: Member) -> dict[str, Any]:
    """What the registry shows an administrator."""
    data = ("/me/datasets/", "/me/datasets/associations/", "/results/")
    paths = ("/users/", "/mlcubes/", "/audit/", *data)
    answers = {path: member.get(f"{path}?limit=1000").text for path in paths}
    # A key comes with the address that the registry is asked at.
    plain = {path: re.sub(r"\?key=[0-9a-f]{64}", "", text) for path, text in answers.items()}
    return {path: json.loads(text)["results"] for path, text in plain.items()}


def test_what_comes_back_is_the_registry(
    source: Registry, member: Member, new_registry: NewRegistry, tmp_path: Path
) -> None:
    before = everything(member)
    assert all(before.values())
    file = tmp_path / "registry.backup"
    source.command("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    known = member.get("/changes/?limit=1000").json()
    member.container(name="later")
    seen = member.get("/changes/?limit=1000").json()
    other = new_registry("other")
    other.command("restore", str(file))
    other.start()
    try:
        restored = at(other, member)
        assert everything(restored) == before
        assert restored.get(f"/assets/{DIGEST}").content == CONTENT
        # Who has read no further than the backup goes on, and who has is told to read again,
        # however many changes come after it.
        for _ in range(3):
            made = restored.container()
            later = f"/changes/?since={seen['next']}&log={seen['log']}"
            assert restored.get(later).json() == {"reset": True}
        earlier = f"/changes/?since={known['next']}&log={known['log']}"
        assert restored.get(earlier).json()["changes"][-1]["id"] == made["id"]
    finally:
        other.stop()
    other.command("check", "--deep")


def test_a_backup_while_members_write_is_of_one_moment(
    source: Registry, member: Member, new_registry: NewRegistry, tmp_path: Path
) -> None:
    writer = Member(source, "writer")
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        while not stop.is_set():
            written.append(writer.container()["id"])

    def wait_for_more() -> None:
        count = len(written)
        while len(written) < count + 5:
            stop.wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_for_more()
        file = tmp_path / "registry.backup"
        source.command("backup", str(file))
        wait_for_more()
    finally:
        stop.set()
        thread.join()
    other = new_registry("other")
    other.command("restore", str(file))
    other.start()
    try:
        found = at(other, writer).get("/me/mlcubes/?limit=1000").json()["results"]
        uids = [one["id"] for one in found]
        assert 5 <= len(uids) < len(written) and uids == written[: len(uids)]
    finally:
        other.stop()


@pytest.fixture
def other(new_registry: NewRegistry) -> Registry:
    """A registry that is not empty: Eve is a member."""
    return with_eve(new_registry("other"))


def with_eve(other: Registry) -> Registry:
    """A registry of which Eve is a member by now."""
    other.initialise()
    other.command("user", "add", "eve@example.org")
    return other


@pytest.fixture(scope="module")
def in_use(
    cluster: PostgresCluster | None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Registry]:
    """A backup, and another registry, for all that may change neither."""
    folder = tmp_path_factory.mktemp("in_use")
    new = makes_registries(folder, cluster)
    source, backup = new("source"), folder / "registry.backup"
    source.initialise()
    source.start()
    try:
        with_everything(source)
        source.command("backup", str(backup))
    finally:
        source.stop()
    return backup, with_eve(new("other"))


def test_a_registry_is_replaced_only_when_asked_and_kept_aside(
    backup: Path, other: Registry
) -> None:
    refused = other.invoke("restore", str(backup))
    assert refused.exit_code == 1 and "--replace" in refused.stderr
    assert "eve@example.org" in other.command("user", "ls")
    done = other.invoke("restore", str(backup), "--replace")
    assert done.exit_code == 0 and "What was here is kept" in done.stderr
    assert "eve@example.org" not in other.command("user", "ls")


def test_what_is_served_is_not_replaced(source: Registry, member: Member, backup: Path) -> None:
    member.get("/me/")
    refused = source.invoke("restore", str(backup), "--replace")
    assert refused.exit_code == 1 and "stop the registry first" in refused.stderr
    member.container()


def changed(file: Path, name: str) -> Path:
    """A copy of a backup that is damaged in some way."""
    bad = file.with_name(f"{name}.backup")
    content = bytearray(file.read_bytes())
    if name == "cut":
        content = content[: len(content) // 2]
    elif name == "a bit":
        content[len(content) // 3] ^= 1
    elif name == "no tar":
        content = bytearray(b"hello")
    elif name == "one more byte":
        content += b"\0"
    elif name == "another archive":
        content = content * 2
    elif name == "an end that says something":
        content[-1] = 1
    elif name == "no end":
        content = content[:-1]
    else:
        with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(bad, "w") as new:
            for member in old:
                data = old.extractfile(member)
                if name == "more" and member.name == "manifest.json":
                    more = tarfile.TarInfo("../../outside")
                    more.size = 1
                    new.addfile(more, io.BytesIO(b"x"))
                if name == "link" and member.name != "database":
                    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
                new.addfile(member, data)
        return bad
    bad.write_bytes(content)
    return bad


LATE_ENDS = ["one more byte", "another archive", "an end that says something", "no end"]


@pytest.mark.parametrize("name", ["cut", "a bit", "no tar", "more", "link", *LATE_ENDS])
def test_a_damaged_backup_changes_nothing(
    in_use: tuple[Path, Registry], tmp_path: Path, name: str
) -> None:
    whole, other = in_use
    backup = Path(shutil.copy(whole, tmp_path))
    refused = other.invoke("restore", str(changed(backup, name)), "--replace")
    assert refused.exit_code == 1 and "Nothing was changed." in refused.stderr
    assert "eve@example.org" in other.command("user", "ls")
    assert not (tmp_path.parent / "outside").exists()


def test_a_backup_of_a_newer_version_is_refused(
    source: Registry, member: Member, new_registry: NewRegistry, tmp_path: Path
) -> None:
    from medperf_server.backup import back_up
    from medperf_server.base import db

    file = tmp_path / "new.backup"
    with source.app.app_context():
        db.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        db.session.commit()
        back_up(file, lambda count: None)
    refused = new_registry("other").invoke("restore", str(file))
    assert refused.exit_code == 1 and "newer version" in refused.stderr


def test_a_restore_is_told_to_every_member_and_what_waited_is_not_mailed_again(
    source: Registry, member: Member, new_registry: NewRegistry, tmp_path: Path
) -> None:
    from sqlalchemy import select

    from medperf_server.base import db
    from medperf_server.notices.table import Notice

    key = created(member.post("/keys/", key_body()))
    assert member.put(f"/keys/{key['id']}/", {"is_revoked": True}).ok
    url = created(member.post("/me/notices/feed/", None))["url"]
    chosen = member.put("/me/notices/", {"mail": {"key": "daily"}}).json()
    source.command("backup", str(tmp_path / "registry.backup"))
    target = new_registry("target")
    target.command("restore", str(tmp_path / "registry.backup"))
    with target.app.app_context():
        rows = db.session.scalars(select(Notice).order_by(Notice.id)).all()
        waiting = [(row.user_id, row.event) for row in rows if row.is_waiting]
        assert waiting == [(member.uid, "restored")] and len(rows) > 1
        # Sites and readers of feeds know the earlier ones by their numbers.
        assert rows[-1].id > 1000 > rows[-2].id
    target.start()
    try:
        assert at(target, member).get("/me/notices/").json() == chosen
        # The address of a feed is as good as before, and its readers know what they have read.
        before, after = (
            requests.get(url.replace(source.url, one.url), timeout=60).text
            for one in (source, target)
        )
        assert "The registry was put back to a backup of 20" in after
        uids = [set(re.findall("<id>(.*?)</id>", text)) for text in (before, after)]
        assert uids[0] < uids[1] and len(uids[1] - uids[0]) == 1
    finally:
        target.stop()
