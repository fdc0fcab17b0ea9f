"""Files on their way into a registry and out of it, by the tus protocol."""

import random
from base64 import b64encode
from hashlib import sha256
from typing import Any

import requests

from tests.support.api import Member, created

TUS = {"Tus-Resumable": "1.0.0"}

PIECE_TYPE = {"Content-Type": "application/offset+octet-stream"}

MIB = 1 << 20


def content(size: int = 3 * MIB) -> bytes:
    """Bytes that no other test sends."""
    return random.randbytes(size)


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return sha256(data).hexdigest()


def metadata(expected: str) -> dict[str, str]:
    """`Upload-Metadata` that announces a SHA-256."""
    return {"Upload-Metadata": f"sha256 {b64encode(expected.encode()).decode()}"}


def begin(
    member: Member, data: bytes, expected: str | None = None, **headers: str
) -> requests.Response:
    """Announce a file."""
    announced = {**TUS, "Upload-Length": str(len(data)), **metadata(expected or digest(data))}
    return member.ask("POST", "/assets/", headers={**announced, **headers})


def begun(member: Member, data: bytes, expected: str | None = None) -> str:
    """The path of an upload that is begun."""
    return f"/assets/uploads/{created(begin(member, data, expected))['upload']}/"


def patch(member: Member, path: str, offset: int, data: Any) -> requests.Response:
    """Append to an upload."""
    headers = {**TUS, **PIECE_TYPE, "Upload-Offset": str(offset)}
    return member.ask("PATCH", path, data=data, headers=headers)


def offset(member: Member, path: str) -> int:
    """How much of an upload the registry has."""
    answer = member.ask("HEAD", path, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def send(member: Member, data: bytes) -> str:
    """Store a file; its path."""
    answer = patch(member, begun(member, data), 0, data)
    assert answer.status_code == 204, answer.text
    return f"/assets/{digest(data)}"


def held(member: Member) -> dict[str, int]:
    """The sizes of what a member holds, by SHA-256."""
    found = member.get("/me/assets/?limit=1000").json()["results"]
    return {asset["sha256"]: asset["size_bytes"] for asset in found}
