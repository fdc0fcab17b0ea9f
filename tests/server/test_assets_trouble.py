"""Files come in whole whatever happens: broken connections, killed workers, many at once."""

import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from scripts.ports import own_port

from medperf_server.assets import Store
from tests.support.api import Member, NewMember, created, together
from tests.support.asset_fixtures import files_in_bucket, join, registry, store
from tests.support.registry import Registry
from tests.support.services import BROKEN
from tests.support.tus import (
    MIB,
    PIECE_TYPE,
    TUS,
    begin,
    begun,
    content,
    digest,
    held,
    offset,
    patch,
    send,
)

__all__ = ["files_in_bucket", "join", "registry", "store"]


class Workers:
    """A registry under gunicorn, where bodies are read as they come."""

    def __init__(self, served: Registry) -> None:
        self.registry = served
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        served.port = self._listener.getsockname()[1]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "medperf_server.wsgi:app", "--workers", "1"),
                *("--worker-class", "gthread", "--threads", "4"),
                *("--bind", f"fd://{self._listener.fileno()}"),
            ],
            env=served.environment,
            cwd=served.folder,
            pass_fds=[self._listener.fileno()],
            stderr=served.log.open("a"),
        )

    @property
    def worker(self) -> psutil.Process:
        """The process that answers."""
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def stop(self) -> None:
        """Stop serving."""
        self.process.terminate()
        self.process.wait(timeout=30)
        self._listener.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """A new registry under gunicorn."""
    served = Registry(tmp_path / "registry")
    served.initialise()
    made = Workers(served)
    yield made
    made.stop()


