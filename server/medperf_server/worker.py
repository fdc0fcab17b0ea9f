"""gunicorn's worker with threads, none of which is held by who sends nothing.

gunicorn 27 gives a thread to whoever connects, for 5 seconds if nothing comes; it waits for a body
without end; what is missing of a body that nobody read it awaits for 5 seconds; and before it
closes, the loop that serves all stands still for 2. Here one waits for a request's first byte, and
for the end of a closed connection, without a thread; a request has to come in a certain time; and
who was answered before all of it was here is not waited for.

What this needs of gunicorn's inside is all here; tests/server/test_worker.py tells if another
version of it differs.
"""

import errno
import selectors
import socket
import time
from collections import deque
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

# For a request to come, from its first byte on; and from the end of its head on.
HEAD_SECONDS = 5.0
BODY_SECONDS = 60.0
# For what is on its way of a body that nobody read.
REST_SECONDS = 0.01
# For the client to take the last of the answer. What it has sent would else make it lose that.
LINGER_SECONDS = 2.0
DISCARDED_AT_ONCE = 1 << 16


class Timed(socket.socket):
    """A client's socket, which is read from until a certain time."""

    deadline = 0.0

    def allow(self, seconds: float) -> None:
        """Let so much time pass from now on."""
        self.deadline = time.monotonic() + seconds

    def recv(self, size: int, flags: int = 0) -> bytes:
        """See `socket`; raises `ConnectionResetError` when it is too late."""
        patience = self.gettimeout()
        if patience == 0:
            return super().recv(size, flags)
        left = max(self.deadline - time.monotonic(), 0.001)
        self.settimeout(left if patience is None else min(left, patience))
        try:
            return super().recv(size, flags)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "it takes too long to come") from None
        finally:
            self.settimeout(patience)


class Worker(ThreadWorker):  # type: ignore[misc]
    """See above; threads run `handle`, the loop all else."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lingering: deque[Any] = deque()

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread, once there is something to read."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.sock = Timed(fileno=conn.sock.detach())
        conn.sock.setblocking(False)
        conn.close = partial(self._close, conn)
        conn.set_timeout()
        self.pending_conns.append(conn)
        readable = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def handle(self, conn: Any) -> Any:
        """Read a request and answer it."""
        conn.sock.allow(HEAD_SECONDS)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is here."""
        conn.sock.allow(BODY_SECONDS)
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether another request may follow: that is, if this one is here to its end."""
        return keepalive and conn.parser.finish_body(deadline=time.monotonic() + REST_SECONDS)

    def murder_pending(self) -> None:
        """Close what has waited too long."""
        super().murder_pending()
        while self._lingering and self._lingering[0].timeout < time.monotonic():
            self._drop(self._lingering[0])

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """Close a connection; if `graceful`, once the client does, and soon in any case."""
        try:
            if graceful:
                conn.sock.shutdown(socket.SHUT_WR)
                conn.sock.setblocking(False)
        except OSError:
            graceful = False
        if not graceful:
            util.close(conn.sock)
            return
        self.nr_conns += 1
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self._lingering.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))

    def _discard(self, conn: Any, sock: Timed) -> None:
        """Pass over what still comes on a closed connection."""
        try:
            more = sock.recv(DISCARDED_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._drop(conn)

    def _drop(self, conn: Any) -> None:
        self._lingering.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        util.close(conn.sock)
