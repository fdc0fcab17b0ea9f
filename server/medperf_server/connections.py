"""Who keeps the connections of `medperf-server run`: a flood of them costs itself, and nobody else.

At its limit waitress stops to accept, and whoever says nothing, or a byte now and then, keeps their
place. Here a newcomer is always let in: of the address that has the most connections without a
request under way, the one that has waited longest goes. And nobody waits for ever.

What this needs of waitress' inside is all here; tests/server/test_connections.py tells if another
version of it differs.
"""

import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import waitress
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer
from waitress.utilities import Error

from medperf_server.errors import NO_ROOM
from medperf_server.limits import network_of
from medperf_server.logs import log

THREADS = 8
# Until the next request has to be here, or some of the answer be taken.
PATIENCE_SECONDS = 30
# A body may take longer, as long as it gets on.
LEAST_BYTES_A_SECOND = 1024
# Of a body and of a head in memory; more of a body is on the disk.
BUFFERED_BYTES = 1 << 16
# More connections than the limit, while all have requests under way.
SPARE = 100
# File descriptors for all but connections.
RESERVED = 200


class NoRoom(Error):  # type: ignore[misc]
    """The answer to a request whose body found no room."""

    code, reason = 507, "Insufficient Storage"

    def to_response(self, ident: Any = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status, headers and body."""
        body = json.dumps({"detail": self.body}).encode()
        return f"{self.code} {self.reason}", [("Content-Type", "application/json")], body


class Body(OverflowableBuffer):  # type: ignore[misc]
    """A request's body, of which nothing is kept once the disk takes no more of it."""

    buf: Any = None
    lost: OSError | None = None

    def append(self, data: bytes) -> None:
        """Keep some more."""
        if self.lost is not None:
            return
        try:
            super().append(data)
        except OSError as error:
            self.lost, kept = error, self.buf
            self.buf, self.strbuf, self.overflowed = None, b"", False
            # It tries to write what it has of it once more.
            with suppress(OSError):
                kept.close()


class Request(HTTPRequestParser):  # type: ignore[misc]
    """A request that is read to its end also when there is no room for it.

    Who is still sending would lose the answer with the connection.
    """

    error: Any = None

    def parse_header(self, header_plus: bytes) -> None:
        """See `HTTPRequestParser`."""
        super().parse_header(header_plus)
        if self.body_rcv is not None:
            self.body_rcv.buf = Body(self.adj.inbuf_overflow)

    def received(self, data: bytes) -> int:
        """See `HTTPRequestParser`."""
        consumed: int = super().received(data)
        if self.completed and self.error is None and self.body_rcv is not None:
            lost = self.body_rcv.buf.lost
            if lost is not None:
                log("no room for a request", error=str(lost))
                self.error = NoRoom(NO_ROOM)
        return consumed


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows how long it has been waiting for the next request."""

    parser_class = Request

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._since = time.time()
        super().__init__(*arguments, **options)

    def service(self) -> None:
        """Execute a request; in a thread of its own."""
        # The last of the requests is gone before this is over.
        self._since = float("inf")
        super().service()
        self._since = time.time()

    @property
    def waiting_since(self) -> float:
        """When it had its last answer, or opened; or when some of the answer was last taken."""
        return float(self.last_activity) if self.total_outbufs_len else self._since

    @property
    def body_bytes(self) -> int:
        """How many bytes of the next request's body are here."""
        return self.request.body_bytes_received if self.request else 0


class Connections:
    """The connections of a server, in waitress' own map of them."""

    def __init__(self, known: dict[int, Any], limit: int) -> None:
        self._known, self._limit, self._evicted = known, limit, 0

    def open(self, *arguments: Any, **options: Any) -> Channel:
        """A connection that was just accepted; another goes if there are too many."""
        if len(self._known) >= self._limit:
            self._make_room()
        return Channel(*arguments, **options)

    def close_expired(self, now: float) -> None:
        """Close those that have waited too long; waitress asks for it every second."""
        for channel in self._waiting():
            patience = PATIENCE_SECONDS + channel.body_bytes / LEAST_BYTES_A_SECOND
            if now > channel.waiting_since + patience:
                channel.handle_close()
        if self._evicted:
            log("too many connections: some were closed", count=self._evicted)
            self._evicted = 0

    def _make_room(self) -> None:
        waiting = self._waiting()
        if not waiting:
            return
        addresses = {channel: network_of(channel.addr[0]) for channel in waiting}
        ((crowd, _),) = Counter(addresses.values()).most_common(1)
        theirs = (channel for channel in waiting if addresses[channel] == crowd)
        min(theirs, key=lambda channel: channel.waiting_since).handle_close()
        self._evicted += 1

    def _waiting(self) -> list[Channel]:
        """Those without a request that is whole and not answered yet."""
        channels = (one for one in self._known.values() if isinstance(one, Channel))
        return [channel for channel in channels if not channel.requests]


def create_server(
    application: Callable[..., Any], host: str, port: int, limit: int, max_body_bytes: int
) -> Any:
    """A server of waitress that listens; with at most `limit` connections, or as many as this
    process may have. Raises `OSError`."""
    known: dict[int, Any] = {}
    limit = _possible(limit)
    server = waitress.create_server(
        application,
        map=known,
        host=host,
        port=port,
        threads=THREADS,
        max_request_header_size=BUFFERED_BYTES,
        max_request_body_size=max_body_bytes,
        inbuf_overflow=BUFFERED_BYTES,
        connection_limit=limit + SPARE,
        cleanup_interval=1,
        # `select` takes no file descriptor above 1023.
        asyncore_use_poll=True,
        # The application itself knows which proxies to believe.
        clear_untrusted_proxy_headers=False,
    )
    connections = Connections(known, limit)
    for listener in known.values():
        if isinstance(listener, BaseWSGIServer):
            listener.channel_class = connections.open
            listener.maintenance = connections.close_expired
    return server


def _possible(limit: int) -> int:
    """As many connections as there are file descriptors for; each may need two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * limit + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limit
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, (soft - RESERVED) // 2)
