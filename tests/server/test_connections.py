"""Whoever keeps connections, and says nothing or little on them, keeps nobody else waiting."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from waitress import wasyncore

from medperf_server.connections import PATIENCE_SECONDS, Channel, create_server
from tests.support.floods import (
    FLOODS,
    HEAD,
    HERE,
    PROMPT_SECONDS,
    check_answered,
    flooding,
    is_open,
)
from tests.support.registry import Registry

# More than waitress would take by itself.
REPORTED = 120
LIMIT, FLOOD = 40, 100
ELSEWHERE = "127.0.0.2"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that keeps few connections."""
    folder = tmp_path_factory.mktemp("small")
    yield from Registry.serving(folder, MEDPERF_CONNECTIONS=str(LIMIT))


@pytest.mark.parametrize("kind", FLOODS)
def test_more_connections_than_waitress_would_take_stop_nobody(
    sqlite_registry: Registry, kind: str
) -> None:
    token = sqlite_registry.token_for("ada@example.org")
    with flooding(sqlite_registry.port, FLOODS[kind], REPORTED):
        check_answered(sqlite_registry.url, token)


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_beyond_the_limit_costs_itself_and_nobody_else(small: Registry, kind: str) -> None:
    token = small.token_for("ada@example.org")
    with ExitStack() as stack:
        kept = stack.enter_context(socket.create_connection((HERE, small.port)))
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: registry\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        connections = stack.enter_context(flooding(small.port, FLOODS[kind], FLOOD, ELSEWHERE))
        for _ in range(10):
            check_answered(small.url, token)
        # The oldest of the flood went, and the member's own, which is older yet, stayed.
        assert is_open(kept)
        closed = [number for number, one in enumerate(connections) if not is_open(one)]
        assert len(closed) >= FLOOD - LIMIT and max(closed) < FLOOD - LIMIT // 4


def test_a_newcomer_is_let_in_from_the_address_of_the_flood(small: Registry) -> None:
    token = small.token_for("ada@example.org")
    with flooding(small.port, FLOODS["half a body"], FLOOD):
        for _ in range(10):
            check_answered(small.url, token)


def test_the_log_tells_of_a_flood(small: Registry) -> None:
    with flooding(small.port, b"", FLOOD):
        for _ in range(100):
            if "too many connections" in small.log.read_text():
                return
            time.sleep(0.05)
    raise AssertionError(small.log.read_text()[-2000:])


class Alone:
    """A server in this process, which does a step when it is told to."""

    def __init__(self) -> None:
        self.server = create_server(self._application, HERE, 0, LIMIT, 1 << 20)
        self.port = int(self.server.effective_port)

    def _application(self, environ: Any, start: Callable[..., Any]) -> list[bytes]:
        body = b"ok" if environ["PATH_INFO"] == "/" else b"x" * 10_000_000 + b"ok"
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def step(self) -> None:
        """Whatever there is to do on its connections, until all requests are answered."""
        for _ in range(20):
            wasyncore.poll2(0.01, self.server._map)
        while any(one.requests for one in self._channels()):
            wasyncore.poll2(0.01, self.server._map)

    def _channels(self) -> list[Channel]:
        return [one for one in self.server._map.values() if isinstance(one, Channel)]

    def connect(self, begin: bytes = b"") -> socket.socket:
        """A connection that it has accepted, and what it has begun with."""
        connection = socket.create_connection((HERE, self.port), PROMPT_SECONDS)
        connection.sendall(begin)
        self.step()
        return connection

    def pass_time(self, seconds: float) -> None:
        """As if so many seconds had passed."""
        self.server.maintenance(time.time() + seconds)
        self.step()

    def connections(self) -> int:
        """How many are open here."""
        return len(self._channels())


@pytest.fixture
def alone() -> Iterator[Alone]:
    """A server that stands still."""
    found = Alone()
    yield found
    found.server.task_dispatcher.shutdown()
    wasyncore.close_all(found.server._map)


@pytest.mark.parametrize("begin", FLOODS.values(), ids=FLOODS)
def test_nobody_waits_for_ever_however_they_drip(alone: Alone, begin: bytes) -> None:
    connection = alone.connect(begin)
    alone.pass_time(PATIENCE_SECONDS - 2)
    assert is_open(connection)
    connection.setblocking(True)
    connection.sendall(b"\r\n" if begin == b"\r\n\r\n" else b"x")
    alone.step()
    alone.pass_time(PATIENCE_SECONDS + 2)
    assert not is_open(connection)


def test_a_body_may_take_long_as_long_as_it_gets_on(alone: Alone) -> None:
    connection = alone.connect(HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 100_000)
    alone.pass_time(2 * PATIENCE_SECONDS)
    assert is_open(connection)


def test_after_an_answer_one_may_wait_anew(alone: Alone) -> None:
    connection = alone.connect()
    alone.server.maintenance(time.time())
    connection.sendall(b"GET / HTTP/1.1\r\nHost: registry\r\n\r\n")
    alone.step()
    assert connection.recv(4096).endswith(b"ok")
    alone.pass_time(PATIENCE_SECONDS - 2)
    assert is_open(connection)
    alone.pass_time(PATIENCE_SECONDS + 2)
    assert not is_open(connection)


def test_an_answer_that_nobody_takes_is_dropped(alone: Alone) -> None:
    connection = alone.connect(b"GET /large HTTP/1.1\r\nHost: registry\r\n\r\n")
    alone.pass_time(PATIENCE_SECONDS - 2)
    assert alone.connections() == 1
    # Who takes some of it now and then is served.
    taken = sum(len(connection.recv(1 << 20)) for _ in range(4))
    alone.step()
    assert taken and alone.connections() == 1
    alone.pass_time(PATIENCE_SECONDS + 2)
    assert alone.connections() == 0
