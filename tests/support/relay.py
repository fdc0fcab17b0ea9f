"""A relay before a server, which counts what passes and changes nothing."""

import socket
import threading
from contextlib import suppress


class Relay:
    """Passes connections on to a loopback port; serves as the HTTP proxy of a command too.

    `bytes` are those of both directions, HTTP headers included; `requests` are counted.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.bytes = self.requests = 0

    def __enter__(self) -> "Relay":
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.bytes += len(data)
                self.requests += data.count(b"HTTP/1.1\r\n") * data.startswith((b"GET ", b"PUT "))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
