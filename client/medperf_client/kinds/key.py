"""Public keys of members, by which results are verified."""

from medperf_cache.outbox import Reference
from medperf_client.kinds.kind import Kind
from medperf_client.kinds.submission import Submission, in_path

NAME = "signing_key"


def key_submission(name: str, public_key: str) -> Submission:
    """A new key of the member's; `public_key` is PEM."""
    return Submission(NAME, "POST", KEY.path, {"name": name, "public_key": public_key})


def key_revocation(uid: Reference) -> Submission:
    """The end of a key: what it signed before stays signed, and nothing new is."""
    return Submission(NAME, "PUT", f"{KEY.path}{in_path(uid)}/", {"is_revoked": True})


KEY = Kind(
    name=NAME,
    word="signing key",
    form={"id": int, "owner": int, "keyid": str, "public_key": str},
    path="/keys/",
    step="keys",
    unique=("public_key",),
    is_public=True,
    only_keyed=lambda body: True,
)
