"""gunicorn's workers: whoever sends half a request, or nothing, holds none of their threads."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import pytest
import requests
from scripts.ports import own_port

from medperf_server.worker import HEAD_SECONDS, Timed
from tests.support.floods import FLOODS, HEAD, HERE, PROMPT_SECONDS, check_answered, flooding
from tests.support.forks import ROOT
from tests.support.registry import Registry

THREADS = 8
# Several times as many as there are threads.
FLOOD = 40
SIGN_IN = (
    b"POST /sign-in HTTP/1.1\r\nHost: registry\r\nContent-Length: 1000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
)
NO_TOKEN = b"POST /api/v0/mlcubes/ HTTP/1.1\r\nHost: registry\r\nContent-Length: 100\r\n\r\n{"


@contextmanager
def gunicorn(registry: Registry, log: Path) -> Iterator[None]:
    """Serve a registry as `deploy/` has it, with one worker."""
    few = {"MEDPERF_WORKERS": "1", "MEDPERF_THREADS": str(THREADS)}
    bind = {"MEDPERF_BIND": f"{HERE}:{registry.port}", "TMPDIR": str(registry.folder)}
    config = str(ROOT / "deploy" / "gunicorn.conf.py")
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", config, "medperf_server.wsgi:app"],
            env={**registry.environment, **few, **bind},
            stdout=stream,
            stderr=stream,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry under gunicorn."""
    registry = Registry(tmp_path_factory.mktemp("gunicorn"))
    registry.initialise()
    registry.port = own_port()
    with gunicorn(registry, registry.log):
        for _ in range(600):
            try:
                requests.get(f"{registry.url}/healthz", timeout=10)
                break
            except requests.ConnectionError:
                time.sleep(0.05)
        yield registry


@pytest.fixture
def token(served: Registry) -> str:
    """A member's."""
    return served.token_for("ada@example.org")


def ended(connection: socket.socket) -> bytes:
    """What a connection brings until the other side closes it."""
    connection.settimeout(PROMPT_SECONDS)
    found = b""
    while more := connection.recv(4096):
        found += more
    return found


@pytest.mark.parametrize("begin", [b"", NO_TOKEN, FLOODS["half a body"], SIGN_IN])
def test_who_sends_half_a_request_keeps_nobody_waiting(
    served: Registry, token: str, begin: bytes
) -> None:
    with flooding(served.port, begin, FLOOD):
        for _ in range(5):
            check_answered(served.url, token)


@pytest.mark.parametrize("begin", [NO_TOKEN, FLOODS["half a body"]])
def test_who_is_answered_before_the_body_is_here_is_not_waited_for(
    served: Registry, begin: bytes
) -> None:
    with socket.create_connection((HERE, served.port)) as connection:
        connection.sendall(begin)
        started = time.monotonic()
        answer = ended(connection)
        assert answer.startswith(b"HTTP/1.1 401") and answer.count(b"HTTP/1.1 ") == 1
        assert time.monotonic() - started < HEAD_SECONDS


def test_a_refused_body_that_is_here_costs_no_connection(served: Registry) -> None:
    with socket.create_connection((HERE, served.port)) as connection:
        for _ in range(3):
            # All of it in one: of a body that comes later the worker may not wait for the rest.
            connection.sendall(HEAD + b"Content-Length: 5\r\n\r\nhello")
            answer = HTTPResponse(connection)
            answer.begin()
            assert answer.status == 401 and answer.read()


def test_who_keeps_a_closed_connection_holds_nothing(served: Registry, token: str) -> None:
    with flooding(served.port, b"GET /healthz HTTP/1.0\r\n\r\n", FLOOD):
        started = time.monotonic()
        check_answered(served.url, token)
        # One after the other they would keep the worker for two seconds each.
        assert time.monotonic() - started < FLOOD / 2


def test_who_does_not_get_on_with_a_head_is_left(served: Registry) -> None:
    with socket.create_connection((HERE, served.port)) as connection:
        connection.sendall(HEAD)
        connection.settimeout(HEAD_SECONDS + PROMPT_SECONDS)
        assert connection.recv(1) == b""


def test_of_a_member_a_body_is_read_until_a_certain_time() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            theirs.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    with Timed(fileno=ours.detach()) as timed, theirs:
        timed.allow(0.5)
        started = time.monotonic()
        with pytest.raises(ConnectionResetError):
            while True:
                timed.recv(1)
        assert 0.4 < time.monotonic() - started < 30
        stop.set()
        dripping.join()


def test_only_a_few_may_be_about_to_sign_in(served: Registry) -> None:
    with flooding(served.port, SIGN_IN, FLOOD):
        answer = requests.post(f"{served.url}/sign-in", {"token": "x"}, timeout=PROMPT_SECONDS)
        assert answer.status_code == 503 and "Retry-After" in answer.headers
