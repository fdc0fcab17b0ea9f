"""What the registry bears: a mixed load on PostgreSQL, many writers on SQLite, long lists."""

import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.services import postgres_cluster

from benchmarks.registry import against_bare
from benchmarks.serving import answer, connect, database_url, fill, gunicorn

REGISTRY = "medperf_server.wsgi:app"
CLIENTS, SECONDS = 8, 60.0
WRITERS, WRITING_SECONDS = 20, 10.0
CONTAINERS, PAGE, LAST_PAGE, PAGE_ROUNDS = 100_000, 32, 1000, 30
READS = (
    "/benchmarks/1/",
    "/benchmarks/",
    "/mlcubes/?limit=32",
    "/mlcubes/{known}/",
    "/me/",
    "/changes/?since=0&limit=32",
)
READ_SHARE = 0.8

# Method and path below /api/v0, and a body for a write.
Request = tuple[str, str, dict[str, Any] | None]


def measure() -> dict[str, Any]:
    """Figures by name; times in milliseconds, `errors` are answers that are not 2xx."""
    with tempfile.TemporaryDirectory(prefix="medperf-bench-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        (folder / "postgres").mkdir()
        # With fsync, as a consortium would run it.
        with postgres_cluster(folder / "postgres", fsync=True) as cluster:
            url = cluster.new_database()
            token = fill(url)
            mixed = _load(folder, url, token, CLIENTS, SECONDS, _mixed)
            reads = against_bare(folder, url, token, "gthread", keep=True)
        url = database_url(folder)
        token = fill(url, CONTAINERS)
        return {
            "load_postgres": mixed,
            "load_postgres_reads": reads,
            "load_sqlite_writers": _load(folder, url, token, WRITERS, WRITING_SECONDS, _writing),
            "load_long_list": _pages(folder, url, token),
        }


def _load(
    folder: Path,
    url: str,
    token: str,
    clients: int,
    seconds: float,
    requests: Callable[[], Iterator[Request]],
) -> dict[str, Any]:
    """So many clients at once for some seconds, each with one request after the other."""
    with gunicorn(folder, REGISTRY, "gthread", url) as port:
        _ask(port, token, "GET", "/me/")
        with multiprocessing.get_context("fork").Pool(clients) as pool:
            jobs = [(port, token, seconds, requests)] * clients
            results = pool.starmap(_work, jobs, chunksize=1)
    times = sorted(one for found, _ in results for one in found)
    return {
        "requests_per_second": round(len(times) / seconds),
        "p50_ms": round(times[len(times) // 2] * 1000, 1),
        "p99_ms": round(times[len(times) * 99 // 100] * 1000, 1),
        "clients": clients,
        "requests": len(times),
        "errors": sum(failed for _, failed in results),
    }


def _work(
    port: int, token: str, seconds: float, requests: Callable[[], Iterator[Request]]
) -> tuple[list[float], int]:
    """The times of all requests in seconds, and how many were not answered with 2xx."""
    random.seed(os.getpid())
    times, failed = [], 0
    end = time.perf_counter() + seconds
    with _client(port, token) as ask:
        for method, path, body in requests():
            started = time.perf_counter()
            if started >= end:
                break
            failed += not ask(method, path, body)
            times.append(time.perf_counter() - started)
    return times, failed


def _mixed() -> Iterator[Request]:
    writes = _writing()
    while True:
        if random.random() < READ_SHARE:
            yield "GET", random.choice(READS).format(known=random.randint(1, 3)), None
        else:
            yield next(writes)


def _writing() -> Iterator[Request]:
    while True:
        digest = uuid.uuid4().hex
        body = {
            "name": digest,
            "git_mlcube_url": "https://example.org/container_config.yaml",
            "mlcube_hash": digest,
            "image_hash": digest,
        }
        yield "POST", "/mlcubes/", body


@contextmanager
def _client(port: int, token: str) -> Iterator[Callable[..., bool]]:
    """Asks over one kept connection, and says whether the answer was 2xx."""
    channel = connect(port)

    def ask(method: str, path: str, body: dict[str, Any] | None = None) -> bool:
        nonlocal channel
        content = json.dumps(body).encode() if body else b""
        head = (
            f"{method} /api/v0{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n"
            f"Content-Type: application/json\r\nIdempotency-Key: {uuid.uuid4()}\r\n\r\n"
        )
        try:
            channel.sendall(head.encode() + content)
            found, _ = answer(channel)
            return found.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201"))
        except OSError:
            channel.close()
            channel = connect(port)
            return False

    try:
        yield ask
    finally:
        channel.close()


def _ask(port: int, token: str, method: str, path: str) -> None:
    with _client(port, token) as ask:
        assert ask(method, path), f"{method} {path} was not answered with 2xx"


def _pages(folder: Path, url: str, token: str) -> dict[str, Any]:
    """The time of a far page of a long list against its first, in turn."""
    times: dict[int, list[float]] = {1: [], LAST_PAGE: []}
    with gunicorn(folder, REGISTRY, "gthread", url) as port, _client(port, token) as ask:
        for number in range(PAGE_ROUNDS):
            for page, found in times.items():
                # Never the same address twice: answers are kept.
                path = f"/mlcubes/?limit={PAGE}&offset={(page - 1) * PAGE}&round={number}"
                started = time.perf_counter()
                assert ask("GET", path)
                found.append(time.perf_counter() - started)
    first, last = (statistics.median(found) for found in times.values())
    return {
        "ratio": round(last / first, 3),
        "goal": 2.0,
        "first_page_ms": round(first * 1000, 1),
        f"page_{LAST_PAGE}_ms": round(last * 1000, 1),
        "containers": CONTAINERS,
    }
