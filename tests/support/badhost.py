"""Hosts that misbehave, on real sockets: bytes as a test wants them, resets, silence."""

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

RESET = None
# Takes a request's path; gives the bytes to answer with, or RESET to cut the connection.
Answer = Callable[[str], bytes | None]


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """An HTTP answer with a Content-Length, unless a header names one or chunks."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if not any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def json_answer(value: Any, status: str = "200 OK") -> bytes:
    """A JSON document."""
    return answer(status, json.dumps(value).encode(), "Content-Type: application/json")


class BadHost:
    """Answers each request with what `respond` gives for its path, then closes.

    `requests` holds every request as it came.
    """

    def __init__(self, respond: Answer) -> None:
        self._respond = respond
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def paths(self) -> list[str]:
        """The path of every request, without its query."""
        return [request.split(" ")[1].partition("?")[0] for request in self.requests]

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        # Whoever hangs up first ends it.
        with connection, suppress(OSError):
            request = _read_request(connection)
            if not request:
                return
            self.requests.append(request)
            reply = self._respond(request.split(" ")[1])
            if reply is RESET:
                # Lingering for no time makes the close a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.sendall(reply)


def _read_request(connection: socket.socket) -> str:
    """A request, or nothing if whoever connected only looked whether somebody listens."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return ""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    missing = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
    while missing > 0:
        chunk = connection.recv(65536)
        received, missing = received + chunk, missing - len(chunk)
    return received.decode("utf-8", "replace")


@contextmanager
def bad_host(respond: Answer) -> Iterator[BadHost]:
    """A `BadHost` for a block."""
    host = BadHost(respond)
    try:
        yield host
    finally:
        host.close()


@contextmanager
def dripping(
    start: bytes, each: bytes, gap: float = 0.05, met: list[Any] | None = None
) -> Iterator[str]:
    """A host that sends `start` to whoever connects, then `each` after every gap, for ever.

    Gives its URL; `met` gets who connects. What it is asked it never reads. Without a gap it sends
    as fast as it can.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        # Whoever hangs up first ends it.
        with connection, suppress(OSError):
            connection.sendall(start)
            while not ended.wait(gap):
                connection.sendall(each)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, address = listener.accept()
                if met is not None:
                    met.append(address)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.close()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
# What a host may send bit by bit and never end: how it starts, and what follows.
DRIPS = {
    "the status line": (b"", b"H"),
    "promises of a status": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header": (OK, b"X"),
    "a body": (OK + b"Content-Length: 99999999\r\n\r\n", b"["),
    "a body of no length": (OK + b"\r\n", b"["),
    "a chunk's length": (CHUNKED, b"0"),
    "lines after the last chunk": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n"),
}


class BlackHole:
    """A host that never says a word: its URL, and who connected."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def connections(self) -> int:
        """How many connections its kernel completed since this was asked last."""
        self._listener.setblocking(False)
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                count += 1
        return count


@contextmanager
def black_hole(accepts: bool) -> Iterator[BlackHole]:
    """A host that never says a word.

    With `accepts` its kernel still completes connections; else it drops them, as a firewall does.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64 if accepts else 0)
        waiting = [socket.socket() for _ in range(0 if accepts else 4)]
        for client in waiting:
            # What fills the queue of those who wait to be accepted; nobody ever is.
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield BlackHole(listener)
        for client in waiting:
            client.close()


@contextmanager
def plain_medperf(registry_port: int, token: str) -> Iterator[BadHost]:
    """A registry as MedPerf's own server shows it to a member.

    It has no change log and ranks nothing, answers with pages for people where there is nothing,
    and its lists of associations carry no ID.
    """

    def respond(path: str) -> bytes:
        if path.startswith("/api/v0/changes/") or "/ranking/" in path:
            return answer("404 Not Found", b"<h1>Not Found</h1>", "Content-Type: text/html")
        connection = http.client.HTTPConnection("127.0.0.1", registry_port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        content = json.loads(reply.read())
        connection.close()
        if path.startswith("/api/v0/me/mlcubes/associations/"):
            for association in content["results"]:
                del association["id"]
        return json_answer(content, f"{reply.status} {reply.reason}")

    with bad_host(respond) as host:
        yield host
