"""How often one may ask, by token and by address, and how often one may fail to sign in.

Whoever has a good token is counted by that token, everyone else by their address: a flood from one
machine of a hospital never locks out its members, who share its address. The good tokens of an
address are counted together too, up to what several busy members need.

This is the `limits` library, on which Flask-Limiter builds. Flask-Limiter adds 150 microseconds to
a request, half of what an unchanged read takes in all; the two counters here add 12.
"""

import math
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from threading import Lock
from typing import Protocol, cast

from flask import Flask, current_app, g, request
from limits import RateLimitItem, parse
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from werkzeug.exceptions import TooManyRequests

from medperf_server.logs import log

# An address has room for as many members who each use up their own limit.
MEMBERS_OF_AN_ADDRESS = 10
LONGEST_WAIT_SECONDS = 300
# A storage that failed is left alone for a while: a lost Redis must not stop the registry.
REST_SECONDS = 10
TIMEOUT_SECONDS = 1
SWEEP_SECONDS = 60
# What watches the server must hear from it whoever floods it.
UNLIMITED = ("/healthz", "/readyz", "/metrics")


class Storage(Protocol):
    """What is needed of a storage of the `limits` library."""

    def incr(self, key: str, expiry: int) -> int:
        """One more, in a window that ends `expiry` seconds after its first; how many it makes."""

    def get_expiry(self, key: str) -> float:
        """When the key's window ends, in seconds since the epoch."""


class WorkerMemory:
    """Counts of this worker process. The library's own start a thread for every few requests.

    By a clock that nobody sets: one that is put back must not make a window longer.
    """

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, float]] = {}
        self._lock = Lock()
        self._sweep_at = 0.0

    def incr(self, key: str, expiry: int) -> int:
        """See `Storage`."""
        now = time.monotonic()
        with self._lock:
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_SECONDS
                self._windows = {k: w for k, w in self._windows.items() if w[1] > now}
            count, end = self._windows.get(key, (0, 0.0))
            if end <= now:
                count, end = 0, now + expiry
            self._windows[key] = count + 1, end
            return count + 1

    def get_expiry(self, key: str) -> float:
        """See `Storage`."""
        return time.time() + self._windows.get(key, (0, 0.0))[1] - time.monotonic()


class Counters:
    """Counts in fixed windows: by each worker process on its own, or by all in one Redis."""

    def __init__(self, rate: str, failures: str, storage: str) -> None:
        """With limits such as `600/minute`; raises ValueError for what is none, or no storage."""
        self.by_token = _limit("MEDPERF_RATE_LIMIT", rate)
        self.of_failures = _limit("MEDPERF_FAILED_SIGN_INS", failures)
        # The same windows, but more.
        room = self.by_token.amount * MEMBERS_OF_AN_ADDRESS
        self.by_address = type(self.by_token)(room, self.by_token.multiples)
        self._storage = _storage(storage)
        self._resting_until = 0.0

    def count(self, limit: RateLimitItem, what: str, key: str) -> None:
        """Count a request; raises `TooManyRequests` (429) when it is one too many of its window."""
        name = limit.key_for(what, key)
        if self._asked(self._storage.incr, name, limit.get_expiry()) > limit.amount:
            seconds = self._asked(self._storage.get_expiry, name) - time.time()
            wait = max(1, math.ceil(seconds))
            raise TooManyRequests(f"At most {limit} for each {what}", retry_after=wait)

    def count_failure(self, address: str) -> None:
        """Count a failed sign-in; raises `TooManyRequests` (429) after some, for ever longer."""
        name = self.of_failures.key_for("failures", address)
        failures = self._asked(self._storage.incr, name, self.of_failures.get_expiry())
        too_many = int(failures) - self.of_failures.amount
        if too_many > 0:
            wait = min(2 ** min(too_many - 1, 30), LONGEST_WAIT_SECONDS)
            raise TooManyRequests(
                "Too many failed attempts to sign in from this address", retry_after=wait
            )

    def _asked(self, ask: Callable[..., float], *arguments: str | int) -> float:
        """What the storage answers; 0 while it is away."""
        if time.monotonic() < self._resting_until:
            return 0
        try:
            return ask(*arguments)
        except StorageError as error:
            self._resting_until = time.monotonic() + REST_SECONDS
            log("rate limits cannot be counted", error=str(error))
            return 0


def _limit(setting: str, text: str) -> RateLimitItem:
    try:
        limit = parse(text)
    except ValueError as error:
        raise ValueError(f"{setting}={text!r} is not like 600/minute") from error
    if limit.amount < 1:
        raise ValueError(f"{setting}={text!r} lets nobody in")
    return limit


def _storage(url: str) -> Storage:
    if url == "memory://":
        return WorkerMemory()
    timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    try:
        found = storage_from_string(url, wrap_exceptions=True, **timeouts)
    except ConfigurationError as error:
        raise ValueError(f"MEDPERF_RATE_LIMIT_STORAGE: {error}") from error
    return cast(Storage, found)


def address() -> str:
    """Whom the request came from, as one counts."""
    return network_of(request.remote_addr or "")


def network_of(remote: str) -> str:
    """What one counts an address as: an IPv6 host has a whole /64 for itself."""
    if ":" not in remote:
        return remote
    try:
        ip = IPv6Address(remote.partition("%")[0])
    except ValueError:
        return remote
    return str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))


def count_request() -> None:
    """Count the present request by its caller; raises `TooManyRequests` (429) if it is too many."""
    counters: Counters = current_app.extensions["limits"]
    if "caller" in g:
        counters.count(counters.by_token, "token", str(g.caller.token_id))
        counters.count(counters.by_address, "address", address())
    else:
        counters.count(counters.by_token, "address without a token", address())


def count_failure() -> None:
    """Count a credential that was wrong, whichever kind it is; raises `TooManyRequests` (429).

    A good one always passes, however many were wrong: nobody guesses 256 random bits, and the
    address may be that of a hospital. What a flood gets is 429, and a longer wait each time.
    """
    counters: Counters = current_app.extensions["limits"]
    counters.count_failure(address())


def init_app(app: Flask) -> None:
    """Count every request of which nobody knows who sent it; `auth` counts the others."""
    settings = ("RATE_LIMIT", "FAILED_SIGN_INS", "RATE_LIMIT_STORAGE")
    app.extensions["limits"] = Counters(*(app.config[setting] for setting in settings))

    @app.before_request
    def count() -> None:
        if "caller" not in g and request.path not in UNLIMITED:
            count_request()
