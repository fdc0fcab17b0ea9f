"""Floods of connections: many that say nothing, or half of something, or a byte now and then."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import requests

PROMPT_SECONDS = 5
HERE = "127.0.0.1"
HEAD = b"POST /api/v0/mlcubes/ HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer nobody\r\n"
# What the connections of a flood begin with.
FLOODS = {
    "idle": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 100,
    "half a body in chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\nxx",
    "nothing but empty lines": b"\r\n\r\n",
}


class Flood:
    """Connections to a port, all of which begin alike and then drip, a byte at a time."""

    def __init__(self, port: int, begin: bytes, count: int, source: str) -> None:
        self._port, self._begin, self._count, self._source = port, begin, count, source
        self.connections: list[socket.socket] = []

    def rise(self) -> None:
        """Open all of them."""
        for _ in range(self._count):
            address, source = (HERE, self._port), (self._source, 0)
            # Who is not accepted gets in the queue at least.
            connection = socket.create_connection(address, PROMPT_SECONDS, source)
            self.connections.append(connection)
            connection.sendall(self._begin)

    def drip(self, stop: Event) -> None:
        """Send a byte on each, again and again."""
        byte = b"\r\n" if self._begin == b"\r\n\r\n" else b"x"
        while self._begin and not stop.wait(0.1):
            for connection in self.connections:
                try:
                    connection.sendall(byte)
                except OSError:
                    continue


@contextmanager
def flooding(
    port: int, begin: bytes, count: int, source: str = HERE
) -> Iterator[list[socket.socket]]:
    """A flood of connections that begin alike, which goes on while the block runs."""
    flood, stop = Flood(port, begin, count, source), Event()
    flood.rise()
    dripping = Thread(target=flood.drip, args=(stop,))
    dripping.start()
    try:
        yield flood.connections
    finally:
        stop.set()
        dripping.join()
        for connection in flood.connections:
            connection.close()


def is_open(connection: socket.socket) -> bool:
    """Whether the other side keeps a connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def check_answered(url: str, token: str) -> None:
    """A newcomer is answered at once, with a token and without."""
    for path, headers in (("/healthz", {}), ("/api/v0/me/", {"Authorization": f"Bearer {token}"})):
        answer = requests.get(url + path, headers=headers, timeout=PROMPT_SECONDS)
        assert answer.status_code == 200
