"""What a proxy saw leave a site, beside what the site's ledger says."""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support.consortium import Consortium, Member
from tests.support.proxy import Proxy, Request

# A request: its method, its path below the API's, its key, and the SHA-256 of its body.
Write = tuple[str, str, str | None, str]


def behind(consortium: Consortium, proxy: Proxy, name: str) -> Member:
    """A member at a new machine, who reaches the registry through a proxy."""
    member = consortium.member(name)
    member.environment["MEDPERF_SERVER_URL"] = proxy.url
    member.does("profile", "set", "allow_process", "true")
    return member


def is_write(request: Request) -> bool:
    """Whether a request leaves anything with the registry."""
    return request.method not in ("GET", "HEAD")


def seen(proxy: Proxy) -> list[Write]:
    """The writes that came to a proxy, in their order."""
    return [write_of(request) for request in proxy.requests if is_write(request)]


def write_of(request: Request) -> Write:
    """A request that came, as its line tells it."""
    path = request.path.removeprefix("/api/v0")
    key = request.headers.get("idempotency-key")
    return request.method, path, key, sha256(request.body).hexdigest()


def told(rows: list[dict[str, Any]]) -> list[Write]:
    """The writes that a ledger tells of, in their order."""
    return [
        (row["method"], row["path"], row["key"], row["sha256"]) for row in rows if row["method"]
    ]


def lines_of(member: Member) -> Path:
    """The file of the lines of a member's ledger."""
    return next(member.home.glob("registries/*/ledger/lines.jsonl"))


def unlined(proxy: Proxy, rows: list[dict[str, Any]]) -> list[Write]:
    """The writes that came to a proxy, whole or in part, without a line of their own."""
    left = Counter(told(rows))
    missing = []
    for request in filter(is_write, proxy.requests):
        write = write_of(request)
        if len(request.body) < int(request.headers.get("content-length", 0)):
            # Its sender was killed meanwhile: what came says no more than what it was about.
            write = next((one for one in left if one[:3] == write[:3] and left[one]), write)
        if not left[write]:
            missing.append(write)
        left[write] -= 1
    return missing