def cut_patch(member: Member, path: str, data: bytes, sent: int) -> None:
    """A connection that breaks once it has brought the first bytes of a PATCH."""
    address = urlsplit(member.registry.url)
    head = {
        **{"Host": address.netloc, "Authorization": member.session.headers["Authorization"]},
        **{**TUS, **PIECE_TYPE, "Upload-Offset": "0", "Content-Length": str(len(data))},
    }
    lines = [f"PATCH /api/v0{path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()), "", ""]
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall("\r\n".join(lines).encode() + data[:sent])
        # The server answers what it sees as the end of the body: then it has taken all.
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(60)
        while connection.recv(1 << 16):
            pass


def test_what_came_before_a_connection_broke_is_kept(workers: Workers) -> None:
    member = Member(workers.registry, "ada")
    data = content(20 * MIB)
    path = begun(member, data)
    cut_patch(member, path, data, 11 * MIB + 3)
    assert offset(member, path) == 11 * MIB + 3
    assert patch(member, path, 11 * MIB + 3, data[11 * MIB + 3 :]).status_code == 204
    assert member.get(f"/assets/{digest(data)}").content == data


def test_parts_can_be_had_of_gunicorn(workers: Workers) -> None:
    member, data = Member(workers.registry, "ada"), content(3 * MIB)
    path = send(member, data)
    for start, stop in ((0, 10), (MIB, 2 * MIB), (3 * MIB - 1, 3 * MIB)):
        answer = member.get(path, Range=f"bytes={start}-{stop - 1}")
        assert (answer.status_code, answer.content) == (206, data[start:stop])
    # The connection is in order for what comes next.
    assert member.get("/me/assets/").json()["count"] == 1


def test_whoever_receives_slowly_keeps_nobody_waiting(tmp_path: Path) -> None:
    for served in Registry.serving(tmp_path / "registry"):
        member = Member(served, "ada")
        data = content(30 * MIB)
        url = f"{served.url}/api/v0{send(member, data)}"
        # More than there are threads, and more than sockets hold of each.
        slow = [
            requests.get(url, headers=member.session.headers, stream=True, timeout=60)
            for _ in range(10)
        ]
        assert member.get("/mlcubes/").status_code == 200
        assert all(digest(answer.content) == digest(data) for answer in slow)


def test_a_body_of_unknown_length_is_taken_too(workers: Workers) -> None:
    member = Member(workers.registry, "ada")
    data = content(3 * MIB)
    path = begun(member, data)
    answer = patch(member, path, 0, (data[n : n + MIB] for n in range(0, 3 * MIB, MIB)))
    assert answer.status_code == 204
    assert member.get(f"/assets/{digest(data)}").content == data


def test_a_large_file_takes_little_memory(workers: Workers) -> None:
    member = Member(workers.registry, "ada")
    send(member, content(MIB))
    data = content(200 * MIB)
    before = workers.worker.memory_info().rss
    path, peak, done = begun(member, data), [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(workers.worker.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    assert patch(member, path, 0, data).status_code == 204
    assert member.get(f"/assets/{digest(data)}").content == data
    done.set()
    watching.join()
    assert max(peak) - before < 40 * MIB


def test_killed_workers_lose_nothing_that_was_acknowledged(workers: Workers) -> None:
    member = Member(workers.registry, "ada")
    data, acknowledged = content(8 * MIB), 0
    chance, serving, done = random.Random(4), threading.Event(), threading.Event()

    def kill() -> None:
        for _ in range(4):
            # A worker that does not answer yet is no loss.
            serving.wait()
            done.wait(chance.uniform(0, 0.1))
            serving.clear()
            # While its successor is on its way there is none.
            for worker in [] if done.is_set() else psutil.Process(workers.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    worker.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    while acknowledged < len(data):
        with suppress(*BROKEN):
            answer = begin(member, data)
            if answer.status_code == 200:
                break
            here = created(answer)["offset_bytes"]
            assert here >= acknowledged
            path = f"/assets/uploads/{answer.json()['upload']}/"
            answer = patch(member, path, here, data[here : here + MIB // 4])
            assert answer.status_code == 204
            acknowledged = int(answer.headers["Upload-Offset"])
            serving.set()
    done.set()
    serving.set()
    killing.join()
    assert member.get(f"/assets/{digest(data)}").content == data
    assert held(member) == {digest(data): len(data)}
    # What was left of kills goes with the next upload.
    begun(member, content(10))
    uploads = workers.registry.folder / "assets" / "uploads"
    assert [one.name for one in uploads.iterdir()] == []


def test_files_are_open_to_the_registry_only(workers: Workers) -> None:
    member = Member(workers.registry, "ada")
    send(member, content(10))
    patch(member, begun(member, content(10)), 0, b"some")
    folder = workers.registry.folder / "assets"
    modes = {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))}
    assert modes == {0}


def test_of_pieces_for_one_place_one_is_taken(join: NewMember) -> None:
    ada = join("ada")
    for _ in range(3):
        data = content(4 * MIB)
        path = begun(ada, data)
        answers = together(5, lambda n: patch(ada, path, 0, data[: (n + 1) * 1000]))  # noqa: B023
        assert sorted(answer.status_code for answer in answers) == [204, 409, 409, 409, 409]
        (taken,) = [int(a.headers["Upload-Offset"]) for a in answers if a.status_code == 204]
        assert offset(ada, path) == taken
        assert patch(ada, path, taken, data[taken:]).status_code == 204
        assert ada.get(f"/assets/{digest(data)}").content == data


def test_a_late_piece_of_other_content_changes_no_file(workers: Workers) -> None:
    """Whoever keeps a connection open cannot write into what was checked meanwhile."""
    member = Member(workers.registry, "ada")
    data = content(MIB)
    path = begun(member, data)
    released = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"other" * 1000
        released.wait(60)
        yield b"other" * 1000

    with ThreadPoolExecutor() as pool:
        late = pool.submit(_with_own_session, member, path, slowly())
        assert patch(member, path, 0, data).status_code == 204
        released.set()
        assert late.result().status_code in (404, 409)
    assert member.get(f"/assets/{digest(data)}").content == data


def _with_own_session(member: Member, path: str, data: Iterator[bytes]) -> requests.Response:
    headers = {"Authorization": str(member.session.headers["Authorization"]), "Upload-Offset": "0"}
    url = f"{member.registry.url}/api/v0{path}"
    return requests.patch(url, data=data, headers={**TUS, **PIECE_TYPE, **headers}, timeout=60)


def test_two_who_send_the_same_both_hold_it(join: NewMember, store: Store) -> None:
    for _ in range(3):
        members, data = [join("twin") for _ in range(4)], content(MIB)
        paths = [begun(member, data) for member in members]
        answers = together(4, lambda n: patch(members[n], paths[n], 0, data))  # noqa: B023
        assert {answer.status_code for answer in answers} == {204}
        assert all(held(member) == {digest(data): MIB} for member in members)
        assert members[0].get(f"/assets/{digest(data)}").content == data


def test_an_upload_that_is_finished_twice_is_one_file(join: NewMember) -> None:
    ada = join("ada")
    for _ in range(3):
        data = content(MIB)
        path = begun(ada, data)
        patch(ada, path, 0, data[:-1])
        answers = together(4, lambda n: patch(ada, path, MIB - 1, data[-1:]))  # noqa: B023
        assert {answer.status_code for answer in answers} <= {204, 404, 409}
        assert begin(ada, data).status_code == 200
        assert ada.get(f"/assets/{digest(data)}").content == data


def test_who_sends_to_an_upload_that_somebody_else_has_finished_just_now_is_told(
    join: NewMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medperf_server.assets import local

    ada = join("ada")
    path = begun(ada, content(MIB))
    made = local.made

    def gone(folder: Path) -> Path:
        made(folder).rmdir()
        return folder

    monkeypatch.setattr(local, "made", gone)
    token = {"Authorization": str(ada.session.headers["Authorization"])}
    answer = ada.registry.app.test_client().patch(
        f"/api/v0{path}", data=b"some", headers={**TUS, **PIECE_TYPE, **token, "Upload-Offset": "0"}
    )
    assert answer.status_code == 404 and "begin again" in answer.text


def test_giving_up_and_sending_at_once_leave_a_whole_file_or_none(
    join: NewMember, store: Store
) -> None:
    ada, bob, data = join("ada"), join("bob"), content(1000)
    url = f"/assets/{digest(data)}"
    for _ in range(12):
        send(ada, data)
        bob.delete(url)
        path = begun(bob, data) if begin(bob, data).status_code == 201 else None
        if path is None:
            bob.delete(url)
        answers = together(2, lambda n: ada.delete(url) if n else begin(bob, data))
        assert answers[1].status_code == 204
        if answers[0].status_code == 200:
            assert bob.get(url).content == data
        else:
            path = f"/assets/uploads/{created(answers[0])['upload']}/"
            assert bob.get(url).status_code == 404
            send(ada, data)
            answers = together(
                2,
                lambda n: ada.delete(url) if n else patch(bob, path, 0, data),  # noqa: B023
            )
            assert [answer.status_code for answer in answers] == [204, 204]
            assert bob.get(url).content == data
        assert list(held(bob)) == [digest(data)] and digest(data) in store
        bob.delete(url)


# With SQLite nobody waits for a row.
@pytest.mark.parametrize("registry", ["bucket"], indirect=True)
def test_what_is_given_up_while_it_is_sent_is_stored_again(
    registry: Registry, join: NewMember, store: Store
) -> None:
    from sqlalchemy import text

    from medperf_server.app import create_app
    from medperf_server.assets.holdings import locked, release
    from medperf_server.base import db

    ada, bob, data = join("ada"), join("bob"), content(1000)
    path = begun(bob, data)
    send(ada, data)
    with create_app(registry.database_url).app_context(), ThreadPoolExecutor() as pool:
        assert locked(digest(data)) is not None
        sending = pool.submit(patch, bob, path, 0, data)
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with db.engine.connect() as connection:
            while not connection.execute(waiting).scalar():
                connection.rollback()
        release(digest(data), ada.uid)
        assert digest(data) not in store
        db.session.commit()
        assert sending.result().status_code == 204
    assert bob.get(f"/assets/{digest(data)}").content == data
    assert (held(ada), held(bob)) == ({}, {digest(data): 1000})


def test_a_store_that_is_away_is_told_as_that(tmp_path: Path) -> None:
    settings = {
        **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        **{"AWS_DEFAULT_REGION": "us-east-1", "MEDPERF_ASSETS": "s3://bucket"},
        "MEDPERF_S3_ENDPOINT": f"http://127.0.0.1:{own_port()}",
    }
    for served in Registry.serving(tmp_path / "registry", **settings):
        member = Member(served, "ada")
        answer = begin(member, content(10))
        assert answer.status_code == 503 and answer.headers["Retry-After"]
        assert "store of files" in answer.json()["detail"]
        # All else goes on.
        assert member.get("/mlcubes/").status_code == 200


def test_a_folder_that_cannot_be_written_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "assets")
    for served in Registry.serving(tmp_path / "registry", MEDPERF_ASSETS=place):
        member = Member(served, "ada")
        path = begun(member, b"some")
        answer = patch(member, path, 0, b"some")
        assert answer.status_code == 503 and "store of files" in answer.json()["detail"]
        assert offset(member, path) == 0
