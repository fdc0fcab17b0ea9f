"""Many at once, and a database that comes and goes: everyone gets a proper answer."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.support.api import Member, container_body
from tests.support.registry import Registry
from tests.support.services import PostgresCluster


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Registry]]:
    """Two server processes on one SQLite file."""
    folder: Path = tmp_path_factory.mktemp("shared")
    first = Registry(folder / "0")
    first.initialise()
    servers = [first, Registry(folder / "1", first.database_url)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


def test_twenty_writers_wait_their_turn(processes: list[Registry]) -> None:
    members = [Member(processes[n % 2], f"writer{n}") for n in range(20)]

    def work(member: Member) -> list[int]:
        statuses = []
        for _ in range(6):
            answer = member.post("/mlcubes/", container_body(state="DEVELOPMENT"))
            statuses.append(answer.status_code)
            path = f"/mlcubes/{answer.json()['id']}/"
            statuses.append(member.put(path, {"is_valid": False}).status_code)
            statuses.append(member.get("/me/mlcubes/").status_code)
        return statuses

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(work, members))
    assert results == [[201, 200, 200] * 6] * 20
    assert members[0].get("/mlcubes/?limit=1").json()["count"] == 120
    for server in processes:
        assert "locked" not in server.log.read_text()


def test_a_slow_upload_holds_nobody_up(processes: list[Registry]) -> None:
    """Whoever dribbles a body must not sit on the write lock meanwhile."""
    member = Member(processes[0], "slow")
    head = (
        "POST /api/v0/mlcubes/ HTTP/1.1\r\nHost: registry\r\nContent-Length: 1000\r\n"
        f"Authorization: {member.session.headers['Authorization']!s}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", processes[0].port), timeout=10) as slow:
        slow.sendall(head.encode() + b'{"name": ')
        done = threading.Event()

        def write() -> None:
            member.container()
            done.set()

        threading.Thread(target=write, daemon=True).start()
        assert done.wait(timeout=10)


@pytest.fixture
def on_postgres(postgres: PostgresCluster, tmp_path: Path) -> Iterator[Registry]:
    """A registry whose PostgreSQL database is its own."""
    yield from Registry.serving(tmp_path, postgres.new_database())


def test_a_database_that_went_away_is_503_until_it_is_back(on_postgres: Registry) -> None:
    member = Member(on_postgres, "ada")
    url = make_url(on_postgres.database_url)
    operator = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def disconnect() -> None:
        backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(backends), {"name": url.database})

    with operator.connect() as connection:
        disconnect()
        assert member.container()["id"] == 1
        disconnect()
        connection.execute(text(f"ALTER DATABASE {url.database} RENAME TO away"))
        for answer in (member.get("/me/"), member.post("/mlcubes/", container_body())):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            assert "not available" in answer.json()["detail"]
        connection.execute(text(f"ALTER DATABASE away RENAME TO {url.database}"))
    assert member.container()["id"] == 2
