"""A proxy before a real HTTP server that goes wrong as a test says, request by request."""

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import urlsplit

from scripts.ports import own_port

from tests.support.badhost import answer

BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Request:
    """A request as it came: `number` counts from 0, the names of headers are lower-case.

    `body` is what came of it, which is not all where its sender was killed.
    """

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request; nothing, as it stands.

    `reply` is answered in place of the server, which never hears of the request. `lost` ends the
    connection once the server has answered. `cut_after` ends it after so many bytes of the body
    (`reset`: as a crash does), `truncate` shortens the body so that it looks whole. `delay` is in
    seconds, before the answer; `gap` after every 64 KiB of the body; `clock_days` shifts the
    answer's `Date`. Headers named in `hidden`, in lower case, pass neither way.
    """

    reply: bytes | None = None
    lost: bool = False
    cut_after: int | None = None
    reset: bool = False
    truncate: int | None = None
    delay: float = 0.0
    gap: float = 0.0
    clock_days: float = 0.0
    hidden: frozenset[str] = frozenset()


FINE = Fault()
LOST = Fault(lost=True)
RESET = Fault(cut_after=0, reset=True)
PORTAL = Fault(reply=answer("200 OK", b"<html>Accept our terms</html>", "Content-Type: text/html"))
NO_RANGES = Fault(hidden=frozenset({"range", "if-range", "accept-ranges"}))
Faults = Callable[[Request], Fault]


def status(line: str, *headers: str) -> Fault:
    """An error in place of the server's answer, such as `503 Service Unavailable`."""
    return Fault(reply=answer(line, b"<h1>no</h1>", "Content-Type: text/html", *headers))


def in_turn(*faults: Fault) -> Faults:
    """The first requests go wrong in this order, all later ones not at all."""
    return lambda request: faults[request.number] if request.number < len(faults) else FINE


NO_FAULTS: Faults = in_turn()


class Proxy:
    """Passes each request on to the server at `target`, and its answer back, with faults.

    `faults` may be exchanged at any time. `requests` are those that came, `moved` counts the bytes
    of bodies that went back. Every connection carries one request.
    """

    def __init__(self, target: str, faults: Faults = NO_FAULTS) -> None:
        self._target = urlsplit(target)
        self.faults = faults
        self.requests: list[Request] = []
        self.moved, self._counting = 0, threading.Lock()
        self._port = own_port()
        self.start()

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; the port stays the same over stops and starts."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        # A plain close would leave the thread that accepts with the listening socket.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._exchange, args=(client,), daemon=True).start()

    def _exchange(self, client: socket.socket) -> None:
        # Whoever hangs up first ends it.
        with client, suppress(OSError):
            head, rest = _head(client)
            if not head:
                return
            method, path, _ = head[0].split(" ", 2)
            headers = _headers(head)
            body = rest + _exactly(client, int(headers.get("content-length", 0)) - len(rest))
            with self._counting:
                request = Request(len(self.requests), method, path, headers, body)
                self.requests.append(request)
            fault = self.faults(request)
            time.sleep(fault.delay)
            if fault.reply is not None:
                client.sendall(fault.reply)
                return
            address = (self._target.hostname, self._target.port)
            with socket.create_connection(address, timeout=60) as server:
                server.sendall(_joined(head, fault.hidden) + body)
                self._pass_back(server, client, fault)

    def _pass_back(self, server: socket.socket, client: socket.socket, fault: Fault) -> None:
        head, chunk = _head(server)
        if not head:
            return
        # What comes without a length ends with the connection.
        left = int(_headers(head).get("content-length", 1 << 62))
        if fault.lost:
            _exactly(server, left - len(chunk))
            return
        if fault.truncate is not None:
            left = min(left, fault.truncate)
            head = [line for line in head if not line.lower().startswith("content-length:")]
            head.append(f"Content-Length: {left}")
        cut = fault.cut_after is not None and fault.cut_after < left
        left = fault.cut_after if cut and fault.cut_after is not None else left
        if not (cut and fault.reset and left == 0):
            client.sendall(_joined(_dated(head, fault.clock_days), fault.hidden))
        while left > 0 and (chunk := chunk or server.recv(BLOCK_BYTES)):
            # Counted first: who has all of it may ask at once.
            with self._counting:
                self.moved += min(left, len(chunk))
            client.sendall(chunk[:left])
            left, chunk = left - len(chunk), b""
            time.sleep(fault.gap)
        if cut and fault.reset:
            # A reset takes back what is still on its way: how much that is would be chance.
            while struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]:
                time.sleep(0.001)
            # Lingering for no time makes the close a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _head(connection: socket.socket) -> tuple[list[str], bytes]:
    """The first line and the headers, and what came after them; no lines if nothing came."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(BLOCK_BYTES)
        if not chunk:
            return [], b""
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest


def _headers(head: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in head[1:])
    return {name.lower(): value.strip() for name, _, value in pairs}


def _exactly(connection: socket.socket, size: int) -> bytes:
    """That many bytes, or those that come before the end."""
    received = bytearray()
    while len(received) < size and (chunk := connection.recv(BLOCK_BYTES)):
        received += chunk
    return bytes(received)


def _joined(head: list[str], hidden: frozenset[str]) -> bytes:
    """Lines as they go over the wire, each connection for one request."""
    unwanted = {"connection", *hidden}
    kept = [line for line in head[1:] if line.partition(":")[0].lower() not in unwanted]
    return "\r\n".join([head[0], *kept, "Connection: close", "", ""]).encode("latin-1")


def _dated(head: list[str], days: float) -> list[str]:
    def shifted(line: str) -> str:
        name, _, value = line.partition(":")
        if not days or name.lower() != "date":
            return line
        moment: datetime = parsedate_to_datetime(value.strip()) + timedelta(days=days)
        return f"Date: {format_datetime(moment, usegmt=True)}"

    return [shifted(line) for line in head]


@contextmanager
def proxy(target: str, faults: Faults = NO_FAULTS) -> Iterator[Proxy]:
    """A `Proxy` for a block."""
    made = Proxy(target, faults)
    try:
        yield made
    finally:
        made.stop()


NO_CHANGES = Fault(reply=answer("404 Not Found", b"<h1>Not Found</h1>", "Content-Type: text/html"))


def writes(*faults: Fault) -> Faults:
    """The next writes go wrong in this order; reads and later writes do not."""
    waiting = list(faults)
    return lambda request: waiting.pop(0) if request.method != "GET" and waiting else FINE


def plain(*faults: Fault) -> Faults:
    """A server as MedPerf's own: no change log, no keys; and its next writes go wrong."""
    troubles = writes(*faults)

    def respond(request: Request) -> Fault:
        if request.path.startswith("/api/v0/changes/"):
            return NO_CHANGES
        fault = troubles(request)
        return Fault(reply=fault.reply, lost=fault.lost, hidden=frozenset({"idempotency-key"}))

    return respond
