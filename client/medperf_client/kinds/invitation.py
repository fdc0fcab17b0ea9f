"""Invitations to private benchmarks. The wire calls who is invited a member of the benchmark."""

from medperf_cache.outbox import Reference
from medperf_client.kinds.kind import Kind
from medperf_client.kinds.submission import Submission, in_path

NAME = "member"


def benchmark_invitation(uid: Reference, email: str) -> Submission:
    """Show a private benchmark to the member with this address."""
    return Submission(
        NAME, "POST", INVITATION.path.format(benchmark=in_path(uid)), {"email": email}
    )


INVITATION = Kind(
    name=NAME,
    word="invitation",
    form={"user": int, "email": str},
    path="/benchmarks/{benchmark}/members/",
    unique=("email",),
    is_logged=False,
    is_carried=False,
    only_keyed=lambda body: True,
)
