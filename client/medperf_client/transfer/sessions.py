"""HTTP sessions that another thread can cut: while a host drips, in a TLS handshake, by proxies."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from medperf_client.deadlines import deadline

CHUNK_BYTES = 1 << 16


class Lines:
    """Copies of the sockets that are open, which work whatever became of the originals.

    A socket that is being wrapped in TLS belongs to nobody for as long as that takes.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._is_cut, self._lock = False, Lock()

    def hold(self, line: socket.socket) -> None:
        """Be able to cut it. One that comes after the cut is cut at once."""
        with self._lock:
            self._held.append(socket.fromfd(line.fileno(), line.family, line.type))
            if self._is_cut:
                self._shut()

    def cut(self) -> None:
        """End all connections: whoever waits for them reads their end."""
        with self._lock:
            self._is_cut = True
            self._shut()

    def release(self) -> None:
        """Hold none any more: they end with their originals."""
        with self._lock:
            for line in self._held:
                line.close()
            self._held, self._is_cut = [], False

    def _shut(self) -> None:
        for line in self._held:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Opens connections that `lines` hold, with and without proxies."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _hold_all(self.poolmanager, self._lines)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if not known:
            _hold_all(manager, self._lines)
        return manager


def _hold_all(manager: Any, lines: Lines) -> None:
    manager.pool_classes_by_scheme = {
        scheme: _holding(pool, lines) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _holding(pool: Any, lines: Lines) -> type:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            line: socket.socket = super()._new_conn()
            lines.hold(line)
            return line

        def request(self, *arguments: Any, **options: Any) -> None:
            # One that was kept open since an earlier request.
            if self.sock is not None:
                lines.hold(self.sock)
            super().request(*arguments, **options)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


class Session(requests.Session):
    """A session whose exchanges are bounded in time and size. For one thread at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = Lines()
        self.mount("http://", _Adapter(self._lines))
        self.mount("https://", _Adapter(self._lines))
        self.hooks["response"].append(_leave_redirect)

    def cut(self) -> None:
        """End what goes on, from another thread."""
        self._lines.cut()

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._lines.release()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut what the block does after `seconds`; raises `requests.Timeout` then."""
        try:
            with deadline(seconds, self.cut) as expired:
                yield
        except Exception as error:
            if expired.is_set():
                raise requests.Timeout("no answer in time") from error
            raise
        # What ends with its connection looks whole.
        if expired.is_set():
            raise requests.Timeout("no answer in time")

    def whole(
        self, method: str, url: str, seconds: float, most_bytes: int, **options: Any
    ) -> requests.Response:
        """One exchange that ends within `seconds`, its body decoded and in memory.

        Raises what `network.trouble` names, `ValueError` for a body of more than `most_bytes`.
        """
        # Imported late: whoever only downloads keeps no answer in memory.
        from io import BytesIO

        try:
            with (
                self.within(seconds),
                self.request(method, url, stream=True, **options) as response,
            ):
                body = b"" if response.is_redirect else _bounded(response, most_bytes)
        finally:
            self._lines.release()
        response.raw = BytesIO(body)
        return response


def _leave_redirect(response: requests.Response, **_: Any) -> None:
    """Requests would read the whole body of a redirect, however large, and use none of it."""
    if response.is_redirect:
        response.raw.close()


def _bounded(response: requests.Response, most_bytes: int) -> bytes:
    check_coding(response)
    body = bytearray()
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > most_bytes:
            raise ValueError(f"it sent more than {most_bytes} bytes")
    return bytes(body)


def check_coding(response: requests.Response) -> None:
    """Raise `ValueError` for a body that is coded more than once: it may become anything."""
    coding = response.headers.get("Content-Encoding", "")
    if "," in coding:
        raise ValueError(f"it is coded more than once ({coding[:80]})")
