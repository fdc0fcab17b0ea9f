"""A worker of the registry dies in the middle of writes: what was answered is there, once."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from medperf_client.registry.client import Registry as Client
from tests.support.registry import Registry
from tests.support.services import BROKEN

WRITES, CLIENTS, KILLS = 200, 4, 8
MOST_WRITES = 10 * WRITES


@pytest.fixture(params=["sqlite", "postgres"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Registry, int]]:
    """A registry under gunicorn with two workers, and the process ID of their parent."""
    new = request.param == "postgres" and request.getfixturevalue("postgres").new_database()
    registry = Registry(tmp_path, new or None)
    registry.initialise()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        registry.port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "medperf_server.wsgi:app", "--workers", "2"]
        command += ["--bind", f"fd://{listener.fileno()}"]
        with (tmp_path / "gunicorn.log").open("w") as log:
            process = subprocess.Popen(
                command,
                env=registry.environment,
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
            )
    yield registry, process.pid
    process.terminate()
    process.wait(timeout=30)


def body(number: int) -> dict[str, str]:
    """One container."""
    return {
        "name": f"container-{number}",
        "git_mlcube_url": "https://example.org/container_config.yaml",
        "mlcube_hash": f"config{number}",
        "image_hash": f"image{number}",
    }


def test_every_answered_write_is_there_and_none_twice(served: tuple[Registry, int]) -> None:
    registry, parent = served
    token = registry.token_for("ada@example.org")
    session = requests.Session()
    session.trust_env = False
    url = f"{registry.url}/api/v0/mlcubes/"
    answered: dict[int, int] = {}
    unanswered: Counter[int] = Counter()
    answers = threading.Semaphore(0)

    def write(number: int) -> None:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"key-{number}"}
        while number not in answered:
            try:
                answer = session.post(url, json=body(number), headers=headers, timeout=60)
            except BROKEN:
                unanswered[number] += 1
                continue
            assert answer.status_code == 201, answer.text
            answered[number] = answer.json()["id"]
            answers.release()

    def kill() -> None:
        """Every so many answers, while others are under way, one worker more."""
        for _ in range(KILLS):
            for _ in range(WRITES // (KILLS + 1)):
                answers.acquire()
            workers = psutil.Process(parent).children()
            with suppress(ProcessLookupError, IndexError):
                os.kill(random.choice(workers).pid, signal.SIGKILL)

    # Until one was under way in the worker that died: it may be the other's.
    while not unanswered and len(answered) < MOST_WRITES:
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(write, range(len(answered), len(answered) + WRITES)))
        killer.join(timeout=60)
    assert unanswered, "no write was under way when a worker died"
    there = {one["name"]: one["id"] for one in Client(registry.url, token).pages("/me/mlcubes/")}
    assert there == {f"container-{number}": uid for number, uid in answered.items()}
