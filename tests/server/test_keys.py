"""Public keys: whose they are, what is none, and that a revoked one stays so."""

from typing import Any

import pytest

from tests.support.api import Member, created, key_body
from tests.support.registry import Registry


@pytest.fixture
def owner(served: Registry) -> Member:
    """Who registers a key."""
    return Member(served, "signer")


def test_a_key_is_registered_once_and_seen_by_all(served: Registry, owner: Member) -> None:
    body = key_body()
    made = created(owner.post("/keys/", body))
    assert (made["owner"], made["revoked_at"]) == (owner.uid, None) and len(made["keyid"]) == 64
    other = Member(served, "reader")
    assert other.get(f"/keys/{made['id']}/").json() == made
    assert made in owner.get("/me/keys/").json()["results"]
    assert made not in other.get("/me/keys/").json()["results"]
    again = other.post("/keys/", {**body, "name": "mine now"})
    assert again.status_code == 400 and "registered already" in again.text
    # Written another way it is the same key.
    padded = other.post("/keys/", {**body, "public_key": f"\n{body['public_key']}\n"})
    assert padded.status_code == 400 and "registered already" in padded.text


@pytest.mark.parametrize("length", [21, 300])
def test_a_name_that_is_too_long_is_told_once(owner: Member, length: int) -> None:
    said = owner.post("/keys/", {**key_body(), "name": "x" * length})
    (words,) = said.json()["name"]
    assert said.status_code == 400 and words.startswith("Longer than 20 characters")


def test_a_revoked_key_stays_so(owner: Member) -> None:
    made = created(owner.post("/keys/", key_body()))
    path = f"/keys/{made['id']}/"
    assert owner.put(path, {"name": "old laptop"}).json()["revoked_at"] is None
    revoked = owner.put(path, {"is_revoked": True}).json()["revoked_at"]
    assert revoked
    assert owner.put(path, {"is_revoked": True}).json()["revoked_at"] == revoked
    back = owner.put(path, {"is_revoked": False})
    assert back.status_code == 400 and "stays so" in back.text
    assert owner.put(path, {"public_key": key_body()["public_key"]}).ok
    assert owner.get(path).json()["public_key"] == made["public_key"]


RSA = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf
9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----
"""


@pytest.mark.parametrize(
    "pem", ["", "ssh-ed25519 AAAA", RSA, "-----BEGIN PUBLIC KEY-----", None, 7]
)
def test_what_is_no_such_key_is_refused(owner: Member, pem: Any) -> None:
    answer = owner.post("/keys/", {"public_key": pem})
    assert answer.status_code == 400 and "public_key" in answer.json()
