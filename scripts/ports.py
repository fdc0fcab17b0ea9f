"""Loopback ports that stay one process's own, also while nobody listens on them."""

import socket

_held: list[socket.socket] = []


def own_port() -> int:
    """A port that refuses connections until somebody listens, and that nobody else is given.

    It is this process's as long as that lives: a socket that is bound and does not listen keeps
    systems from giving its number to outgoing connections and to servers that ask for any, and
    lets a server have it that says so (SO_REUSEADDR, as they all do).
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    return int(held.getsockname()[1])
